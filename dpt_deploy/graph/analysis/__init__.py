"""Facts about an opened graph: shapes, operations, activations, fingerprint."""
