"""Time `run` and `batch --ray local` on folders of two sizes, by turns; writes results/archives-….json.

Usage: nox -s ray -- IMAGES [TURNS]        (default: 120 images, 3 turns; an environment with Ray, see noxfile.py)

Each candidate is a whole command. Its seconds are taken to be a start and a time per image, which the two folders give.
The models are `tiny`, and `base` with random weights and a quarter of the images.
"""

import datetime
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops

from dpt_deploy.jobs.bench.result import machine

ROOT = Path(__file__).parents[1]
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
PART = 4  # the small folder has this part of the images
CANDIDATES = {
    "run": ["run"],
    "ray, 1 worker": ["batch", "--ray", "local", "--workers", "1", "--cpus", str(os.cpu_count())],
    "ray, 2 workers": ["batch", "--ray", "local", "--workers", "2", "--cpus", str(max(1, os.cpu_count() // 2))],
}


def make_images(folder, count):
    """The shipped photograph, shifted a little further each time."""
    folder.mkdir(exist_ok=True)
    with Image.open(PHOTOGRAPH) as photograph:
        pixels = photograph.convert("RGB").resize((640, 480))
    for index in range(count):
        data = io.BytesIO()
        ImageChops.offset(pixels, 7 * index, 0).save(data, "jpeg", quality=90)
        (folder / f"{index:05}.jpg").write_bytes(data.getvalue())


def seconds(command, model, source, out):
    """Seconds of one whole command."""
    whole = [sys.executable, "-m", "dpt_deploy", "-q", *command, str(model), str(source), "-o", str(out), "--recursive"]
    begun = time.perf_counter()
    subprocess.run(whole, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def contents(folder):
    """Every result; the manifest of both is the same, too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def measure(model, folder, sizes, turns):
    """Seconds by candidate and number of images, and the number of files that all candidates wrote alike."""
    taken = {(name, size): [] for name in CANDIDATES for size in sizes}
    for turn in range(turns):
        for name in list(CANDIDATES)[:: -1 if turn % 2 else 1]:
            for size in sizes:
                out = folder / f"{model.stem}-{name}-{size}-{turn}"
                taken[name, size].append(seconds(CANDIDATES[name], model, folder / str(size), out))
    results = [contents(folder / f"{model.stem}-{name}-{sizes[-1]}-0") for name in CANDIDATES]
    if any(each != results[0] for each in results):
        raise SystemExit("the candidates wrote other files")
    return taken, len(results[0])


def summary(taken, sizes):
    """Start and rate of each candidate, and its time for the larger folder over that of `run`."""
    small, large = sizes
    found = {}
    for name in CANDIDATES:
        slopes = (np.array(taken[name, large]) - np.array(taken[name, small])) / (large - small)
        each = float(np.median(slopes))
        ratios = np.array(taken[name, large]) / np.array(taken["run", large])
        found[name] = {
            "seconds": taken[name, large],
            "start_s": float(np.median(taken[name, large])) - each * large,
            "images_per_second": 1 / each,
            "times_run": float(np.median(ratios)),
            "times_run_range": [float(ratios.min()), float(ratios.max())],
        }
    return found


def main(turns, models):
    document = {
        "kind": "archives",
        "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "protocol": "whole commands, by turns, order reversed in every second turn; medians over turns",
        "environment": machine(),
        "ray": version("ray"),
        "load_average_before": os.getloadavg(),
        "turns": turns,
        "names": list(CANDIDATES),
        "models": {},
    }
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for model, count in models.items():
            sizes = (count // PART, count)
            for size in sizes:
                make_images(folder / str(size), size)
            taken, files = measure(model, folder, sizes, turns)
            document["models"][model.stem] = {"images": count, "equal_files": files, "commands": summary(taken, sizes)}
    path = ROOT / f"benchmarks/results/archives-{document['environment']['cores']}c.json"
    path.write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(document["models"], indent=2))
    print(f"written to {path}")


if __name__ == "__main__":
    tiny, base, images = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    main(int(sys.argv[4]) if len(sys.argv) > 4 else 3, {tiny: images, base: images // PART})
