"""Random values for the networks of other libraries, whose own initial values often make a constant output."""

import math


def fill(name, tensor, generator):
    """Draw positions and tokens that matter, small biases, and weights that keep the scale of their input."""
    if name.endswith(("position_embeddings", "bias_table", "cls_token")):
        tensor.normal_(0, 0.5, generator=generator)
    elif tensor.ndim < 2:
        tensor.normal_(0, 0.1, generator=generator)
    else:
        tensor.normal_(0, 1 / math.sqrt(tensor[0].numel()), generator=generator)
