"""Every network in every precision: exported, compared, loaded, built; adds to results/precisions.json.

Usage: python benchmarks/precisions.py [NETWORK…]      (tiny, base, large, hybrid, hybrid-segmentation; default: all)

Ranges come from photographs that ship with scikit-image; for tiny, which has learned, from rendered scenes. For each
file: what `export` and `verify` measured, what PyTorch itself loses in the same 16 bits, whether ONNX Runtime loads and
runs it, whether TensorRT-RTX builds it without a GPU. What is recorded already is not measured again.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import skimage

import dpt_deploy

RANDOM = ("--weights", "random")
NETWORKS = {  # options of export, and the side of the images
    "tiny": (("--backbone", "tiny"), 192),
    "base": (("--backbone", "base", *RANDOM), 384),
    "hybrid": (("--backbone", "hybrid", *RANDOM), 384),
    "hybrid-segmentation": (("--backbone", "hybrid", "--task", "segmentation", *RANDOM), 384),
    "large": (("--backbone", "large", *RANDOM), 192),
}
PHOTOGRAPHS = ("astronaut", "brick", "camera", "chelsea", "coffee", "motorcycle_left", "motorcycle_right", "rocket")


def main(*names):
    target = Path(__file__).parent / "results/precisions.json"
    with tempfile.TemporaryDirectory() as folder:
        for path in (Path(skimage.__file__).parent / "data").iterdir():
            if path.stem in PHOTOGRAPHS:
                shutil.copy(path, folder)
        for name in names or NETWORKS:
            options, size = NETWORKS[name]
            photographs = None if name == "tiny" else Path(folder)
            dpt_deploy.survey_precisions(target, {name: options}, size=size, photographs=photographs)
    print(target)


if __name__ == "__main__":
    main(*sys.argv[1:])
