"""A loaded model is open at once, takes images in several forms, closes, and goes to other processes."""

import pickle

import numpy as np
import pytest
from PIL import Image
from support.tiny import exported

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.predict.load import as_size

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

PIXELS = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.fixture
def model():
    with dpt_deploy.load(exported("tiny-vit").path) as opened:
        yield opened


def test_it_is_called_without_a_with_block():
    model = dpt_deploy.load(str(exported("tiny-vit").path))
    assert model(PIXELS).depth.shape == (50, 70)
    assert repr(model) == "<LoadedModel tiny-vit-fp32.onnx in ort>"
    model.close()
    model.close()
    assert model.closed
    with pytest.raises(UsageError, match="was closed"):
        model(PIXELS)
    with pytest.raises(UsageError, match="was closed"), model:
        pass


def test_a_missing_file_is_an_error_at_once(tmp_path):
    with pytest.raises(BadFileError, match="does not exist"):
        dpt_deploy.load(tmp_path / "missing.onnx")


def test_paths_and_images_of_pillow_are_the_pixels(model, tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(PIXELS).save(path)
    expected = model(PIXELS).depth
    for image in (path, str(path), Image.fromarray(PIXELS), Image.open(path)):
        assert np.array_equal(model(image).depth, expected)
    (found,) = model.predict_all([path])
    assert np.array_equal(found.depth, expected)
    grey = Image.fromarray(PIXELS).convert("L")
    assert np.array_equal(model(grey).depth, model(np.asarray(grey.convert("RGB"))).depth)


@pytest.mark.parametrize("image", [[[0]], None, 3], ids=str)
def test_what_is_no_image_is_a_usage_error(image, model):
    with pytest.raises(UsageError, match="the image is of type"):
        model(image)


def test_the_steps_are_those_of_the_predictor(model):
    outputs = model.infer_all(model.prepare(PIXELS))
    assert np.array_equal(outputs["predicted_depth"], model.infer(model.prepare(PIXELS)))
    assert np.array_equal(model.finish(outputs, 50, 70).depth, model(PIXELS).depth)
    assert model.network_size(50, 70) == model(PIXELS).network_size
    assert model.sidecar.precision == "fp32"


def test_a_size_may_be_a_tuple():
    with dpt_deploy.load(exported("tiny-vit").path, size=(64, 96)) as model:
        assert model(PIXELS).network_size == Size(64, 96)


@pytest.mark.parametrize(
    ("value", "size"),
    [((64, 96), Size(64, 96)), ("64x96", Size(64, 96)), ([32, 64], Size(32, 64)), (Size(1, 2), Size(1, 2))],
)
def test_sizes_have_several_forms(value, size):
    assert as_size(value) == size


@pytest.mark.parametrize("value", [(64,), (64, 96, 3), ("a", "b"), (0, 64), "x", (True, 64)], ids=str)
def test_what_is_no_size_is_a_usage_error(value):
    with pytest.raises(UsageError, match="size"):
        as_size(value)


def test_a_copy_opens_the_file_again(model):
    copy = pickle.loads(pickle.dumps(model))
    assert np.array_equal(copy(PIXELS).depth, model(PIXELS).depth)
    copy.close()
    assert not model.closed
