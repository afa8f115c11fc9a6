"""Photograph to map: the predictor over ONNX Runtime against the original scripts' pipeline (cv2, PyTorch)."""

import functools
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from support import oracles
from support.tiny import exported, tiny_model

from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.runner import Runner
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.measure.metrics import range_error
from dpt_deploy.runtime.predictor import Predictor

MAX_OF_RANGE = 1e-4


@functools.cache
def photograph(name):
    return {
        "astronaut": skimage.data.astronaut,  # 512 x 512
        "coffee": skimage.data.coffee,  # 400 x 600
        "tall": lambda: np.ascontiguousarray(skimage.data.coffee()[:, 150:350].repeat(2, axis=0)),  # 800 x 200
        "thumbnail": lambda: np.ascontiguousarray(skimage.data.coffee()[180:240, 250:295]),  # 60 x 45
    }[name]()


@functools.cache
def predicted(name, photo, **options):
    with load(exported(name, **options).path) as predictor:
        return predictor(photograph(photo))


PHOTOS = ("astronaut", "coffee", "tall", "thumbnail")
DEPTH = ("tiny-vit", "tiny-hybrid", "tiny-metric", "tiny-midas")


@pytest.mark.parametrize("photo", PHOTOS)
@pytest.mark.parametrize("name", DEPTH)
def test_depth_equals_the_original_pipeline(name, photo):
    found = predicted(name, photo)
    rgb, spec = photograph(photo), exported(name).sidecar.image
    expected = oracles.original_depth(tiny_model(name), rgb, spec)
    assert found.depth.shape == rgb.shape[:2]
    assert found.depth.dtype == np.float32
    assert found.metric == (name == "tiny-metric")
    assert found.network_size == Size(*oracles.network_sides(*rgb.shape[:2], spec))
    assert range_error(found.depth, expected)[0] <= MAX_OF_RANGE


@pytest.mark.parametrize("photo", PHOTOS)
def test_labels_equal_the_original_pipeline_except_at_ties(photo):
    found = predicted("tiny-seg", photo)
    scores = oracles.original_scores(tiny_model("tiny-seg"), photograph(photo), exported("tiny-seg").sidecar.image)
    best = np.sort(scores, axis=0)
    clear = best[-1] - best[-2] > 1e-4 * (scores.max() - scores.min())
    np.testing.assert_array_equal(found.labels[clear], scores.argmax(0)[clear] + 1)
    assert clear.mean() > 0.99
    assert found.depth is None
    assert found.num_classes == 7
    assert len(np.unique(found.labels)) > 2


def wrong_pipelines():
    """Ways in which a pipeline is often wrong, each as a change of the image before, or of the map after."""
    return {
        "bgr": (lambda rgb: rgb[..., ::-1].copy(), lambda depth: depth),
        "mirrored": (lambda rgb: rgb[:, ::-1].copy(), lambda depth: depth),
        "not flipped back": (lambda rgb: rgb, lambda depth: depth[::-1]),
    }


@pytest.mark.parametrize("fault", wrong_pipelines())
def test_a_wrong_pipeline_would_be_noticed(fault):
    before, after = wrong_pipelines()[fault]
    spec = exported("tiny-vit").sidecar.image
    expected = after(oracles.original_depth(tiny_model("tiny-vit"), before(photograph("coffee")), spec))
    assert range_error(predicted("tiny-vit", "coffee").depth, expected)[0] > 100 * MAX_OF_RANGE


def test_the_other_normalisation_would_be_noticed():
    spec = replace(exported("tiny-vit").sidecar.image, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    expected = oracles.original_depth(tiny_model("tiny-vit"), photograph("coffee"), spec)
    assert range_error(predicted("tiny-vit", "coffee").depth, expected)[0] > 100 * MAX_OF_RANGE


# --- variants of the artefact -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("photo", PHOTOS)
def test_a_byte_input_differs_by_the_rounding_of_pixels_only(photo):
    exact, rounded = predicted("tiny-hybrid", photo), predicted("tiny-hybrid", photo, input_kind="uint8")
    largest, mean = range_error(rounded.depth, exact.depth)
    assert 0 < largest < 0.1
    assert mean < 0.01


def test_labels_from_the_graph_agree_with_labels_from_scores():
    scores, labels = predicted("tiny-seg", "coffee"), predicted("tiny-seg", "coffee", output_kind="labels")
    assert labels.labels.dtype == scores.labels.dtype
    assert labels.labels.min() >= 1
    assert np.mean(labels.labels == scores.labels) > 0.95  # upscaled labels are blocky where scores are smooth


def test_a_static_artefact_squashes_every_image_to_its_size():
    found = predicted("tiny-vit", "coffee", static=Size(64, 96))
    spec = replace(exported("tiny-vit").sidecar.image, height=64, width=96, keep_aspect=False)
    assert found.network_size == Size(64, 96)
    assert found.depth.shape == (400, 600)
    with load(exported("tiny-vit").path, size=Size(64, 96)) as predictor:
        dynamic = predictor(photograph("coffee"))
    assert range_error(found.depth, dynamic.depth)[0] <= MAX_OF_RANGE
    assert not spec.keep_aspect


def test_a_size_that_the_model_cannot_take_is_a_usage_error():
    with pytest.raises(UsageError, match="not a multiple of 32"), load(exported("tiny-vit").path, size=Size(50, 64)):
        pass


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 500, 3), (500, 1, 3)], ids=str)
def test_extreme_images_work(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    with load(exported("tiny-vit").path) as predictor:
        depth = predictor(image).depth
    assert depth.shape == shape[:2]
    assert np.isfinite(depth).all()


@pytest.mark.parametrize(
    "image",
    [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)],
    ids=["grey", "rgba", "float"],
)
def test_what_is_not_rgb_bytes_is_a_usage_error(image):
    with load(exported("tiny-vit").path) as predictor, pytest.raises(UsageError, match="expected uint8 of shape"):
        predictor(image)


def test_nan_from_the_network_is_an_error_and_not_a_picture():
    artifact = exported("tiny-vit")
    with load(artifact.path) as predictor, pytest.raises(ParityError, match="NaN or Inf"):
        predictor.finish({"predicted_depth": np.full((1, 96, 128), np.nan, np.float32)}, 60, 45)


class Recorder:
    """A runner that keeps what it is fed, to show that the predictor needs nothing but the protocol."""

    name = "recorder"

    def __init__(self):
        self.fed = []

    def infer(self, inputs):
        self.fed.append(inputs)
        (pixels,) = inputs.values()
        return {"predicted_depth": pixels.mean(axis=1)}


def test_the_predictor_works_over_any_runner_with_the_original_s_input():
    runner: Runner = Recorder()
    sidecar = exported("tiny-midas").sidecar
    Predictor(runner, sidecar)(photograph("coffee"))
    expected = oracles.original_input(photograph("coffee"), sidecar.image).numpy()
    np.testing.assert_array_equal(runner.fed[0]["pixel_values"], expected)


WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "torchvision", "timm", "onnx", "onnx_ir", "onnxscript", "cv2", "PIL"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
import numpy as np
from dpt_deploy.jobs.predict.load import load
with load(sys.argv[1]) as predictor:
    print(predictor(np.zeros((40, 60, 3), np.uint8)).depth.shape)
"""


def test_running_needs_only_numpy_and_the_runtime():
    command = [sys.executable, "-c", WITHOUT_TORCH, str(exported("tiny-vit").path)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "(40, 60)", found.stderr
