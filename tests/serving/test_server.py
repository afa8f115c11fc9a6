"""A real Triton server loads a repository as it is written, and answers as the artefacts do."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from support.paths import ROOT
from support.served import plan_artifact
from support.tiny import exported
from support.triton import SITE, TritonServer

pytest.importorskip("tritonclient", reason="the extra serve is not installed (make serve-test installs it)")
if SITE not in os.environ:
    pytest.skip("there is no environment with a Triton server (make serve-test makes it)", allow_module_level=True)

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

import dpt_deploy
from dpt_deploy.core.errors import ResourceError, UsageError
from dpt_deploy.jobs.bench.served import bench_served
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.jobs.serve.repository import write_repository
from dpt_deploy.jobs.serve.request import ServeOptions
from dpt_deploy.jobs.verify.golden import read_golden
from dpt_deploy.jobs.verify.served import verify_served

NETWORK, IMAGES, PLAN = "tiny-vit-fp32", "tiny-vit-fp32_image", "engine"
PHOTOGRAPH = ROOT / "dpt_deploy/data/photographs/coffee.jpg"
QUEUE = 8
LOAD_SECONDS = float(os.environ.get("DPT_SERVE_SECONDS", "8"))


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    artifact = exported("tiny-vit")
    _, height, width, _ = read_golden(artifact.golden_path, artifact.sidecar.outputs)[0].shape
    plan = plan_artifact(folder / "plan", size=(height, width), name=PLAN).path
    write_repository([artifact.path, plan], folder / "models", ServeOptions(queue=QUEUE, max_batch=8, instances=1))
    return folder / "models"


@pytest.fixture(scope="module")
def server(repository, tmp_path_factory):
    with TritonServer(repository, tmp_path_factory.mktemp("server"), onnx=exported("tiny-vit").path) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc}") as client:
        yield client


@pytest.mark.parametrize("scheme", ["grpc", "http"])
@pytest.mark.parametrize("model", [NETWORK, PLAN])
def test_golden_tensors(server, repository, model, scheme):
    assert verify_served(server.address(model, scheme), against=repository).passed


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_the_network_answers_with_the_same_bits(server, scheme):
    artifact = exported("tiny-vit")
    inputs = model_inputs(artifact.sidecar, structured_images(1, 96, 128))
    with (
        open_runner(artifact, server.address(NETWORK, scheme)) as served,
        open_runner(artifact, "ort", threads=1) as here,
    ):
        assert np.array_equal(served.infer(inputs)["predicted_depth"], here.infer(inputs)["predicted_depth"])


def ask(client, data, model=IMAGES):
    tensor = triton.InferInput("image", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[data]], dtype=object))
    return client.infer(model, [tensor]).as_numpy("predicted_depth")[0]


@pytest.mark.parametrize("model", [IMAGES, f"{PLAN}_image"])
def test_an_image_file_becomes_the_map_of_run(client, model):
    size = None if model == IMAGES else (96, 128)
    with dpt_deploy.load(exported("tiny-vit").path, threads=1, size=size) as here:
        expected = here(PHOTOGRAPH).depth
    found = ask(client, PHOTOGRAPH.read_bytes(), model)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-5 * np.ptp(expected)


@pytest.mark.parametrize(
    ("data", "text"),
    [(b"junk", "not an image"), (b"", "is empty"), (PHOTOGRAPH.read_bytes()[:2000], "cannot be decoded")],
)
def test_what_is_no_image_is_refused_with_our_words(client, data, text):
    with pytest.raises(InferenceServerException, match=text) as caught:
        ask(client, data)
    assert "INVALID_ARGUMENT" in caught.value.status()


def test_two_images_in_a_request_are_refused(client):
    tensor = triton.InferInput("image", [2, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[b"a"], [b"b"]], dtype=object))
    with pytest.raises(InferenceServerException, match="a request has one image, this one has 2"):
        client.infer(IMAGES, [tensor])


def test_a_batch_that_is_too_large_is_refused(server):
    artifact = exported("tiny-vit")
    with open_runner(artifact, server.address(NETWORK)) as runner, pytest.raises(UsageError, match="batch"):
        runner.infer(model_inputs(artifact.sidecar, structured_images(9, 64, 64)))


def test_a_wrong_model_is_named(server, repository):
    artifact = exported("tiny-vit")
    with pytest.raises(UsageError, match="has no model 'missing'"):
        verify_served(server.address("missing"), against=artifact.path)
    with pytest.raises(ResourceError, match="no model server answers"):
        verify_served(f"grpc://127.0.0.1:{server.http}/{NETWORK}", against=artifact.path)


def jpeg(height, width, seed=0):
    return cv2.imencode(".jpg", structured_images(1, height, width, seed=seed)[0])[1].tobytes()


def test_images_of_two_sizes_that_wait_are_computed_together(server, client):
    images = [jpeg(96, 128), jpeg(128, 96)]
    alone = [ask(client, data) for data in images]
    before = server.counts(NETWORK)
    sent, refused = 0, 0
    with ThreadPoolExecutor(8) as pool:
        for index, answer in enumerate(pool.map(lambda index: _tried(client, images[index % 2]), range(64))):
            sent += 1
            refused += answer is None
            if answer is not None:
                assert np.abs(answer - alone[index % 2]).max() <= 1e-5 * np.ptp(alone[index % 2])
    computed, executions = (after - was for after, was in zip(server.counts(NETWORK), before, strict=True))
    assert computed == sent - refused
    assert executions <= computed / 2


def _tried(client, data):
    """The answer, or None if the server refused at once because too many wait."""
    try:
        return ask(client, data)
    except InferenceServerException as exc:
        if "queue" not in str(exc):
            raise
        return None


def test_too_many_requests_are_refused_and_none_is_lost(client):
    data = PHOTOGRAPH.read_bytes()
    expected = ask(client, data)
    started = time.monotonic()
    with ThreadPoolExecutor(64) as pool:
        answers = list(pool.map(lambda _: _tried(client, data), range(64)))
    fine = [answer for answer in answers if answer is not None]
    assert 0 < len(fine) < 64
    assert all(np.abs(answer - expected).max() <= 1e-5 * np.ptp(expected) for answer in fine)
    assert time.monotonic() - started < 30


def test_a_load_of_mixed_sizes_gives_right_answers_and_leaves_nothing(server):
    """Every answer is compared; memory and shared memory are those of before."""
    artifact = exported("tiny-vit")

    def loaded(seconds):
        return bench_served(
            artifact, server.address(NETWORK), sizes=("96x128", "64x64", "128x96"), levels=(1, 2, 4, 8), seconds=seconds
        )

    loaded(2.0)
    memory, shared = server.memory_bytes(), _shared_bytes(server)
    found = loaded(LOAD_SECONDS)
    assert [level.concurrency for level in found.levels] == [1, 2, 4, 8]
    assert all(level.failed == 0 and level.wrong == 0 and level.requests > 0 for level in found.levels)
    assert len(shared) >= 4  # one for each model
    assert _shared_bytes(server) == shared
    assert server.memory_bytes() <= 1.05 * memory


def _shared_bytes(server):
    return {path.name: path.stat().st_size for path in server.shared_files()}


def test_a_killed_stub_is_noticed_although_the_server_is_ready(server, client, repository):
    """It comes last: the model is loaded again."""
    for pid in server.stubs(NETWORK):
        os.kill(pid, signal.SIGKILL)
    assert client.is_model_ready(NETWORK)
    started = time.monotonic()
    with pytest.raises(ResourceError, match="cannot compute, whatever its health says"):
        verify_served(server.address(NETWORK), against=repository)
    assert time.monotonic() - started < 5
    assert client.is_server_ready()
    client.unload_model(NETWORK)
    end = time.monotonic() + 20
    while client.is_model_ready(NETWORK) and time.monotonic() < end:
        time.sleep(0.1)
    client.load_model(NETWORK)
    assert verify_served(server.address(NETWORK), against=repository).passed
