"""The plug-in of GIMP: find GIMP, and install or remove the plug-in."""
