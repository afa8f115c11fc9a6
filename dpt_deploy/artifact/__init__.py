"""The artefact: plain files, a sidecar that describes them, and the way they are written."""
