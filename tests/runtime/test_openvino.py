"""OpenVINO on a CPU: the numbers of our files, the types it computes in, and the graphs that it computes wrong."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from support.faults.calling import complaint, fine
from support.tiny import TINY, copied, exported, quick_accuracy, tampered, tiny_recipe, typed
from support.traces import traces_kept

pytest.importorskip("openvino", reason="the extra openvino is not installed")

import openvino

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.core import environment
from dpt_deploy.core.errors import BadFileError, IncompatibleError, UsageError
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.jobs.common.inputs import model_inputs, parity_images
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.jobs.export import correction
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.export import export_model
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.jobs.verify.verify import verify_artifact
from dpt_deploy.measure.bootstrap import Estimate
from dpt_deploy.measure.metrics import range_error
from dpt_deploy.model.checkpoints.read import read_checkpoint
from dpt_deploy.model.random_weights import random_model
from dpt_deploy.runtime import openvino as module

BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif(not BF16, reason="this processor has no BF16")
SIZES = (Size(64, 64), Size(64, 96), Size(96, 160))


def quantised(name, folder):
    """Copies of the two 8-bit artefacts of a tiny recipe, for engines and for CPUs."""
    return [copied(typed(name, precision), folder) for precision in ("int8", "int8-cpu")]


def outputs(artifact, runtime):
    inputs = model_inputs(artifact.sidecar, parity_images(artifact.sidecar.precision, 2, Size(64, 96)))
    with open_runner(artifact, runtime) as runner:
        return runner.infer(inputs)


@pytest.mark.parametrize("name", TINY)
def test_fp32_agrees_with_pytorch_at_every_size(name, tmp_path):
    found = verify_artifact(copied(exported(name), tmp_path).path, res=SIZES, batch=(1, 3), runtime="openvino")
    assert found.comparison.passed
    assert found.artifact.sidecar.parity.runtime == "openvino"
    assert "openvino" in found.artifact.sidecar.parity.tools


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-conv", "tiny-seg"])
def test_both_kinds_of_8_bits_agree_with_pytorch(name, tmp_path):
    for artifact in quantised(name, tmp_path):
        assert verify_artifact(artifact.path, res=SIZES, batch=(1, 2), runtime="openvino").comparison.passed


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-conv"])
def test_8_bits_of_the_shipped_weights_agree_with_pytorch(name, tmp_path):
    """With trained weights OpenVINO was wrong by most of the range in earlier files, with random ones by little."""
    request = ExportRequest(load_recipe(name), precision="int8", res=(Size(128, 128),))
    with quick_accuracy():
        engine = export_model(request, tmp_path).artifact
    twin = open_artifact(engine.path.with_name(engine.sidecar.quantisation.twin))
    for artifact in (engine, twin):
        assert verify_artifact(artifact.path, res=(Size(128, 192),), batch=(2,), runtime="openvino").comparison.passed


@needs_bf16
@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid"])
def test_bf16_loses_no_more_than_pytorch_in_bf16_and_is_never_silent(name, tmp_path):
    artifact = copied(exported(name), tmp_path)
    found = verify_artifact(artifact.path, res=SIZES[:1], batch=(1,), runtime="openvino-bf16")
    assert found.comparison.passed
    (case,) = found.comparison.cases
    assert case.held_to is not None  # the tolerance of FP32 is not met
    assert case.max > artifact.sidecar.outputs[0].tolerance.max
    full, narrow = outputs(artifact, "openvino"), outputs(artifact, "openvino-bf16")
    assert all(range_error(narrow[key], full[key])[0] > 1e-4 for key in full)


@needs_bf16
def test_a_wrong_network_is_not_excused_by_bf16(tmp_path):
    def halve(graph):
        for tensor in graph.graph.initializer:
            if tensor.name.startswith("fusion.0.out_conv.weight"):
                values = onnx.numpy_helper.to_array(tensor)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values / 2, tensor.name))

    artifact = tampered(exported("tiny-vit"), tmp_path, halve)
    found = verify_artifact(artifact.path, res=SIZES[:1], batch=(1,), runtime="openvino-bf16")
    assert not found.comparison.passed


def test_a_processor_without_bf16_refuses_it(monkeypatch):
    monkeypatch.setattr(module, "_capabilities", lambda _core: {"F32", "INT8"})
    with pytest.raises(IncompatibleError, match="has no BF16"), open_runner(exported("tiny-vit"), "openvino-bf16"):
        pass


def _without_added_biases(graph):
    """The form of earlier files: convolutions whose bias changes nothing have none."""
    least = float(np.finfo(np.float16).smallest_subnormal)
    idle = {
        tensor.name
        for tensor in graph.graph.initializer
        if tensor.name.startswith("neck.") and np.all(onnx.numpy_helper.to_array(tensor) == least)
    }
    for node in graph.graph.node:
        if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in idle:
            del node.input[2]


def test_a_graph_that_openvino_computes_wrong_is_refused(tmp_path, monkeypatch):
    # Corrections of biases, which win on some processors, would hide the biases that change nothing.
    monkeypatch.setattr(correction, "loss_ratio", lambda *_: Estimate(1.0, 1.0, 1.0))
    request = ExportRequest(tiny_recipe("tiny-vit"), weights="random", precision="int8", res=(Size(64, 96),))
    with quick_accuracy(), traces_kept():
        ours = export_model(request, tmp_path / "ours").artifact
    earlier = tampered(ours, tmp_path, _without_added_biases)
    assert open_artifact(earlier.path).path.read_bytes() != ours.path.read_bytes()
    with pytest.raises(IncompatibleError, match=r"quantised, has no bias"), open_runner(earlier, "openvino"):
        pass
    monkeypatch.setattr(module, "refuse_wrong", lambda *_: None)
    monkeypatch.setattr(module, "FIXED_SIZES", 0)  # graphs of one size are computed right
    expected = outputs(ours, "emu")["predicted_depth"]
    _, right = range_error(outputs(ours, "openvino")["predicted_depth"], expected)
    monkeypatch.setattr(module, "sums_8_bits_in_16", lambda: False)  # the defect is one of its integer kernels
    _, wrong = range_error(outputs(earlier, "openvino")["predicted_depth"], expected)
    assert wrong > 3 * right  # once it is computed right, neither the bias nor the refusal is needed any more
    _, flips = range_error(outputs(earlier, "emu")["predicted_depth"], expected)
    assert flips < right / 100  # the biases change nothing else than a rounding here and there


def test_its_own_8_bit_file_is_exported_verified_and_run_in_it():
    artifact = exported("tiny-vit", precision="int8-openvino")
    assert artifact.sidecar.parity.runtime == artifact.sidecar.quantisation.worth.runtime == "openvino"
    assert default_runtime(artifact.sidecar) == "openvino"
    assert verify_artifact(artifact.path, res=SIZES, batch=(1, 2)).comparison.passed
    _, mean = range_error(outputs(artifact, "openvino")["predicted_depth"], outputs(artifact, "ort")["predicted_depth"])
    assert mean < 0.01  # another program reads the same numbers in the file


def test_it_runs_an_image(tmp_path, capsys):
    pytest.importorskip("cv2")
    photograph = module.Path(__file__).parents[2] / "dpt_deploy/data/photographs/coffee.jpg"
    path = exported("tiny-vit").path
    fine(capsys, "run", path, photograph, "--runtime", "openvino", "-o", tmp_path / "a.pfm")
    fine(capsys, "run", path, photograph, "--runtime", "ort", "-o", tmp_path / "b.pfm")
    first, second = ((tmp_path / name).read_bytes() for name in ("a.pfm", "b.pfm"))
    assert len(first) == len(second)
    values = [np.frombuffer(data[-4 * 4096 :], "<f4") for data in (first, second)]
    assert np.abs(values[0] - values[1]).max() <= 1e-4 * np.ptp(values[1])


def test_inputs_that_do_not_fit_are_refused():
    artifact = exported("tiny-vit")
    good = model_inputs(artifact.sidecar, parity_images("fp32", 1, Size(64, 64)))["pixel_values"]
    with open_runner(artifact, "openvino") as runner:
        for inputs in ({"other": good}, {"pixel_values": good.astype(np.float64)}, {"pixel_values": good[:, :2]}):
            with pytest.raises(UsageError, match="does not accept"):
                runner.infer(inputs)
        kept = runner.infer({"pixel_values": good})["predicted_depth"]
        before = kept.copy()
        runner.infer({"pixel_values": good * 0.5})
        assert np.array_equal(kept, before)  # the array belongs to the caller


@pytest.mark.parametrize(("runtime", "step"), [("ort", 0.0), ("openvino", 1e-5)])
def test_as_many_threads_as_streams_compute_at_once(runtime, step):
    artifact = exported("tiny-vit")
    given = model_inputs(artifact.sidecar, parity_images("fp32", 1, Size(64, 96)))["pixel_values"]
    alone = outputs_of(artifact, runtime, [given, given * 0.5] * 4, streams=1)
    together = outputs_of(artifact, runtime, [given, given * 0.5] * 4, streams=2)
    assert all(np.abs(one - two).max() <= step * np.ptp(one) for one, two in zip(alone, together, strict=True))
    assert np.array_equal(together[0], together[2])
    assert not np.array_equal(together[0], together[1])


def outputs_of(artifact, runtime, inputs, streams):
    """Predictions of several inputs, asked for by twice as many threads as there are streams."""
    with open_runner(artifact, runtime, streams=streams) as runner, ThreadPoolExecutor(2 * streams) as pool:
        assert runner.streams == streams
        assert runtime == "ort" or runner.settings["hint"] == ("LATENCY" if streams == 1 else "THROUGHPUT")
        return [each["predicted_depth"] for each in pool.map(lambda x: runner.infer({"pixel_values": x}), inputs)]


def test_a_file_of_one_size_runs(tmp_path):
    artifact = copied(exported("tiny-vit", static=Size(64, 96)), tmp_path)
    found = verify_artifact(artifact.path, runtime="openvino").comparison
    assert found.passed
    assert {(str(case.size), case.batch) for case in found.cases} == {("64x96", 1)}


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-seg"])
@pytest.mark.parametrize("precision", ["fp32", "int8-openvino"])
def test_the_first_sizes_get_a_graph_each_and_others_one_for_any(name, precision):
    artifact = exported(name, precision=precision)
    sizes = [Size(64, 96), Size(96, 64), Size(96, 160), Size(64, 64)]
    given = [model_inputs(artifact.sidecar, parity_images(precision, 1, size)) for size in sizes]
    with open_runner(artifact, "openvino") as runner:
        first = [(runner.infer(each), runner.settings["compiled for"]) for each in given]
        again = [runner.infer(each) for each in given]
        assert len(runner._graphs) == module.FIXED_SIZES + 1
    assert [sizes for _, sizes in first] == ["one size", "one size", "any size", "any size"]
    with open_runner(artifact, "openvino") as runner:
        backwards = [runner.infer(each) for each in given[::-1]][::-1]
    tolerance = 1e-4 if precision == "fp32" else 0.02  # 8 bits: numbers near the middle of a step round either way
    for (values, _), same, other in zip(first, again, backwards, strict=True):
        for key in values:
            assert np.array_equal(values[key], same[key])
            assert range_error(other[key], values[key])[1] < tolerance


def test_a_size_that_is_ready_does_not_wait_for_one_that_is_compiled():
    artifact = exported("tiny-vit")
    ready, other = (model_inputs(artifact.sidecar, parity_images("fp32", 1, Size(64, side))) for side in (64, 96))
    with open_runner(artifact, "openvino") as runner, ThreadPoolExecutor(2) as pool:
        runner.infer(ready)
        with runner._compiling:  # as if a graph were being compiled
            waiting = pool.submit(runner.infer, other)
            assert pool.submit(runner.infer, ready).result(timeout=60)
            assert not waiting.done()
        assert waiting.result(timeout=60)


def test_settings_can_be_read_before_the_first_run():
    with open_runner(exported("tiny-vit"), "openvino") as runner:
        assert runner.settings["compiled for"] == "any size"


@pytest.mark.parametrize(("side", "resizes"), [(192, 0), (160, 1)])
def test_the_training_size_has_no_resize_of_positions(side, resizes):
    recipe = load_recipe("tiny")  # a smaller table is folded by the exporter
    graph = fp32_graph(random_model(recipe.model), ExportRequest(recipe, static=Size(side, 192))).graph
    assert sum(node.op_type == "Resize" and "position" in node.name for node in graph) == resizes


@pytest.mark.parametrize("runtime", ["ort", "openvino"])
def test_a_path_that_is_no_text_is_refused_as_such(runtime, tmp_path):
    folder = tmp_path / "bad\udcff"
    artifact = copied(exported("tiny-vit"), folder)
    with pytest.raises(UsageError, match="no UTF-8 text"), open_runner(artifact, runtime):
        pass
    with pytest.raises(UsageError, match="no UTF-8 text"):
        read_checkpoint(folder / "weights.pt")


def test_what_is_no_graph_is_refused(tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"no graph")
    with pytest.raises(BadFileError, match=r"OpenVINO .* cannot load"), open_runner(tmp_path / "a.onnx", "openvino"):
        pass


def test_compiled_graphs_are_kept_only_in_a_folder_of_the_user(tmp_path, monkeypatch, capsys):
    artifact = exported("tiny-vit")
    expected = outputs(artifact, "openvino")["predicted_depth"]
    monkeypatch.setenv(module.CACHE_VARIABLE, str(tmp_path / "kept"))
    for _ in range(2):
        assert np.array_equal(outputs(artifact, "openvino")["predicted_depth"], expected)
        assert list((tmp_path / "kept").glob("*.blob"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    monkeypatch.setenv(module.CACHE_VARIABLE, str(tmp_path / "shared"))
    assert "can be written by other users" in complaint(
        capsys, 2, "verify", artifact.path, "--golden", "--runtime", "openvino"
    )


def test_nothing_is_sent_or_stored_at_home(tmp_path):
    """OpenVINO installs a telemetry package, which its runtime does not use."""
    code = (
        "import socket, sys\n"
        "def refuse(*_):\n    raise SystemExit('a connection was opened')\n"
        "socket.socket.connect = refuse\n"
        "from dpt_deploy.cli import main\n"
        "main()\n"
    )
    argv = ["verify", str(exported("tiny-vit").path), "--golden", "--runtime", "openvino"]
    home = tmp_path / "home"
    home.mkdir()
    environment = {**os.environ, "HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code, *argv], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert not list(home.iterdir())


@pytest.mark.parametrize(
    ("flags", "mode"),
    [(["avx2"], False), (["avx2", "avx512_vnni"], None), (["avx2", "avx_vnni"], None), ([], None)],
    ids=["no VNNI", "AVX-512 VNNI", "AVX VNNI", "unknown"],
)
def test_sums_of_8_bits_are_not_cut(flags, mode, monkeypatch):
    """OpenVINO's integer kernels add two products in 16 bits where the processor has no unit for them."""
    monkeypatch.setattr(environment, "cpu_flags", lambda: flags)
    runner = module.OpenVinoRunner(exported("tiny-vit").path)
    assert runner._config().get("LP_TRANSFORMS_MODE") is mode
    with runner:  # OpenVINO knows the property
        assert runner.inputs


CLOSED_IN_ORDER = """
import os, signal, sys
import numpy as np
from pathlib import Path
from dpt_deploy.runtime.openvino import OpenVinoRunner

signal.signal(signal.SIGINT, lambda *_: print("handled"))
runners = [OpenVinoRunner(Path(sys.argv[1])).__enter__() for _ in range(2)]
for runner in runners:
    runner.infer({"pixel_values": np.zeros((1, 3, 64, 64), np.float32)})
while runners:
    runners.pop(0).__exit__(None, None, None)
del runner
os.kill(os.getpid(), signal.SIGINT)
"""


def test_signals_are_handled_after_two_models_were_closed_in_order():
    """Closing two cores of OpenVINO 2026.4 in order leaves a stack for signals that is gone, on processors with AMX."""
    command = [sys.executable, "-X", "faulthandler", "-c", CLOSED_IN_ORDER, str(exported("tiny-vit").path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (0, "handled\n")
