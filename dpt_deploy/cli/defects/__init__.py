"""Commands about defects of engines."""
