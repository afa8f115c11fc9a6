"""Train the small models that ship."""
