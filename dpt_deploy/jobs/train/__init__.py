"""Train the small models that ship with the package.

Reading a training file needs no extra. Every other module needs the extra ``export``.
"""
