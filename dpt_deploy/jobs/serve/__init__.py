"""Model repositories for the Triton inference server: written from artefacts, and checked without a server."""
