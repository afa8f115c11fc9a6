"""Depth of every frame of a video or a camera, with the network and the decoder at work at the same time.

python docs/examples/video_frames.py out/tiny-fp32.onnx film.mp4        (0 instead of a file is the first camera)
"""

import sys
from collections.abc import Iterator

import cv2
import numpy as np

import dpt_deploy


def frames(source: str) -> Iterator[np.ndarray]:
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    while True:
        read, frame = capture.read()
        if not read:
            return
        yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)


def main(model_path: str, source: str) -> None:
    with dpt_deploy.load(model_path) as model:
        for index, prediction in enumerate(model.predict_all(frames(source))):
            depth = prediction.depth
            height, width = depth.shape
            print(f"frame {index}: {width}x{height}, inverse depth {depth.min():.3f} to {depth.max():.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
