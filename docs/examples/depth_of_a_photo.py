"""Depth of one photograph, as numbers and as a picture.

python docs/examples/depth_of_a_photo.py out/tiny-fp32.onnx photo.jpg depth
"""

import sys

import cv2
import numpy as np

import dpt_deploy


def main(model_path: str, photo: str, name: str) -> None:
    with dpt_deploy.load(model_path) as model:
        depth = model(photo).depth  # (H, W) float32 at the size of the photograph
    np.save(f"{name}.npy", depth)
    grey = np.interp(depth, (depth.min(), depth.max()), (0, 255)).astype(np.uint8)
    cv2.imwrite(f"{name}.png", cv2.applyColorMap(grey, cv2.COLORMAP_INFERNO))


if __name__ == "__main__":
    main(*sys.argv[1:])
