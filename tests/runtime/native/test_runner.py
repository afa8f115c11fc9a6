"""The runner ``native``: C++ gives Python's numbers, on photographs and tensors, for every kind of artefact."""

import functools
import json
import runpy

import numpy as np
import onnx
import pytest
import skimage.data
from PIL import Image
from support.faults.calling import fine
from support.native import ROOT, as_plan, cpp_difference, done, native_build, run, write_ppm
from support.tiny import copied, exported, tampered

from dpt_deploy.artifact.store import write_sidecar
from dpt_deploy.cli import call
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, MissingExtraError, UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.imaging import encode
from dpt_deploy.imaging.files import read_pfm, write_labels
from dpt_deploy.imaging.png import grey16_png
from dpt_deploy.imaging.resample import restore
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.predict.load import load
from dpt_deploy.measure.metrics import range_error
from dpt_deploy.runtime.native import library as native_library
from dpt_deploy.runtime.native.runner import NativeRunner

pytestmark = pytest.mark.needs("compiler")

MAX_OF_RANGE = 1e-6  # the same network in the same library: what differs is the number of threads, if anything
PHOTOS = {"coffee": skimage.data.coffee, "astronaut": skimage.data.astronaut, "cat": skimage.data.chelsea}


@pytest.fixture(autouse=True)
def _built():
    native_build()


@functools.cache
def predicted(runtime, name, photo, **options):
    with load(exported(name, **options).path, runtime=runtime) as predictor:
        return predictor(PHOTOS[photo]())


def both(name, photo, **options):
    return (predicted(runtime, name, photo, **options) for runtime in ("native", "ort"))


# --- the same numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"input_kind": "uint8"}, {"static": Size(64, 96)}], ids=str)
@pytest.mark.parametrize("photo", PHOTOS)
def test_depth_of_a_photograph(photo, options):
    found, expected = both("tiny-vit", photo, **options)
    assert range_error(found.depth, expected.depth)[0] <= MAX_OF_RANGE
    assert (found.network_size, found.metric) == (expected.network_size, False)
    assert found.depth.shape == PHOTOS[photo]().shape[:2]


@pytest.mark.parametrize("name", ["tiny-hybrid", "tiny-metric", "tiny-midas"])  # midas: another resize, mean and std
def test_depth_of_other_networks(name):
    found, expected = both(name, "coffee")
    assert range_error(found.depth, expected.depth)[0] <= MAX_OF_RANGE
    assert found.metric == (name == "tiny-metric")


@pytest.mark.parametrize(("name", "precision"), [("tiny-vit", "int8"), ("tiny-hybrid", "fp8")])
def test_depth_in_eight_bits_for_engines(name, precision):
    """ONNX Runtime's defaults would refuse the FP8 file, and round biases of the other."""
    difference = cpp_difference(exported(name, precision=precision).path, PHOTOS["coffee"]())
    assert difference <= MAX_OF_RANGE


def test_depth_in_eight_bits():
    engine = exported("tiny-vit", precision="int8")
    path = engine.path.with_name(engine.sidecar.quantisation.twin)
    found = []
    for runtime in ("native", "ort"):
        with load(path, runtime=runtime) as predictor:
            found.append(predictor(PHOTOS["coffee"]()).depth)
    assert range_error(*found)[0] <= MAX_OF_RANGE
    assert range_error(found[0], predicted("ort", "tiny-vit", "coffee").depth)[0] > MAX_OF_RANGE  # it is not FP32


@pytest.mark.parametrize("photo", PHOTOS)
def test_labels_of_a_photograph(photo):
    found, expected = both("tiny-seg", photo)
    assert np.mean(found.labels == expected.labels) > 0.9999  # ties of scores, summed in another order
    assert (found.labels.dtype, found.num_classes) == (np.uint16, 7)
    assert len(np.unique(found.labels)) > 2


def test_labels_from_the_graph():
    found, expected = both("tiny-seg", "coffee", output_kind="labels")
    np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.mark.parametrize("task", ["depth", "labels"])
def test_the_script_of_the_benchmarks_finds_no_difference_and_would(task, tmp_path, monkeypatch):
    script = runpy.run_path(str(ROOT / "benchmarks/native_parity.py"))
    photographs = {"coffee": PHOTOS["coffee"]()}
    monkeypatch.setitem(script["_held"].__globals__, "PHOTOGRAPHS", photographs)
    model = exported("tiny-vit" if task == "depth" else "tiny-seg").path
    script["main"](tmp_path / "result.json", model)
    (held,) = json.loads((tmp_path / "result.json").read_text())["models"]
    assert held["weights"] == {"kind": "random", "seed": 0}
    monkeypatch.setattr(NativeRunner, "predict", _spoiled(NativeRunner.predict))
    with pytest.raises(SystemExit, match="differ"):
        script["main"](tmp_path / "result.json", model)


def _spoiled(predict):
    """A prediction with its first row moved: one class further, or by a thousandth."""

    def spoiled(runner, image):
        maps = predict(runner, image)
        for values in maps.values():
            values[0] = values[0] + 1 if values.dtype == np.uint16 else values[0] * np.float32(1.001)
        return maps

    return spoiled


@pytest.fixture(scope="module")
def joint():
    """An artefact with depth and scores."""
    return exported("tiny-vit-both")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_two_outputs_equal_those_of_python(joint, backend):
    inputs = {"pixel_values": np.random.default_rng(0).standard_normal((2, 3, 64, 96)).astype(np.float32)}
    with load(joint.path) as predictor, open_runner(joint.path, "ort") as runner:
        expected, tensors = predictor(PHOTOS["coffee"]()), runner.infer(inputs)
    limit = MAX_OF_RANGE if backend == "onnxruntime" else 1e-4  # the recipes' own tolerance for another library
    with NativeRunner(joint.path, joint.sidecar, backend=backend) as runner:
        found, raw = runner.predict(PHOTOS["coffee"]()), runner.infer(inputs)
    assert list(found) == list(raw) == ["predicted_depth", "logits"]
    assert range_error(found["predicted_depth"], expected["depth"])[0] <= limit
    assert np.mean(found["logits"] == expected["labels"]) > 0.999
    assert len(np.unique(found["logits"])) > 2
    assert max(range_error(raw[name], tensors[name])[0] for name in raw) <= limit


def test_both_outputs_are_verified_in_cpp(joint, tmp_path, capsys):
    artifact = copied(joint, tmp_path)
    found = json.loads(
        fine(capsys, "verify", artifact.path, "--runtime", "native", "--res", "64x96", "--batch", "2", "--json")
    )
    assert [(case["output"], case["passed"]) for case in found["cases"]] == [
        ("predicted_depth", True),
        ("logits", True),
    ]


def test_an_output_of_another_name_is_a_usage_error(joint):
    with NativeRunner(joint.path, joint.sidecar) as runner:
        runner.predict(PHOTOS["coffee"]())
        values = np.empty((1, 1), np.float32)
        with pytest.raises(UsageError, match="no output 'depth'; it has: predicted_depth, logits"):
            runner._library.call("dpt_get_depth", runner._open(), b"depth", values.ctypes.data, 1)


def test_another_picture_would_be_noticed():
    found, other = predicted("native", "tiny-vit", "coffee"), predicted("ort", "tiny-vit", "coffee", input_kind="uint8")
    assert range_error(found.depth, other.depth)[0] > 10 * MAX_OF_RANGE


def test_a_view_of_an_image_is_read_as_it_looks():
    turned = PHOTOS["coffee"]()[::-1, ::-1]
    with load(exported("tiny-vit").path, runtime="native") as predictor:
        np.testing.assert_array_equal(predictor(turned).depth, predictor(turned.copy()).depth)


@pytest.mark.parametrize(("batch", "height", "width"), [(1, 64, 64), (3, 64, 96), (2, 128, 32)])
def test_the_network_alone_at_any_batch_and_size(batch, height, width):
    inputs = {"pixel_values": np.random.default_rng(0).standard_normal((batch, 3, height, width)).astype(np.float32)}
    results = []
    for runtime in ("native", "ort"):
        with open_runner(exported("tiny-vit").path, runtime) as runner:
            results.append(runner.infer(inputs)["predicted_depth"])
    assert results[0].shape == (batch, height, width)
    assert range_error(results[0], results[1])[0] <= MAX_OF_RANGE
    results[0][:] = 0  # it belongs to the caller


def test_the_size_can_be_fixed():
    with load(exported("tiny-vit").path, runtime="native", size=Size(96, 64)) as predictor:
        found = predictor(PHOTOS["coffee"]())
    with load(exported("tiny-vit").path, size=Size(96, 64)) as predictor:
        expected = predictor(PHOTOS["coffee"]())
    assert found.network_size == Size(96, 64)
    assert range_error(found.depth, expected.depth)[0] <= MAX_OF_RANGE


def test_the_steps_are_timed():
    artifact = exported("tiny-vit")
    with NativeRunner(artifact.path, artifact.sidecar) as runner:
        runner.predict(PHOTOS["coffee"]())
        timing = runner.timing()
    assert min(timing.prepare, timing.model, timing.finish) > 0


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_files_of_dpt_run_hold_what_python_writes(tmp_path):
    photograph = write_ppm(tmp_path / "coffee.ppm", PHOTOS["coffee"]())
    for suffix in ("pfm", "png"):
        done(native_build() / "dpt_run", exported("tiny-vit").path, photograph, tmp_path / f"depth.{suffix}")
    depth = read_pfm(tmp_path / "depth.pfm")
    assert range_error(depth, predicted("ort", "tiny-vit", "coffee").depth)[0] <= MAX_OF_RANGE
    assert (tmp_path / "depth.png").read_bytes() == grey16_png(encode.depth_to_uint16(depth))
    np.testing.assert_array_equal(depth, predicted("native", "tiny-vit", "coffee").depth)


def test_a_metric_png_has_its_scale(tmp_path):
    photograph = write_ppm(tmp_path / "coffee.ppm", PHOTOS["coffee"]())
    done(native_build() / "dpt_run", exported("tiny-metric").path, photograph, tmp_path / "depth.png")
    scale = exported("tiny-metric").sidecar.model.metric.png_scale
    expected = encode.metric_to_uint16(predicted("native", "tiny-metric", "coffee").depth, scale)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "depth.png")), expected)


@pytest.mark.parametrize("classes", [7, 150, 255])
def test_a_palette_png_has_the_labels_and_colours_of_python(classes, tmp_path):
    labels = (np.arange(90 * 70).reshape(90, 70) % (classes + 1)).astype(np.uint16)
    native_library.load_library().call(
        "dpt_write_labels", str(tmp_path / "cpp.png").encode(), labels.ctypes.data, 90, 70, classes
    )
    write_labels(tmp_path / "python.png", labels, classes)
    found, expected = (Image.open(tmp_path / f"{name}.png") for name in ("cpp", "python"))
    assert (found.mode, found.getpalette()[: 3 * classes + 3]) == ("P", expected.getpalette()[: 3 * classes + 3])
    np.testing.assert_array_equal(np.asarray(found), np.asarray(expected))


# --- commands ---------------------------------------------------------------------------------------------------------


def test_verify_and_run_and_bench_take_it(tmp_path, capsys):
    artifact = copied(exported("tiny-vit"), tmp_path)
    matrix = ("--res", "64,64x96", "--batch", "1,2")
    assert json.loads(fine(capsys, "verify", artifact.path, "--runtime", "native", *matrix, "--json"))["verified"]
    photograph = write_ppm(tmp_path / "coffee.ppm", PHOTOS["coffee"]())
    fine(capsys, "run", artifact.path, photograph, "--runtime", "native", "-o", tmp_path / "depth.pfm")
    np.testing.assert_array_equal(read_pfm(tmp_path / "depth.pfm"), predicted("native", "tiny-vit", "coffee").depth)
    quick = ("--res", "64", "--seconds", "0.001", "--no-memory", "--no-photo", "--runtime", "native,ort")
    timed = json.loads(fine(capsys, "bench", artifact.path, *quick, "--json"))
    assert "native" in json.dumps(timed)


def test_verify_fails_for_a_network_that_computes_something_else(tmp_path, capsys):
    def spoil(graph):
        for weight in graph.graph.initializer:
            if weight.data_type == onnx.TensorProto.FLOAT and len(weight.dims) == 4:  # of every convolution
                values = onnx.numpy_helper.to_array(weight) * np.float32(1.1)
                weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    artifact = tampered(exported("tiny-vit"), tmp_path, spoil)
    assert call(["verify", str(artifact.path), "--runtime", "native", "--golden"]) == 5
    assert "FAIL" in capsys.readouterr().out.upper()


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_library_that_is_not_there_is_a_missing_extra(monkeypatch, tmp_path):
    monkeypatch.setenv("DPT_DEPLOY_LIBRARY", str(tmp_path / "libdpt.so"))
    with pytest.raises(MissingExtraError, match="cannot be loaded"):
        native_library.load_library()
    monkeypatch.delenv("DPT_DEPLOY_LIBRARY")
    monkeypatch.setattr(native_library, "_BUILT", tmp_path / "libdpt.so")
    monkeypatch.setattr(native_library, "find_library", lambda _name: None)
    with pytest.raises(MissingExtraError, match="not built") as error:
        native_library.load_library()
    assert "make cpp" in error.value.hint


@pytest.mark.parametrize("enter", [load, open_runner])
def test_an_engine_needs_a_library_with_tensorrt(enter, tmp_path):
    path = as_plan(copied(exported("tiny-vit"), tmp_path))
    expected = pytest.raises(MissingExtraError, match=r"kind 'plan' in this build \(it has: onnxruntime")
    with expected, enter(path, runtime="native"):
        pass


def test_a_library_of_another_version_is_incompatible(monkeypatch):
    monkeypatch.setattr(native_library, "version", lambda _name: "0.0.7")
    with pytest.raises(IncompatibleError, match=r"this package is 0\.0\.7"):
        native_library.Library(str(native_build() / "libdpt.so"))


def test_a_model_without_its_sidecar_is_a_bad_file(tmp_path):
    artifact = copied(exported("tiny-vit"), tmp_path)
    runner = NativeRunner(artifact.path, artifact.sidecar)
    write_sidecar(artifact.path.with_name("other.onnx"), artifact.sidecar)
    artifact.path.with_name(artifact.path.name + ".json").unlink()
    with pytest.raises(BadFileError, match="cannot read"), runner:
        pass


@pytest.mark.parametrize(
    "inputs",
    [
        {"image": np.zeros((1, 3, 64, 64), np.float32)},
        {"pixel_values": np.zeros((3, 64, 64), np.float32)},
        {"pixel_values": np.zeros((1, 3, 64, 64), np.float64)},
        {"pixel_values": np.zeros((1, 4, 64, 64), np.float32)},
        {"pixel_values": np.zeros((0, 3, 64, 64), np.float32)},
    ],
    ids=["name", "rank", "dtype", "channels", "empty"],
)
def test_an_input_that_does_not_fit_is_a_usage_error(inputs):
    with open_runner(exported("tiny-vit").path, "native") as runner:
        with pytest.raises(UsageError) as error:
            runner.infer(inputs)
        assert error.value.hint


def test_what_is_not_rgb_bytes_is_a_usage_error():
    with (
        load(exported("tiny-vit").path, runtime="native") as predictor,
        pytest.raises(UsageError, match="expected uint8"),
    ):
        predictor(np.zeros((8, 8), np.uint8))


def test_a_runner_outside_its_block_is_a_defect():
    runner = open_runner(exported("tiny-vit").path, "native")
    with pytest.raises(DptError, match="outside its 'with' block"):
        runner.infer({"pixel_values": np.zeros((1, 3, 64, 64), np.float32)})


# --- the sky, and metres by a focal length ----------------------------------------------------------------------------


def test_the_sky_is_filled_as_in_python():
    found, expected = both("tiny-sky", "coffee")
    raw = exported("tiny-sky").path
    with load(raw) as predictor:
        image = PHOTOS["coffee"]()
        outputs = predictor.infer_all(predictor.prepare(image))
    assert 0.05 < np.mean(outputs["sky"] >= 0.3) < 0.95
    assert found["sky"].std() > 0
    for name in ("predicted_depth", "sky"):
        np.testing.assert_array_equal(found[name], expected[name])
    unfilled = restore(outputs["predicted_depth"][0], Size(*image.shape[:2]), "bilinear")
    assert range_error(unfilled, expected.depth)[0] > 0.01


@pytest.mark.parametrize("focal", ["1000", "1234.5,987.25"])
def test_a_focal_length_gives_the_metres_of_python(focal, tmp_path):
    photograph = write_ppm(tmp_path / "coffee.ppm", PHOTOS["coffee"]())
    path = exported("tiny-sky").path
    lengths = tuple(map(float, focal.split(","))) if "," in focal else float(focal)
    metres = predicted("ort", "tiny-sky", "coffee").in_metres(lengths)
    for suffix in ("pfm", "png"):
        done(native_build() / "dpt_run", "--focal", focal, path, photograph, tmp_path / f"metres.{suffix}")
    np.testing.assert_array_equal(read_pfm(tmp_path / "metres.pfm"), metres.depth)
    scale = exported("tiny-sky").sidecar.model.png_scale
    assert (tmp_path / "metres.png").read_bytes() == grey16_png(encode.metric_to_uint16(metres.depth, scale))


@pytest.mark.parametrize(
    ("name", "focal", "text"),
    [
        ("tiny-vit", "1000", "returns no canonical depth"),
        ("tiny-sky", "0", "is no focal length"),
        ("tiny-sky", "1000,", "is no focal length"),
        ("tiny-sky", "wide", "is no focal length"),
        ("tiny-sky", "inf", "focal length is inf"),
    ],
)
def test_a_focal_length_that_means_nothing_is_refused(name, focal, text, tmp_path):
    photograph = write_ppm(tmp_path / "coffee.ppm", PHOTOS["coffee"]())
    command = [native_build() / "dpt_run", "--focal", focal, exported(name).path, photograph, tmp_path / "x.pfm"]
    found = run(*command)
    assert (found.returncode, text in found.stdout) == (2, True)
    assert not (tmp_path / "x.pfm").exists()
