"""Time a folder of photographs with and without stages that overlap, by turns; prints seconds and the ratio of medians.

Usage: python benchmarks/folder_speed.py [TURNS [PHOTOGRAPHS]]      (default: 5 turns, 48 photographs of 1280x720)

The network is tiny, which ships with the package. A predictor that says that it overlaps its own work gets one image
after the other, which is how folders ran before there were stages.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import cv2
import numpy as np
import skimage.data

from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.runtime.predictor import Predictor

PHOTOGRAPHS = (skimage.data.astronaut, skimage.data.chelsea, skimage.data.coffee, skimage.data.rocket)


def main(turns=5, count=48):
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in"), Path(folder, "out")
        source.mkdir()
        for index in range(count):
            pixels = cv2.resize(PHOTOGRAPHS[index % len(PHOTOGRAPHS)]()[..., ::-1], (1280, 720))
            cv2.imwrite(str(source / f"{index:03}.jpg"), np.roll(pixels, 7 * index, axis=1))
        model = export_model(ExportRequest(load_recipe("tiny")), Path(folder, "model")).artifact.path
        seconds = {"one after the other": [], "overlapping": []}
        for turn in range(turns + 1):
            for name, taken in seconds.items():
                with mock.patch.object(Predictor, "overlaps", name == "one after the other"):
                    begin = time.perf_counter()
                    run_files(model, source, out)
                    if turn:  # the first is warm-up
                        taken.append(time.perf_counter() - begin)
    for name, taken in seconds.items():
        print(f"{name}: {', '.join(f'{each:.2f}' for each in taken)} s")
    before, after = map(statistics.median, seconds.values())
    print(f"{before / after:.2f} times as many photographs a second")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
