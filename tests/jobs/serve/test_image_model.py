"""The image model around a network: the numbers are those of ``run``, and one bad image harms no other."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.fake_gpu import engine_record
from support.served import APART
from support.tiny import exported
from support.two_outputs import CONFIDENCE, CONFIDENCE_NAME, DEPTH_NAME, two_outputs

import dpt_deploy
from dpt_deploy.core.errors import BadFileError, DptError, ResourceError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import TASKS
from dpt_deploy.jobs.serve.image_model import ImageModel, RemoteNetwork

pytestmark = pytest.mark.needs("torch", "onnxruntime", "cv2")

RNG = np.random.default_rng(3)


def jpeg(height, width):
    return cv2.imencode(".jpg", RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))[1].tobytes()


@pytest.fixture
def loaded():
    with dpt_deploy.load(exported("tiny-vit").path) as model:
        yield model


def test_images_of_one_size_are_one_batch_and_equal_those_of_run(loaded, tmp_path):
    calls = []

    def network(inputs):
        calls.append(len(inputs["pixel_values"]))
        return loaded.infer_all(inputs)

    images = [jpeg(60, 80), jpeg(80, 60), b"junk", b"", jpeg(60, 80), jpeg(60, 80)[:200]]
    found = ImageModel(loaded.sidecar, network, max_batch=4).predict(images)
    assert sorted(calls) == [1, 2]
    assert [isinstance(each, BadFileError) for each in found] == [False, False, True, True, False, True]
    assert "image is not an image" in str(found[2])
    for index in (0, 1, 4):
        path = tmp_path / f"{index}.jpg"
        path.write_bytes(images[index])
        np.testing.assert_allclose(found[index]["predicted_depth"], loaded(path).depth, rtol=1e-4, atol=1e-5)


def test_batches_are_bounded(loaded):
    calls = []

    def network(inputs):
        calls.append(len(inputs["pixel_values"]))
        return loaded.infer_all(inputs)

    ImageModel(loaded.sidecar, network, max_batch=2).predict([jpeg(60, 80)] * 3)
    assert calls == [2, 1]


def test_a_network_that_fails_is_the_error_of_its_images(loaded):
    def network(_inputs):
        raise ResourceError("the stub was killed")

    (found,) = ImageModel(loaded.sidecar, network, max_batch=2).predict([jpeg(60, 80)])
    assert isinstance(found, DptError)
    assert "killed" in str(found)


def test_a_photograph_goes_to_the_nearest_built_size(loaded):
    sidecar = replace(loaded.sidecar, engine=engine_record(profiles=APART))
    model = ImageModel(sidecar, loaded.infer_all, max_batch=1)
    assert model.network_size(60, 60) == Size(64, 64)
    assert model.network_size(300, 900) == Size(64, 96)


def test_several_outputs_are_several_maps(tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, CONFIDENCE.name, CONFIDENCE)
    path = tmp_path / "image.jpg"
    path.write_bytes(jpeg(64, 96))
    with dpt_deploy.load(two_outputs(tmp_path).path) as model:
        (found,) = ImageModel(model.sidecar, model.infer_all, max_batch=1).predict([path.read_bytes()])
        for name in (DEPTH_NAME, CONFIDENCE_NAME):
            np.testing.assert_array_equal(found[name], model(path).maps[name].values)
    assert not np.array_equal(found[DEPTH_NAME], found[CONFIDENCE_NAME])


def test_the_network_is_a_runner(loaded):
    with RemoteNetwork(loaded.sidecar, loaded.infer_all) as network:
        network.synchronize()
        assert [each.name for each in network.inputs] == ["pixel_values"]
        assert [each.name for each in network.outputs] == ["predicted_depth"]
