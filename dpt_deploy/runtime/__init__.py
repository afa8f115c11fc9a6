"""One runner per back end, and the predictor over any of them."""
