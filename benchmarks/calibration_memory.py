"""Peak memory of an INT8 export over many images and sizes, against few; writes results/calibration-memory-….json.

Usage: python benchmarks/calibration_memory.py [BACKBONE [IMAGES [SIZES]]]      (default: base 500 192,256,384)

The images are crops of photographs that ship with scikit-image. The run over ten of them tells how much of the peak has
nothing to do with their number.
"""

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import skimage
from PIL import Image

from dpt_deploy.core.environment import fingerprint

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "motorcycle_left", "rocket")
FEW = 10


def main():
    given = dict(enumerate(sys.argv[1:]))
    backbone, count, sizes = given.get(0, "base"), int(given.get(1, 500)), given.get(2, "192,256,384")
    with tempfile.TemporaryDirectory() as folder:
        few, _, _ = export(backbone, crops(Path(folder, "few"), FEW), sizes)
        peak, seconds, model = export(backbone, crops(Path(folder, "many"), count), sizes)
    weights = model["parameters"] * 4
    result = {
        "kind": "calibration-memory",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "environment": fingerprint(),
        "model": backbone,
        "images": count,
        "sizes": sizes.split(","),
        "weights_bytes": weights,
        "peak_bytes": peak,
        "peak_bytes_of_few": few,
        "few": FEW,
        "above_model_bytes": peak - weights,
        "seconds": seconds,
    }
    target = Path(__file__).parent / "results" / f"calibration-memory-{backbone}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{backbone}: {count} images at {sizes}: peak {peak / 1e9:.2f} GB, {FEW} images {few / 1e9:.2f} GB")
    print(target)


def crops(folder, count):
    """``count`` crops at random places of photographs, all different."""
    folder.mkdir()
    data = Path(skimage.__file__).parent / "data"
    sources = [np.asarray(Image.open(path).convert("RGB")) for path in data.iterdir() if path.stem in PHOTOGRAPHS]
    rng = np.random.default_rng(0)
    for index in range(count):
        image = sources[index % len(sources)]
        side = min(image.shape[:2]) * 3 // 4
        top, left = (rng.integers(0, extent - side + 1) for extent in image.shape[:2])
        Image.fromarray(image[top : top + side, left : left + side]).save(folder / f"{index:04}.jpg", quality=92)
    return folder


def export(backbone, images, sizes):
    """Peak resident bytes and seconds of the whole command, and what `inspect` says of the file."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dpt_deploy", "export", "--backbone", backbone, "--weights", "random"]
        command += ["--precision", "int8-cpu", "--calibration", str(images), "--res", sizes, "-o", folder, "--force"]
        begin = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"the export failed: {' '.join(command)}")
        seconds = time.perf_counter() - begin
        (model,) = Path(folder).glob("*.onnx")
        command = [sys.executable, "-m", "dpt_deploy", "inspect", str(model), "--json"]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return usage.ru_maxrss * 1024, seconds, json.loads(found.stdout)


if __name__ == "__main__":
    main()
