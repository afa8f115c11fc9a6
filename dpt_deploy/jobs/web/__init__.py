"""A static page that runs exported models in the browser."""
