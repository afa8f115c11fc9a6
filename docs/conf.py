"""Sphinx configuration. Pages are Markdown (MyST); parts of the reference are generated from the code at build time."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

import generated

import dpt_deploy

project = "dpt-deploy"
version = release = dpt_deploy.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints_format = "short"
maximum_signature_line_length = 100
autodoc_member_order = "bysource"
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "dpt-deploy"
html_copy_source = False


def setup(app):
    app.connect("source-read", generated.fill)
    app.connect("env-get-outdated", generated.outdated)
