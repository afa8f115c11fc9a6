"""Run an artefact on images, folders and videos."""
