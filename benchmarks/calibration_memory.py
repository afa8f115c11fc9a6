"""Measure peak memory of INT8 exports with many and with few images; writes results/calibration-memory-….json.

Usage: python benchmarks/calibration_memory.py [BACKBONE [IMAGES [SIZES]]]      (default: base 500 128,192,256)

The images are crops of photographs that ship with scikit-image. A run with ten of them shows how much of the peak does
not depend on their number, and an FP32 export how much any export needs.
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
from PIL import Image
from skimage import data

FEW = 10


def main(backbone="base", count="500", sizes="128,192,256"):
    with tempfile.TemporaryDirectory() as folder:
        floor, _, full = _export(backbone)
        few, _, _ = _export(backbone, _crops(Path(folder, "few"), FEW), sizes)
        peak, seconds, model = _export(backbone, _crops(Path(folder, "many"), int(count)), sizes)
    weights = full["parameters"] * 4
    result = {
        "kind": "calibration-memory",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "processor": model["sidecar"]["parity"]["processor"],
        "tools": model["sidecar"]["tools"],
        "model": backbone,
        "images": int(count),
        "sizes": sizes.split(","),
        "weights_bytes": weights,
        "peak_bytes": peak,
        "peak_bytes_of_few": few,
        "few": FEW,
        "peak_bytes_of_fp32": floor,
        "seconds": seconds,
    }
    target = Path(__file__).parent / "results" / f"calibration-memory-{backbone}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(f"{target}: {count} images {peak / 1e9:.2f} GB, {FEW} images {few / 1e9:.2f} GB")


def _crops(folder, count):
    """``count`` crops at random places of photographs, all different."""
    folder.mkdir()
    sources, rng = [data.astronaut(), data.chelsea(), data.coffee(), data.rocket()], np.random.default_rng(0)
    for index in range(count):
        image = sources[index % len(sources)]
        side = min(image.shape[:2]) * 3 // 4
        top, left = (rng.integers(0, extent - side + 1) for extent in image.shape[:2])
        Image.fromarray(image[top : top + side, left : left + side]).save(folder / f"{index:04}.jpg", quality=92)
    return folder


def _export(backbone, images=None, sizes=None):
    """Peak resident bytes and seconds of an export (FP32 without images), and the output of `inspect`."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "dpt_deploy", "export", "--backbone", backbone, "--weights", "random"]
        command += ["--precision", "int8-cpu", "--calibration", str(images), "--res", sizes] if images else []
        command += ["-o", folder, "--force"]
        begin = time.perf_counter()
        _, status, usage = os.wait4(subprocess.Popen(command, stderr=subprocess.DEVNULL).pid, 0)
        seconds = time.perf_counter() - begin
        if status:
            raise SystemExit(f"the export failed: {' '.join(command)}")
        (model,) = Path(folder).glob("*.onnx")
        output = subprocess.check_output([sys.executable, "-m", "dpt_deploy", "inspect", str(model), "--json"])
        return usage.ru_maxrss * 1024, seconds, json.loads(output)


if __name__ == "__main__":
    main(*sys.argv[1:])
