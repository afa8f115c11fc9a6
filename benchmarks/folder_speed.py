"""Time `run` on a folder and a video, as it is and as it was at a commit, by turns; writes results/folder-speed-….json.

Usage: python benchmarks/folder_speed.py [COMMIT [TURNS [IMAGES [BACKBONE]]]]       (default: 6a66d55, 5, 48, tiny)

Each of the two is a process that is told when to run, so only one works at a time. `network` is the rate of the network
alone on one of these images, in ONNX Runtime. Weights that do not ship with the package are random.
"""

import datetime
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import skimage.data

import dpt_deploy
from dpt_deploy.cli import call

ROOT = Path(__file__).parents[1]
NOW = "now"


def serve():
    """Answer each line of JSON on standard input: ["run", …arguments] or ["network", model, image, runs]."""

    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        begin, used = time.perf_counter(), time.process_time()
        if command == "network":
            model, image, runs = arguments
            with dpt_deploy.load(model) as predictor:
                inputs = predictor.prepare(dpt_deploy.read_image(image))
                predictor.infer(inputs)
                begin, used = time.perf_counter(), time.process_time()
                for _ in range(runs):
                    predictor.infer(inputs)
        elif call([command, *arguments]):
            raise SystemExit(f"{command} failed")
        print(json.dumps([time.perf_counter() - begin, time.process_time() - used]), file=answers, flush=True)


class Tree:
    """A process over one version of the package."""

    def __init__(self, folder):
        command = [sys.executable, __file__, "--serve"]
        # On a 2-core machine NumPy's library gains nothing from threads, and they would spin.
        environment = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, cwd=folder, text=True
        )

    def ask(self, *request):
        """Seconds by the clock and of the processors."""
        self._process.stdin.write(json.dumps(list(map(_plain, request))) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit(f"a process ended at {request}")
        return json.loads(answer)


def _plain(value):
    return str(value) if isinstance(value, Path) else value


def make_images(folder, count):
    """Photographs of scikit-image at 1280x720, each shifted, and a video of them."""

    names = ("astronaut", "chelsea", "coffee", "rocket")
    photographs = [cv2.resize(getattr(skimage.data, name)()[..., ::-1], (1280, 720)) for name in names]
    (folder / "in").mkdir()
    video = cv2.VideoWriter(str(folder / "in.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, (1280, 720))
    for index, pixels in zip(range(count), itertools.cycle(photographs), strict=False):
        shifted = np.roll(pixels, 7 * index, axis=1)
        cv2.imwrite(str(folder / f"in/{index:04}.jpg"), shifted)
        video.write(shifted)
    video.release()


def equal_outputs(first, second):
    """Number of files if both folders hold the same: the same bytes, or a PNG of the same pixels."""

    files = sorted(first.iterdir())
    if [path.name for path in files] != sorted(path.name for path in second.iterdir()):
        raise SystemExit("the folders hold other files")
    for path in files:
        other = second / path.name
        if path.read_bytes() == other.read_bytes():
            continue
        one, two = (cv2.imread(str(each), cv2.IMREAD_UNCHANGED) for each in (path, other))
        if path.suffix != ".png" or one.dtype != two.dtype or not np.array_equal(one, two):
            raise SystemExit(f"{path.name} differs")
    return len(files)


def main(commit="6a66d55", turns="5", count="48", backbone="tiny"):
    """Record the result."""

    begun, turns, count = datetime.datetime.now(datetime.UTC), int(turns), int(count)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "tree").mkdir()
        archive = subprocess.run(["git", "archive", commit, "dpt_deploy"], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder / "tree"], input=archive.stdout, check=True)
        make_images(folder, count)
        trees = {commit: Tree(folder / "tree"), NOW: Tree(ROOT)}
        weights = ["--weights", "random"] if backbone != "tiny" else []
        trees[commit].ask("export", "--backbone", backbone, *weights, "-o", folder / "model")
        model = next((folder / "model").glob("*.onnx"))
        taken = []
        for turn in range(turns + 1):
            taken.append({})
            for name, tree in list(trees.items())[:: -1 if turn % 2 else 1]:
                taken[-1]["folder", name] = tree.ask("run", model, folder / "in", "-o", f"{folder / 'out'}-{name}/")
                video = tree.ask("run", model, folder / "in.mp4", "-o", f"{folder / 'video'}-{name}.mp4")
                taken[-1]["video", name] = video
            taken[-1]["network", NOW] = trees[NOW].ask("network", model, folder / "in/0000.jpg", count)
        taken = taken[1:]  # the first turn warms up
        files = equal_outputs(folder / f"out-{commit}", folder / f"out-{NOW}")
        videos = [(folder / f"video-{name}.mp4").read_bytes() for name in trees]

    def spread(above, below, part=0):  # median and quartiles of the ratio within each turn
        return np.percentile([turn[above][part] / turn[below][part] for turn in taken], (50, 25, 75)).tolist()

    result = {"kind": "folder-speed", "recorded": begun.isoformat(timespec="seconds"), "model": model.stem}
    result |= {"commit": commit, "images": count, "size": "720x1280", "turns": turns, "cores": os.cpu_count()}
    result["tools"] = {name: version(name) for name in ("onnxruntime", "opencv-python-headless", "numpy")}
    result["processor"] = Path("/proc/cpuinfo").read_text().partition("model name")[2].splitlines()[0].strip(" \t:")
    result["load_average"] = os.getloadavg()
    result["images_per_second"] = {
        " ".join(key): count / float(np.median([turn[key][0] for turn in taken])) for key in taken[0]
    }
    result["processor_ms_per_image"] = {
        " ".join(key): 1000 / count * float(np.median([turn[key][1] for turn in taken])) for key in taken[0]
    }
    for what in ("folder", "video"):
        result[f"{what}_speed_up"] = spread((what, commit), (what, NOW))
        result[f"{what}_share_of_network"] = spread(("network", NOW), (what, NOW))
        result[f"{what}_processor_saving"] = spread((what, commit), (what, NOW), 1)
    result |= {"equal_files": files, "equal_video": videos[0] == videos[1]}
    target = ROOT / f"benchmarks/results/folder-speed-{model.stem}-{os.cpu_count()}c-{begun:%Y%m%d}.json"
    target.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["--serve"] else main(*sys.argv[1:])
