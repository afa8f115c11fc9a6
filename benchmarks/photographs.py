"""Run the shipped models on real photographs: a picture, and a number for the one with measured depth.

The photographs are scikit-image's (public domain or CC0); the motorcycle is a stereo pair of the Middlebury 2014 set
with measured disparity, which is inverse depth up to scale and shift. R² is the share of its variance that the
prediction explains after alignment, compared with that of the best plane.

Usage: python benchmarks/photographs.py [MODEL,…]
"""

import json
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from skimage import data

import dpt_deploy

MODELS = tuple((sys.argv[1] if len(sys.argv) > 1 else "tiny,tiny-vit,tiny-conv").split(","))
RESULTS = Path(__file__).parent / "results"
left, _, disparity = data.stereo_motorcycle()
PHOTOGRAPHS = {
    "coffee": data.coffee(),
    "chelsea": data.chelsea(),
    "rocket": data.rocket(),
    "astronaut": data.astronaut(),
    "motorcycle": left,
}


def _explained(columns, target):
    """R² of the least-squares fit of ``target`` by the columns and a constant."""
    matrix = np.stack([*columns, np.ones_like(target)], axis=1)
    fit = matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0]
    return float(1 - ((target - fit) ** 2).sum() / ((target - target.mean()) ** 2).sum())


def _predict():
    """Inverse depth of every photograph by every model."""
    depths = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            request = dpt_deploy.ExportRequest(dpt_deploy.load_recipe(name))
            artifact = dpt_deploy.export_model(request, Path(folder)).artifact
            with dpt_deploy.load(artifact.path) as model:
                depths[name] = {title: model(image).depth for title, image in PHOTOGRAPHS.items()}
    return depths


def _draw(depths, path):
    """Photographs in the first row, one row a model below."""
    figure, axes = plt.subplots(1 + len(MODELS), len(PHOTOGRAPHS), figsize=(14, 2.3 * (1 + len(MODELS))), squeeze=False)
    for column, (title, image) in enumerate(PHOTOGRAPHS.items()):
        axes[0, column].imshow(image, aspect="auto")
        for row, name in enumerate(MODELS, 1):
            axes[row, column].imshow(depths[name][title], cmap="inferno", aspect="auto")
            axes[row, 0].set_ylabel(name, fontsize=13)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    figure.subplots_adjust(left=0.03, right=0.999, bottom=0.005, top=0.995, wspace=0.02, hspace=0.03)
    figure.savefig(path, dpi=80)


depths = _predict()
known = np.isfinite(disparity) & (disparity > 0)
target = disparity[known].astype(np.float64)
found = {name: _explained([maps["motorcycle"][known].astype(np.float64)], target) for name, maps in depths.items()}
found["best plane"] = _explained([axis[known].astype(np.float64) for axis in np.indices(disparity.shape)], target)
_draw(depths, RESULTS / "photographs.png")
report = {"kind": "photographs", "photograph": "Middlebury 2014 motorcycle", "explained_variance": found}
(RESULTS / "photographs.json").write_text(json.dumps(report, indent=1) + "\n")
print(json.dumps(report, indent=1))
