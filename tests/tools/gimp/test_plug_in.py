"""The plug-in of GIMP 2.10 in a GIMP without a window: its layer against ``run``, and what it refuses."""

import os
import shutil
import subprocess

import cv2
import numpy as np
import pytest
from support.native import native_build

from dpt_deploy import cli
from dpt_deploy.jobs.predict.files import run_files

GIMP = "gimp-console-2.10"
pytestmark = [
    pytest.mark.needs("compiler"),
    pytest.mark.skipif(
        not (shutil.which(GIMP) and shutil.which("gimptool-2.0")),
        reason="no GIMP 2.10 or no headers of it: apt-get install gimp libgimp2.0-dev, or let DPT_APT=1 do so",
    ),
]
U16 = "(gimp-image-convert-precision image PRECISION-U16-GAMMA)"
LAYER = "(vector-ref (cadr (gimp-image-get-layers image)) 0)"


@pytest.fixture(scope="module")
def gimp(tmp_path_factory):
    """Run a script of GIMP on an image; ``dpt-deploy gimp --install`` puts the plug-in in a profile of its own."""
    profile = {"GIMP2_DIRECTORY": str(tmp_path_factory.mktemp("gimp"))}
    library = ["--library", str(native_build() / "libdpt.so")]
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("GIMP2_DIRECTORY", profile["GIMP2_DIRECTORY"])
        assert cli.call(["gimp", "--install", "--for", "2.10", *library]) == 0

    def scripts(image, *batches, library=None):
        """Each batch begins with the image in the variable ``image``; an error ends its batch only."""
        load = f'(let* ((image (car (gimp-file-load RUN-NONINTERACTIVE "{image}" ""))))'
        batch = [word for steps in batches for word in ("-b", " ".join((load, *steps, ")")))]
        env = {**os.environ, **profile} | ({"DPT_LIBRARY": str(library)} if library else {})
        command = [GIMP, "-i", "-d", "-f", *batch, "-b", "(gimp-quit 1)"]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    return scripts


def depth_of(layer, model):
    return f'(plug-in-dpt-depth RUN-NONINTERACTIVE image {layer} "{model}")'


def test_the_new_layer_has_the_values_that_run_writes(gimp, model, photo, tmp_path):
    written = tmp_path / "layer.png"
    save = f'(file-png-save RUN-NONINTERACTIVE image {LAYER} "{written}" "" 0 9 0 0 0 0 0)'
    text = gimp(photo, (U16, depth_of(LAYER, model), save))
    assert written.is_file(), text
    run_files(model, photo, tmp_path / "run.png", formats=("png",))
    found, expected = (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in (written, tmp_path / "run.png"))
    assert found.dtype == expected.dtype == np.uint16
    assert np.ptp(expected) > 65000
    assert np.abs(found[..., 0].astype(int) - expected).max() <= 1
    assert np.abs(found[..., 0].astype(int) - np.flip(expected, 0)).max() > 1000  # another map is noticed


INDEXED = '(gimp-image-convert-indexed image CONVERT-DITHER-NONE CONVERT-PALETTE-GENERATE 8 FALSE FALSE "")'
GROUP = "(gimp-image-insert-layer image (car (gimp-layer-group-new image)) 0 0)"
CHANNEL = '(car (gimp-channel-new-from-component image CHANNEL-RED "red"))'


def test_what_has_no_pixels_and_what_is_no_model_is_refused(gimp, model, photo, tmp_path):
    text = gimp(
        photo,
        (GROUP, depth_of(LAYER, model)),
        (INDEXED, depth_of(LAYER, model)),
        (depth_of(CHANNEL, model),),
        (depth_of(LAYER, tmp_path / "nothing.onnx"),),
    )
    assert "A layer group has no pixels of its own" in text
    assert "An image with a colour map cannot show depth" in text
    assert "The depth of a layer is wanted" in text
    assert "nothing.onnx" in text.partition("The depth of a layer is wanted")[2]


def test_a_missing_library_is_named(gimp, photo, tmp_path):
    text = gimp(photo, (depth_of(LAYER, "model.onnx"),), library=tmp_path / "libnothing.so")
    assert "The library of dpt-deploy was not found" in text
    assert "libnothing.so" in text
