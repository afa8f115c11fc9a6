"""The command line: a thin, lazy shell over workflow."""
