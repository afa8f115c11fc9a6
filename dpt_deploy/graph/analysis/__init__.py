"""Facts about a graph: shapes, operations, activations, fingerprint."""
