"""Put a model's weights into an engine, without building it again. Experimental: not yet run on a GPU.

Everything about refitting is in this folder, except the digests that a build records for it
(:mod:`dpt_deploy.graph.analysis.fingerprint`).
"""
