"""Archives spread over machines by Ray Data. Needs the extra ``ray``."""
