"""Draw the pictures of output formats in docs/how-to/formats/: `python docs/formats.py` writes them again.

They are what `dpt-deploy run tiny coffee.jpg` writes, made smaller; points are drawn from the side. The shipped `tiny`
needs no download.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np

import dpt_deploy
from dpt_deploy.cli import call
from dpt_deploy.imaging.points import PointOptions, ViewCamera, point_cloud

mpl.use("Agg")
import matplotlib.pyplot as plt

PHOTOGRAPH = Path(dpt_deploy.__file__).parent / "data/photographs/coffee.jpg"
FOLDER = Path(__file__).parent / "how-to/formats"
WIDTHS = {"png": 200, "color": 200, "side": 400}  # pixels


def smaller(path, width):
    """The image of a file, 8 bits a channel."""
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    height = round(pixels.shape[0] * width / pixels.shape[1])
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


def run(*words):
    """Run a command of ours, or end."""
    if code := call(["-q", *map(str, words)]):
        raise SystemExit(code)


def draw_points(model, path):
    """A photo as points, seen from above its left edge."""
    image = dpt_deploy.read_image(PHOTOGRAPH)
    with dpt_deploy.load(model) as predictor:
        depth, quantity = predictor(image).depth, predictor.sidecar.model.output_quantity
    cloud = point_cloud(depth, image, quantity, PointOptions(ViewCamera(60.0), stride=2, ratio=1.8))
    x, y, z = cloud.points.T
    figure = plt.figure(figsize=(5, 3.4), dpi=60)
    axis = figure.add_axes((-0.25, -0.35, 1.5, 1.7), projection="3d")
    axis.scatter(x, z, -y, c=cloud.colours / 255, s=0.6, linewidths=0)
    axis.view_init(elev=24, azim=-78)
    axis.set_box_aspect((np.ptp(x), np.ptp(z), np.ptp(y)))
    axis.set_axis_off()
    figure.savefig(path)
    plt.close(figure)


def main(folder=FOLDER):
    """Write every picture; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "tiny-fp32.onnx"
        run("export", "--backbone", "tiny", "-o", scratch)
        for name, width in WIDTHS.items():
            made = model.with_name(f"{name}.png")
            run("run", model, PHOTOGRAPH, "-o", made, "--format", name)
            written.append(folder / made.name)
            cv2.imwrite(str(written[-1]), smaller(made, width), [cv2.IMWRITE_PNG_COMPRESSION, 9])
        written.append(folder / "ply.png")
        draw_points(model, written[-1])
    return written


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
