"""Networks that no network of the zoo is, by a part of a key that only they have: for the error message.

Marks that were read from the keys of transformers 5.23 are held to it by a test. The others were read in source or
documentation, and have not been compared with a published file: they are marked "by source".
"""

from __future__ import annotations

# The first that is found counts, so a network comes before those whose parts it contains.
FOREIGN = (
    ("conditional_log_binomial.", "ZoeDepth, or the metric Depth Anything V1: a DPT with a metric-bins head"),
    ("core.core.", "ZoeDepth, or the metric Depth Anything V1: a DPT with a metric-bins head"),  # by source
    ("encoder.patch_encoder.", "Depth Pro: tiles of an image through two DINOv2 encoders"),
    ("prompt_depth_layer.", "Prompt Depth Anything, which takes a second, coarse depth map"),
    ("camera_token", "an any-view network of Depth Anything 3 (DA3MONO and DA3METRIC are others)"),  # by source
    ("motion_modules.", "Video Depth Anything, whose head attends to other frames"),  # by source
    ("decode_head.", "a segmentation or depth head of MMSegmentation, as the DINOv2 depthers have"),  # by source
    ("normals_head.", "TIPSv2-DPT: a TIPS encoder, and heads of depth bins, normals and classes"),  # by source
    ("decoder.project.", "TIPSv2-DPT: a TIPS encoder, and heads of depth bins, normals and classes"),
    ("head.conv_depth.", "CHMv2: a DINOv3 encoder and a head of depth bins"),
    ("glpn.encoder.", "GLPN: a SegFormer encoder with a decoder of its own"),
)
