"""The plug-in of GIMP 3: with a fake of GIMP everywhere, and in a GIMP 3 without a window where there is one."""

import ctypes
import os
import shutil
import subprocess
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from support.fake_gimp import Image, Layer, plug_in
from support.native import native_build

from dpt_deploy import cli
from dpt_deploy.imaging.files import read_image
from dpt_deploy.jobs.gimp.programs import find_gimps
from dpt_deploy.jobs.predict.files import run_files
from dpt_deploy.runtime.native import library as ours

pytestmark = pytest.mark.needs("compiler", "onnxruntime", "cv2")


@pytest.fixture(scope="module")
def library():
    return native_build() / "libdpt.so"


@pytest.fixture
def depth(library, monkeypatch):
    """The plug-in with its library."""
    monkeypatch.setenv("DPT_LIBRARY", str(library))
    with plug_in() as module:
        yield module


def layer_of(photo):
    pixels = read_image(photo)
    return Layer(pixels.shape[1], pixels.shape[0], pixels=pixels)


def answer(depth, image, drawables, model, mode="noninteractive"):
    """Return values of the procedure."""
    file = None if model is None else SimpleNamespace(get_path=lambda: str(model))
    procedure = depth.Depth().do_create_procedure(depth.PROCEDURE)
    config = SimpleNamespace(get_property=lambda name: {"model": file}[name])
    return depth.run(procedure, mode, image, drawables, config, None)


def expected(model, photo, folder):
    run_files(model, photo, folder / "run.png", formats=("png",))
    return cv2.imread(str(folder / "run.png"), cv2.IMREAD_UNCHANGED)


def test_the_new_layer_has_the_values_that_run_writes(depth, model, photo, tmp_path):
    layer = layer_of(photo)
    layer.offsets = (5, 7)
    image = Image(Layer(1, 1), layer)
    status, made = answer(depth, image, [layer], model)
    assert (status, image.layers.index(made), image.open_groups) == ("success", 1, 0)
    assert (made.offsets, made.kind, made.updated) == ((5, 7), "rgb_image", (0, 0, 64, 48))
    found, wanted = np.round(made.pixels[..., 0] * 65535), expected(model, photo, tmp_path)
    assert np.abs(found - wanted).max() <= 1
    assert np.abs(found - np.flip(wanted, 0)).max() > 1000  # another map is noticed


def test_a_flat_layer_becomes_black_and_a_grey_image_gets_a_grey_layer(depth, model):
    layer = Layer(64, 64, pixels=np.full((64, 64, 3), 90, np.uint8))
    _, made = answer(depth, Image(layer, base="gray"), [layer], model)
    assert made.kind == "gray_image"
    assert not made.pixels.any()


def test_what_has_no_pixels_and_what_is_no_model_is_refused(depth, model, photo, tmp_path):
    layer, group = layer_of(photo), Layer(8, 8, group=True)
    cases = [
        (Image(group), [group], model, "A layer group has no pixels of its own"),
        (Image(layer, base="indexed"), [layer], model, "An image with a colour map cannot show depth"),
        (Image(layer), [object()], model, "The depth of one layer is wanted"),
        (Image(layer), [layer, layer], model, "The depth of one layer is wanted"),
        (Image(layer), [layer], None, "A model is wanted"),
        (Image(layer), [layer], tmp_path / "nothing.onnx", "nothing.onnx"),
    ]
    for image, drawables, path, message in cases:
        status, error = answer(depth, image, drawables, path)
        assert status == "execution_error"
        assert message in error
        assert len(image.layers) == 1


def test_a_dialog_that_is_cancelled_changes_nothing(depth, model, photo):
    layer = layer_of(photo)
    image = Image(layer)
    assert answer(depth, image, [layer], model, "interactive")[0] == "cancel"
    assert image.layers == [layer]


@pytest.mark.parametrize("content", [None, b"no library"])
def test_a_missing_or_other_library_is_named(content, model, photo, tmp_path, monkeypatch):
    path = tmp_path / "libother.so"
    if content:
        path.write_bytes(content)
    monkeypatch.setenv("DPT_LIBRARY", str(path))
    with plug_in() as module:
        status, error = answer(module, Image(), [layer_of(photo)], model)
    assert status == "execution_error"
    assert "The library of dpt-deploy was not found" in error
    assert "libother.so" in error


def test_its_structures_are_those_of_the_package(depth):
    for mine, theirs in ((depth.Info, ours.Info), (depth.Image, ours.Image)):
        assert list(mine._fields_) == list(theirs._fields_)
    assert ctypes.sizeof(depth.Info) == ctypes.sizeof(ours.Info)


SCRIPT = """
import gi
gi.require_version("Gimp", "3.0")
from gi.repository import Gimp, Gio
mode, place = Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path
image = Gimp.file_load(mode, place({photo!r}))
image.convert_precision(Gimp.Precision.U16_NON_LINEAR)
procedure = Gimp.get_pdb().lookup_procedure("plug-in-dpt-depth")
def answer(drawable, model):
    config = procedure.create_config()
    config.set_property("run-mode", mode)
    config.set_property("image", image)
    config.set_core_object_array("drawables", [drawable])
    config.set_property("model", place(model))
    return procedure.run(config)
photo = image.get_layers()[0]
print("refused:", answer(photo, {photo!r}).index(1))
made = answer(photo, {model!r}).index(1)
print("position:", image.get_item_position(made), made.get_name())
image.remove_layer(photo)
Gimp.file_save(mode, image, place({out!r}), None)
"""


def test_a_real_gimp_3_adds_the_layer_that_run_writes(library, model, photo, tmp_path, monkeypatch):
    third = next((gimp for gimp in find_gimps() if gimp.is_third), None)
    program = third and shutil.which(f"gimp-console-{third.series}")
    if not program:
        pytest.skip("GIMP 3 is not installed (Debian 13: gimp)")
    monkeypatch.setenv("GIMP3_DIRECTORY", str(tmp_path / "profile"))
    assert cli.call(["gimp", "--install", "--for", third.series, "--library", str(library)]) == 0
    script = SCRIPT.format(photo=str(photo), model=str(model), out=str(tmp_path / "layer.png"))
    options = ["-i", "-d", "-f", "--batch-interpreter", "python-fu-eval", "-b", script, "--quit"]
    done = subprocess.run([program, *options], env=os.environ, capture_output=True, text=True, timeout=120, check=False)
    text = done.stdout + done.stderr
    found = cv2.imread(str(tmp_path / "layer.png"), cv2.IMREAD_UNCHANGED)
    assert found is not None, text
    assert "position: 0 depth" in text
    assert "photo.png" in text.partition("refused:")[2]
    wanted = expected(model, photo, tmp_path)
    assert found.dtype == wanted.dtype == np.uint16
    assert np.abs(found.reshape(*wanted.shape, -1)[..., 0].astype(int) - wanted).max() <= 1
