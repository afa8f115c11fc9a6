"""``export --precision int8|fp8``: one calibration, verified artefacts, their accuracy report, and refusals."""

import json
from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import helper, numpy_helper
from support.faults.calling import complaint, fine
from support.tiny import copied, exported, exported_for_cpu, quick_accuracy, tampered, tiny_path, typed
from support.traces import traces_kept

from dpt_deploy.artifact.records import AccuracyRecord, FurtherAccuracy
from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.cli import call
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.runner import NoKernelError
from dpt_deploy.core.size import Size
from dpt_deploy.core.task import DEPTH, SCORES
from dpt_deploy.graph.analysis.describe import describe
from dpt_deploy.graph.analysis.opened import OpenedGraph
from dpt_deploy.graph.precision.qdq import quantise, targets, watched
from dpt_deploy.jobs.export import accuracy, budget
from dpt_deploy.jobs.export.accuracy import check_accuracy
from dpt_deploy.jobs.export.quantised import CalibrationTable
from dpt_deploy.runtime.onnxruntime import OrtRunner
from dpt_deploy.scenes.seeds import ACCURACY_SEARCH

ACCURACY = AccuracyRecord("2 rendered scenes", 2, "64", "ort", drift=0.02, sqnr=25.0, speedup=(1.5, 1.4, 1.6))


def twin(artifact):
    return open_artifact(artifact.path.with_name(artifact.sidecar.quantisation.twin))


def argv(folder, *more, precision="int8", name="tiny-vit"):
    what = ["--backbone", tiny_path(name), "--weights", "random", "--precision", precision, "--res", "64x96"]
    return ["export", *what, "-o", folder, *more]


def talk(capsys, *args):
    """Standard error of a call that succeeds."""
    assert call([str(arg) for arg in args]) == 0
    return capsys.readouterr().err


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid", "tiny-conv", "tiny-seg", "tiny-metric"])
def test_int8_comes_as_two_verified_artefacts_of_one_calibration(name, capsys):
    engine = exported(name, precision="int8")
    cpu = twin(engine)
    assert (engine.sidecar.precision, cpu.sidecar.precision) == ("int8", "int8-cpu")
    assert (engine.sidecar.parity.runtime, cpu.sidecar.parity.runtime) == ("emu", "ort")
    one, other = engine.sidecar.quantisation, cpu.sidecar.quantisation
    assert (one.clip, one.kept, one.method) == (other.clip, other.kept, other.method)
    assert twin(cpu).path == engine.path
    assert engine.sidecar.parity.verified
    assert cpu.sidecar.parity.verified
    assert np.isfinite(one.worth.drift)
    for artifact in (engine, cpu):
        assert call(["verify", str(artifact.path), "--res", "64x96", "--batch", "3"]) == 0


@pytest.mark.parametrize("name", ["tiny-hybrid", "tiny-seg"])
def test_fp8_is_verified_too(name, capsys):
    artifact = exported(name, precision="fp8")
    assert artifact.sidecar.parity.runtime == artifact.sidecar.quantisation.worth.runtime == "emu"
    assert artifact.sidecar.quantisation.worth.speedup is None
    assert call(["verify", str(artifact.path), "--res", "64", "--batch", "2"]) == 0


def test_onnx_runtime_computes_fp8_as_it_is_written(tmp_path):
    path = copied(exported("tiny-hybrid", precision="fp8"), tmp_path).path
    assert call(["verify", str(path), "--runtime", "ort", "--res", "64", "--batch", "2"]) == 0
    with pytest.raises(NoKernelError, match="float8"), OrtRunner(path):  # not known to be FP8: pairs are rewritten
        pass


def test_sums_of_products_of_8_bits_are_not_cut_at_16(tmp_path):
    """Kernels of processors without VNNI add two products in 16 bits, unless the session asks for exact ones."""
    numbers, weights = np.full((4, 64), 255, np.uint8), np.full((64, 8), 127, np.int8)
    two_products = 2 * 255 * 127
    assert two_products > np.iinfo(np.int16).max
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "one", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "one", "zero"], ["restored"]),
        helper.make_node("DequantizeLinear", ["weights", "one"], ["matrix"]),
        helper.make_node("MatMul", ["restored", "matrix"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "large", "zero"], ["stored_product"]),
        helper.make_node("DequantizeLinear", ["stored_product", "large", "zero"], ["y"]),
    ]
    large = np.float32(32 * two_products / 250)
    constants = {"one": np.float32(1), "zero": np.uint8(0), "large": large, "weights": weights}
    ends = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "sums", ends[:1], ends[1:], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), tmp_path / "a.onnx")
    with OrtRunner(tmp_path / "a.onnx") as runner:
        found = runner.infer({"x": numbers.astype(np.float32)})["y"]
    np.testing.assert_allclose(found, 32.0 * two_products, rtol=0.5 / 250)


def test_both_graphs_have_the_same_weights_and_the_one_with_an_offset_has_finer_steps():
    engine = exported("tiny-hybrid", precision="int8")
    tables, activations = [], []
    for artifact in (engine, twin(engine)):
        graph = onnx.load(artifact.path).graph
        values = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        steps = {}
        for node in graph.node:
            if node.op_type == "DequantizeLinear":
                steps[node.input[0]] = values[node.input[1]].astype(np.float32)
        tables.append({name: step for name, step in steps.items() if name in values})
        activations.append({name: step for name, step in steps.items() if name not in values})
    assert set(tables[0]) == set(tables[1])
    for name, step in tables[0].items():
        np.testing.assert_array_equal(step, tables[1][name])
    shared = set(activations[0]) & set(activations[1])
    ratios = np.array([activations[1][name] / activations[0][name] for name in shared])
    assert (ratios <= 1.01).all()
    assert (ratios < 0.6).any()  # behind a ReLU


def test_weights_are_counted_whatever_their_type(capsys):
    """Steps and zeros are none; two products may share a weight, and a weight may be there in both types."""
    wanted = describe(OpenedGraph(exported("tiny-vit").path)).parameters
    engine = exported("tiny-vit", precision="int8")
    for artifact in (engine, twin(engine)):
        assert describe(OpenedGraph(artifact.path)).parameters == wanted


def test_a_spoiled_step_fails_to_verify(tmp_path, capsys):
    def spoil(graph):
        for tensor in graph.graph.initializer:
            if tensor.name.startswith("fusion.1") and tensor.name.endswith(".step"):
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * 0.01, tensor.name))

    spoiled = tampered(twin(exported("tiny-vit", precision="int8")), tmp_path, spoil)
    assert call(["verify", str(spoiled.path), "--res", "64", "--batch", "1"]) == 5


def test_what_is_there_already_is_not_made_again_unless_it_was_asked_for_differently(tmp_path, capsys):
    with quick_accuracy(), traces_kept():
        assert "exporting" in talk(capsys, *argv(tmp_path))
        assert talk(capsys, *argv(tmp_path)).count("is up to date") == 2
        assert "exporting" in talk(capsys, *argv(tmp_path, "--method", "percentile"))
        (tmp_path / "tiny-vit-int8-cpu.onnx").unlink()
        assert "exporting" in talk(capsys, *argv(tmp_path, "--method", "percentile"))


def test_the_command_reports_accuracy_and_speed(tmp_path, capsys):
    with quick_accuracy((1.25, 1.2, 1.3)):
        out = fine(capsys, *argv(tmp_path))
        printed = json.loads(fine(capsys, *argv(tmp_path, "--json")))
    assert "int8-cpu compared with fp32: 2 rendered scenes" in out
    assert "SQNR" in out
    assert "1.25 times fp32 with ort on this machine (95 %: 1.20-1.30)" in out
    assert printed["worth"]["runtime"] == "emu"
    assert printed["twin"]["worth"]["speedup"] == [1.25, 1.2, 1.3]


def test_what_is_slower_is_not_written_unless_forced(tmp_path, capsys):
    with quick_accuracy((0.5, 0.4, 0.6)):
        said = complaint(capsys, 5, *argv(tmp_path))
        assert "int8-cpu is no gain: 0.50 times as fast as fp32" in said
        assert not list(tmp_path.iterdir())
        fine(capsys, *argv(tmp_path, "--force"))
    with quick_accuracy((0.9, 0.7, 1.1)):  # the interval reaches 1: nothing is proven
        fine(capsys, *argv(tmp_path / "unsure"))


def test_the_speed_is_that_of_two_sessions_turn_by_turn(monkeypatch):
    monkeypatch.setattr(accuracy, "SECONDS", 0.01)
    full = exported("tiny-vit")
    inputs = {full.sidecar.inputs[0].name: np.zeros((1, 3, 64, 64), np.float32)}
    samples = accuracy.Samples("none", Size(64, 64), (accuracy.SampleImage(np.zeros((1, 64, 64, 3), np.uint8)),))
    bench = accuracy.AccuracyBench(full.path, samples, lambda _pixels: inputs, (DEPTH,))
    median, low, high = bench.speedup(full.path)
    assert 0 < low <= median <= high
    same = bench.compare(full.path, "ort")
    assert (same.drift, same.sqnr) == (0.0, None)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (replace(ACCURACY, drift=float("inf")), "not finite"),
        (replace(ACCURACY, drift=0.06), "changes the result by 6.00%"),
        (replace(ACCURACY, abs_rel=(0.1, 0.12)), "changes the result by 20.00%"),
        (replace(ACCURACY, speedup=(0.9, 0.8, 0.95)), "no gain"),
    ],
)
def test_what_is_refused(found, message):
    check_accuracy("int8", ACCURACY, 0.05, allow_poor=False)
    with pytest.raises(ParityError, match=message):
        check_accuracy("int8", found, 0.05, allow_poor=False)


def test_much_noise_is_refused_unless_a_budget_or_force_allows_it():
    noisy = replace(ACCURACY, sqnr=9.9)
    with pytest.raises(ParityError, match=r"keeps 9.9 dB .* at least 10 dB"):
        check_accuracy("int8", noisy, None, allow_poor=False)
    check_accuracy("int8", ACCURACY, None, allow_poor=False)
    check_accuracy("int8", noisy, 0.05, allow_poor=False)
    check_accuracy("int8", noisy, None, allow_poor=True)


@pytest.mark.parametrize(
    ("further", "limit", "message"),
    [
        (FurtherAccuracy("scores", 0.01, 9.9), None, "keeps 9.9 dB"),
        (FurtherAccuracy("scores", 0.06, 40.0), 0.05, "changes the result by 6.00%"),
        (FurtherAccuracy("scores", float("inf"), 40.0), None, "not finite"),
    ],
)
def test_a_further_output_below_the_limit_is_refused_although_the_first_is_good(further, limit, message):
    good = replace(ACCURACY, further=(replace(further, drift=0.01, sqnr=40.0),))
    check_accuracy("int8", good, limit, allow_poor=False)
    with pytest.raises(ParityError, match=message):
        check_accuracy("int8", replace(ACCURACY, further=(further,)), limit, allow_poor=False)


def test_each_output_is_compared_with_its_own(monkeypatch):
    """The second output is spoiled: only its own record shows it."""
    depth = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)
    logits = np.random.default_rng(1).random((1, 3, 8, 8), dtype=np.float32)
    outputs = {"full": [[depth], [logits]], "spoiled": [[depth], [logits + np.float32(1) * (logits > 0.5)]]}
    monkeypatch.setattr(accuracy.AccuracyBench, "_outputs", lambda _self, path, _runtime: outputs[path])
    samples = accuracy.Samples("none", Size(8, 8), (accuracy.SampleImage(np.zeros((1, 8, 8, 3), np.uint8), None),))
    bench = accuracy.AccuracyBench("full", samples, dict, (DEPTH, SCORES))
    found = bench.compare("spoiled", "ort")
    assert found.drift == 0.0
    assert found.further[0].task == "scores"
    assert found.least_sqnr == found.further[0].sqnr < 10.0
    assert found.change == found.further[0].drift


@pytest.mark.parametrize("precision", ["int8-cpu", "int8-openvino"])
def test_the_file_for_openvino_rounds_the_image_too(precision):
    if precision == "int8-openvino":
        pytest.importorskip("openvino", reason="the extra openvino is not installed")
    artifact = typed("tiny-conv", precision)
    first = next(node for node in onnx.load(artifact.path).graph.node if node.op_type == "Conv")
    rounded = first.input[0] == "pixel_values.restored"
    assert (rounded, first.name in artifact.sidecar.quantisation.kept) == (
        (True, False) if precision == "int8-openvino" else (False, True)
    )


# --- the budget -------------------------------------------------------------------------------------------------------


def test_a_budget_keeps_the_blocks_that_harm_most(tmp_path, monkeypatch):
    """One block is made to harm: the search must name it, and keep little else."""
    original = accuracy.AccuracyBench.compare
    spoiler = "fusion.2.unit.conv1"

    def measured(self, path, runtime):
        found = original(self, path, runtime)
        node = next(node for node in onnx.load(path).graph.node if node.name == f"{spoiler}/Conv")
        made = {output: each.op_type for each in onnx.load(path).graph.node for output in each.output}
        harmed = made.get(node.input[1]) == "DequantizeLinear"
        return replace(found, drift=0.5 if harmed else 0.001, sqnr=0.0 if harmed else 40.0)

    monkeypatch.setattr(accuracy.AccuracyBench, "compare", measured)
    artifact, lines = exported_for_cpu(tmp_path, budget=0.01)
    kept = artifact.sidecar.quantisation.kept
    assert {name for name, why in kept.items() if "more than 1.00%" in why} == {
        "fusion.2.unit.conv1/Conv",
        "fusion.2.unit.conv2/Conv",
    }
    assert any(line.startswith("kept: fusion.2.unit (1 of") for line in lines)


@pytest.mark.parametrize(("precision", "scores"), [("int8-openvino", ["Attention"]), ("int8-cpu", [])])
def test_attention_belongs_to_the_block_of_its_projections(precision, scores):
    table = CalibrationTable(None, {}, {}, {}, {}, {})
    blocks = budget._Variants(ir.load(exported("tiny-vit").path), precision, table, None).blocks
    assert "encoder.blocks.0" not in blocks
    assert blocks["encoder.blocks.0.attn"] == [
        *(f"encoder.blocks.0.attn.{name}/MatMul" for name in ("qkv", "proj")),
        *(f"encoder.blocks.0.attn/{name}" for name in scores),
    ]


def test_images_that_chose_nothing_have_the_last_word(tmp_path, monkeypatch):
    """Four blocks harm. The images of the search bear three of them, so that keeping one is enough; the others one."""
    original = accuracy.AccuracyBench.compare
    scenes = accuracy.from_scenes(Size(96, 96), truth=False, first=ACCURACY_SEARCH.start).images
    chosen_on = {scene.pixels.tobytes() for scene in scenes}

    def measured(self, path, runtime):
        graph = onnx.load(path).graph
        made = {output: node.op_type for node in graph.node for output in node.output}
        quantised = {
            node.name.partition(".unit")[0]
            for node in graph.node
            if ".unit.conv1/" in node.name and made.get(node.input[1]) == "DequantizeLinear"
        }
        borne = 3 if self._samples.images[0].pixels.tobytes() in chosen_on else 1
        over = len(quantised) > borne
        return replace(original(self, path, runtime), drift=0.5 if over else 0.001, sqnr=0.0 if quantised else 90.0)

    monkeypatch.setattr(accuracy.AccuracyBench, "compare", measured)
    artifact, lines = exported_for_cpu(tmp_path, budget=0.01)
    disagreed = [line for line in lines if "changes by 50.00% on held-out images; keeping one more" in line]
    assert len(disagreed) == 2, lines
    kept = {name.partition(".unit")[0] for name in artifact.sidecar.quantisation.kept if ".unit.conv1/" in name}
    assert len(kept) == 3


def test_a_budget_that_cannot_be_met_is_refused_and_the_best_is_reported(tmp_path, capsys, monkeypatch):
    original = accuracy.AccuracyBench.compare
    monkeypatch.setattr(accuracy.AccuracyBench, "compare", lambda *args: replace(original(*args), drift=0.3))
    with quick_accuracy(), traces_kept():
        said = complaint(capsys, 5, *argv(tmp_path, "--budget", "0.01", precision="fp8"))
    assert "changes the result by 30.00% with every block left unquantised" in said
    assert not list(tmp_path.iterdir())


def test_a_budget_that_is_met_at_once_costs_no_search(tmp_path, monkeypatch):
    monkeypatch.setattr(budget._Variants, "by_harm", None)
    artifact, _ = exported_for_cpu(tmp_path, budget=0.9)
    assert artifact.sidecar.quantisation.budget == 0.9


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int4"), "available: fp32, fp16, bf16, int8, int8-cpu, int8-openvino, fp8"),
        (("--precision", "int8", "--method", "guess"), "known: min-max, percentile, mse, entropy"),
        (("--precision", "int8", "--budget", "7"), "not a share"),
        (("--precision", "fp16", "--budget", "0.1"), "--budget limits the loss of quantisation"),
        (("--precision", "fp16", "--method", "mse"), "fp16 has none"),
    ],
)
def test_mistakes_in_the_options(options, message, tmp_path, capsys):
    what = ["export", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "-o", str(tmp_path / "out"), *options]
    assert message in complaint(capsys, 2, *what)


def test_a_calibration_counts_every_tensor_that_is_quantised():
    artifact = exported("tiny-hybrid", precision="int8")
    model = ir.load(exported("tiny-hybrid").path)
    table = artifact.sidecar.quantisation
    assert set(watched(model, table.kept)) == set(table.clip)
    assert all(value > 0 for value in table.clip.values())
    done = quantise(model, "int8", table.clip, table.kept)
    assert done.nodes == len(targets(ir.load(exported("tiny-hybrid").path))) - len(table.kept)
