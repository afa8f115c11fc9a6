"""Numbers, figure and page of studies of conditions, such as corruptions."""
