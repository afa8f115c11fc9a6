"""Depth of one photograph, without PyTorch. Usage: python export/predict.py MODEL.onnx PHOTO OUT.pfm"""

import sys
from pathlib import Path

import dpt_deploy

model, photo, out = map(Path, sys.argv[1:4])
image = dpt_deploy.read_image(photo)  # (H, W, 3) uint8 RGB
with dpt_deploy.load(model) as loaded:
    depth = loaded(image).depth  # (H, W) float32, inverse depth (metres for the KITTI and NYU models)
dpt_deploy.write_pfm(out, depth)
print(f"{out}: {depth.shape[1]} x {depth.shape[0]}, {depth.min():.3f} to {depth.max():.3f}")
