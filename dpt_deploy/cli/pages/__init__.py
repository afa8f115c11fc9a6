"""Commands that bring models to other programs: a page for a browser, a plug-in for GIMP."""
