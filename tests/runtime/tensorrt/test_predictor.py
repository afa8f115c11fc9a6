"""From image to map around an engine on a GPU, with fakes of CUDA: buffers that are kept, and image after image."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from support import engine_checks, fake_gpu
from support.device_arrays import OnDevice, on_host
from support.device_kernels import fake_resizing
from support.faults.calling import complaint
from support.tiny import exported

import dpt_deploy
from dpt_deploy.core.errors import DptError, ParityError, ResourceError, UsageError
from dpt_deploy.jobs.predict import load as predict
from dpt_deploy.runtime.cuda.arrays import DeviceArray
from dpt_deploy.runtime.predictor import Predictor
from dpt_deploy.runtime.tensorrt import frames as _device_frames
from dpt_deploy.runtime.tensorrt.predictor import DevicePredictor


@pytest.fixture
def stood_in(monkeypatch, tmp_path):
    with fake_resizing(monkeypatch, tmp_path) as found:
        yield found


# --- the predictor ----------------------------------------------------------------------------------------------------


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def sidecar_of(*, keep_aspect=False):
    sidecar = exported("tiny-vit").sidecar
    return replace(sidecar, image=replace(sidecar.image, height=64, width=64, keep_aspect=keep_aspect))


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_an_image_goes_through_an_engine_as_with_the_hosts_resizes(stood_in):
    runner, cuda, kernels = stood_in
    engine_checks.device_imaging_agrees(DevicePredictor, runner, sidecar_of(), tolerance=0.0)
    assert {"InputJob", "MapJob", "FiniteJob"} == set(kernels.launched)
    assert cuda.launches > 0  # captured, and replayed


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_an_image_of_the_device_stays_there(stood_in):
    runner, _, _ = stood_in
    sidecar, image = sidecar_of(), photo(50, 70)
    wanted = Predictor(runner, sidecar).predict(image)
    with DevicePredictor(runner, sidecar) as predictor:
        found = predictor(OnDevice(image))
        assert isinstance(found.depth, DeviceArray)
        assert found.network_size == wanted.network_size
        assert np.array_equal(on_host(found.depth), wanted.depth)


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_memory_is_bounded_and_given_back(stood_in, monkeypatch):
    monkeypatch.setattr(_device_frames, "_KEPT_SIZES", 1)
    runner, cuda, _ = stood_in
    before, most = len(cuda.held), 0
    with DevicePredictor(runner, sidecar_of(keep_aspect=True)) as predictor:
        for turn in range(6):
            predictor(photo(64, (64, 96)[turn % 2], turn))
            most = max(most, len(cuda.held))
        assert len(cuda.held) <= most
    assert len(cuda.held) == before


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_runs_of_other_threads_do_not_come_between(stood_in):
    """The fake, like CUDA, records whatever is queued on a stream while a capture runs there."""
    runner, _, _ = stood_in
    sidecar, host = sidecar_of(), Predictor(runner, sidecar_of())
    pictures = [photo(50 + index, 70, index) for index in range(4)]
    wanted = [host.predict(picture).depth for picture in pictures]
    with DevicePredictor(runner, sidecar) as predictor, ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(kind, pictures[turn % 4]) for turn in range(12) for kind in (predictor, host)]
        for turn, job in enumerate(jobs):
            assert np.array_equal(job.result().depth, wanted[turn // 2 % 4])


# --- image after image ------------------------------------------------------------------------------------------------

KINDS = pytest.mark.parametrize("kind", [DevicePredictor, nullcontext], ids=["device", "host"])


def opened(kind, runner, sidecar):
    return kind(runner, sidecar) if kind is DevicePredictor else kind(Predictor(runner, sidecar))


@KINDS
@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_images_overlap_and_come_back_in_order(kind, stood_in):
    runner, _, _ = stood_in
    with opened(kind, runner, sidecar_of()) as predictor:
        engine_checks.images_come_back_in_order(predictor, Predictor(runner, sidecar_of()), tolerance=0.0)


@pytest.mark.needs("compiler", "torch", "onnxruntime")
@pytest.mark.parametrize("waits", [True, False], ids=["waits", "does not"])
def test_an_image_waits_for_the_copies_before_it(waits, stood_in, monkeypatch):
    """The negative of the test above: without a wait between the streams other numbers come back."""
    runner, _, _ = stood_in
    pictures = [photo(64, 64, seed) for seed in range(4)]
    with DevicePredictor(runner, sidecar_of()) as predictor, monkeypatch.context() as patch:
        if not waits:
            patch.setattr(_device_frames.Stream, "follow", lambda _stream, _event: None)
        found = [prediction.depth for prediction in predictor.predict_all(pictures)]
    right = [Predictor(runner, sidecar_of()).predict(picture).depth for picture in pictures]
    assert all(map(np.array_equal, found, right)) == waits


@KINDS
@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_what_is_wrong_with_an_image_comes_after_those_before_it(kind, stood_in):
    runner, _, _ = stood_in
    with opened(kind, runner, sidecar_of()) as predictor:
        found = predictor.predict_all([photo(64, 64), photo(50, 70), photo(64, 64)[..., :2]])
        assert [next(found).depth.shape for _ in range(2)] == [(64, 64), (50, 70)]
        with pytest.raises(UsageError, match="expected uint8 of shape"):
            next(found)
        assert predictor(photo(64, 64)).depth.shape == (64, 64)


@KINDS
@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_who_stops_asking_leaves_nothing_under_way(kind, stood_in):
    runner, cuda, _ = stood_in
    with opened(kind, runner, sidecar_of()) as predictor:
        list(predictor.predict_all([photo(64, 64)] * 3))
        held = len(cuda.held)
        for _ in range(6):
            found = predictor.predict_all([photo(64, 64)] * 3)
            next(found)
            found.close()
        assert len(cuda.held) == held


@KINDS
@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_a_predictor_that_was_closed_gives_no_more(kind, stood_in):
    runner, _, _ = stood_in
    with opened(kind, runner, sidecar_of()) as predictor:
        found = predictor.predict_all(photo(64, 64, seed) for seed in range(9))
        next(found)
    if kind is not DevicePredictor:
        runner.__exit__(None, None, None)
    with pytest.raises(DptError, match="outside its 'with' block"):
        next(found)


@pytest.mark.needs("compiler", "torch", "onnxruntime")
@pytest.mark.parametrize(("kind", "rows"), [(nullcontext, 2), (DevicePredictor, 2), (DevicePredictor, 3)])
def test_several_rows_of_images_may_be_asked_by_turns(kind, rows, stood_in):
    runner, _, _ = stood_in
    pictures = [photo(64, 64, seed) for seed in range(4)]
    with opened(kind, runner, sidecar_of()) as predictor:
        found = list(zip(*(predictor.predict_all(pictures) for _ in range(rows)), strict=True))
        wanted = [predictor(picture).depth for picture in pictures]
        assert all(np.array_equal(one.depth, right) for each, right in zip(found, wanted, strict=True) for one in each)


@KINDS
@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_threads_that_overlap_images_do_not_wait_for_each_other_for_good(kind, stood_in):
    runner, _, _ = stood_in
    meet = threading.Barrier(2, timeout=20)

    def images():
        yield photo(64, 64)
        meet.wait()  # both have begun one by now
        yield from (photo(64, 64, seed) for seed in range(3))

    with opened(kind, runner, sidecar_of()) as predictor, ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(lambda: len(list(predictor.predict_all(images())))) for _ in range(2)]
        assert [job.result(timeout=20) for job in jobs] == [4, 4]


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_an_image_of_the_device_is_its_owners_again_at_once(stood_in):
    runner, _, _ = stood_in
    pictures, surface = [photo(64, 64, seed) for seed in range(4)], np.zeros((64, 64, 3), np.uint8)

    def decoded():
        for picture in pictures:
            surface[...] = picture
            yield OnDevice(surface)

    with DevicePredictor(runner, sidecar_of()) as predictor:
        found = [on_host(prediction.depth) for prediction in predictor.predict_all(decoded())]
        assert all(np.array_equal(one, predictor(each).depth) for one, each in zip(found, pictures, strict=True))


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_a_frame_that_found_no_memory_is_of_use_again(stood_in):
    runner, cuda, _ = stood_in
    with DevicePredictor(runner, sidecar_of()) as predictor:
        wanted = predictor(photo(64, 64)).depth
        left, cuda.left = cuda.left, 100
        with pytest.raises(ResourceError, match="out of memory"):
            predictor(photo(90, 90))
        cuda.left = left
        assert np.array_equal(predictor(photo(64, 64)).depth, wanted)


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_images_of_a_block_that_was_left_are_not_of_the_next(stood_in):
    runner, _, _ = stood_in
    predictor = DevicePredictor(runner, sidecar_of())
    with predictor:
        found = predictor.predict_all([photo(64, 64)] * 3)
        next(found)
    with predictor:
        found.close()
        assert predictor(photo(64, 64)).depth.shape == (64, 64)
        assert len(predictor._frames) == 1


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_every_part_of_the_way_can_be_timed_by_itself(stood_in):
    runner, _, _ = stood_in
    image = photo(50, 70)
    with DevicePredictor(runner, sidecar_of()) as predictor:
        stages = predictor.stages(image)
        predictor(photo(64, 64, 1))  # another image between
        outcome = None
        for stage in stages.values():
            outcome = stage()
            predictor.synchronize()
        assert list(stages) == ["upload", "prepare", "model", "finish", "download"]
        assert np.array_equal(outcome, predictor(image).depth)


@pytest.mark.needs("torch", "onnxruntime")
def test_outside_its_block_it_says_so(stood_in):
    runner, _, _ = stood_in
    predictor = DevicePredictor(runner, sidecar_of())
    for _ in range(2):
        with pytest.raises(DptError, match="outside its 'with' block"):
            predictor(photo(64, 64))
        with predictor:
            pass


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_an_output_that_is_not_finite_is_refused(stood_in, monkeypatch):
    runner, _, _ = stood_in
    for index, value in enumerate((np.nan, np.inf)):
        monkeypatch.setattr(fake_gpu, "compute", lambda pixels, bad=value: np.full_like(pixels[:, 0], bad))
        with DevicePredictor(runner, sidecar_of()) as predictor:
            with pytest.raises(ParityError, match="NaN or Inf"):
                predictor(photo(64, 64))
            monkeypatch.setattr(fake_gpu, "compute", fake_gpu.mean)
            assert np.isfinite(predictor(photo(64, 64, index)).depth).all()  # the flag is down again


@pytest.mark.needs("compiler", "torch", "onnxruntime")
@pytest.mark.parametrize("place", [lambda image: image, OnDevice], ids=["host", "device"])
@pytest.mark.parametrize(
    "image", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 4), np.uint8), np.zeros((8, 8, 3), np.float32)], ids=str
)
def test_what_is_no_image_is_refused(image, place, stood_in):
    runner, _, _ = stood_in
    with (
        DevicePredictor(runner, sidecar_of()) as predictor,
        pytest.raises(UsageError, match="expected uint8 of shape"),
    ):
        predictor(place(image))


@pytest.mark.needs("compiler", "torch", "onnxruntime")
def test_an_engine_is_loaded_with_its_resizes(stood_in, monkeypatch, tmp_path):
    """``load`` with fakes: a model's artefact, declared to be a plan's."""
    runner, _, kernels = stood_in
    sidecar = replace(sidecar_of(), kind="plan")
    monkeypatch.setattr(predict, "open_artifact", lambda path: SimpleNamespace(path=path, sidecar=sidecar))
    monkeypatch.setattr(predict, "open_runner", lambda *_args, **_options: nullcontext(runner))
    image = photo(50, 70)
    with dpt_deploy.load(tmp_path / "x.plan", device_imaging=True) as predictor:
        found = predictor(image)
    assert kernels.launched
    with dpt_deploy.load(tmp_path / "x.plan") as predictor:
        assert np.array_equal(predictor(image).depth, found.depth)


@pytest.mark.needs("torch", "onnxruntime", "cv2")
def test_only_an_engine_resizes_on_the_device(capsys, monkeypatch):
    argv = ("run", exported("tiny-vit").path, "dpt_deploy/data/photographs/coffee.jpg", "--device-imaging")
    assert "in ort runs on the processor; only the GPU of an engine can resize" in complaint(capsys, 2, *argv)
    sidecar = replace(sidecar_of(), kind="plan")
    monkeypatch.setattr(predict, "open_artifact", lambda path: SimpleNamespace(path=path, sidecar=sidecar))
    with pytest.raises(UsageError, match="in native runs on the processor"):
        dpt_deploy.load("x.plan", runtime="native", device_imaging=True)
