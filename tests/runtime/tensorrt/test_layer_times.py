"""The time of each layer: taken through the profiler, put to precisions, casts and the rest, and shown."""

import gc
import json

import pytest

pytest.importorskip("cuda.core", reason="cuda-core is not installed: pip install -e '.[trt]'")

from dataclasses import replace

from support import engine_checks
from support.fake_gpu import SHAPES, engine_record, freed_at_the_end, mean, runner_factory
from support.fake_inspector import layer

from dpt_deploy.artifact.records import AuditRecord, LayerTimes
from dpt_deploy.cli.shared.engine_tables import engine_rows
from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import ParityError, ResourceError, UsageError
from dpt_deploy.engine.audit import check_audit
from dpt_deploy.engine.inspection import audit_engine

INPUTS = {"pixel_values": engine_checks.images(*SHAPES[0])}


@pytest.fixture
def make(monkeypatch, tmp_path):
    with freed_at_the_end():
        yield runner_factory(monkeypatch, tmp_path)


# --- through the profiler ---------------------------------------------------------------------------------------------


def test_the_mean_of_what_is_reported_comes_out_by_name(make):
    runner, _, trt = make()
    trt.reported[:] = [("x", 0.25), ("y", 0.5), ("x", 0.25)]  # a name twice in one run is one layer in two parts
    with runner:
        assert runner.layer_seconds(INPUTS, runs=3) == {"x": 0.5, "y": 0.5}


def test_the_profiler_stands_on_a_context_of_its_own_that_goes_with_it(make):
    runner, cuda, trt = make()
    with runner:
        runner.infer(INPUTS)
        held, engine = len(cuda.held), trt.engines[0]
        runner.layer_seconds(INPUTS)
        first, profiled = engine.contexts
        assert (first.profiler, profiled.profiler is not None, profiled.ran) == (None, True, True)
        assert (len(cuda.held), cuda.graphs, cuda.launches) == (held, {}, 0)
        del profiled, engine.contexts[1:]
        gc.collect()
        assert len(engine.alive) == 1


def test_runs_before_the_profiler_are_not_counted_and_later_ones_replay(make):
    runner, cuda, trt = make()
    runs = []
    trt.costs.run = lambda profile: runs.append(profile) or 0.0
    with runner:
        runner.layer_seconds(INPUTS, runs=4)
        assert len(runs) > 4
        engine_checks.agree(runner, mean, SHAPES, 0)
    assert cuda.launches == 3 * len(SHAPES)


def test_layers_are_timed_between_other_runs(make):
    runner, _, trt = make()
    trt.reported[:] = [("x", 0.25), ("y", 0.5)]
    with runner:
        engine_checks.layers_are_timed_apart(runner, mean, SHAPES, 0)


def test_a_library_that_reports_nothing_gives_nothing(make):
    runner, _, trt = make()
    with runner:
        assert runner.layer_seconds(INPUTS) == {}
        assert trt.engines[0].contexts[0].profiler.made


def test_what_cannot_be_measured_is_refused(make):
    runner, cuda, trt = make()
    with runner:
        with pytest.raises(UsageError, match="0 runs cannot be timed"):
            runner.layer_seconds(INPUTS, runs=0)
        with pytest.raises(UsageError, match="its profiles"):
            runner.layer_seconds({"pixel_values": engine_checks.images(1, 96, 96)})
        trt.engines[0].contexts_left, held = 0, len(cuda.held)
        with pytest.raises(ResourceError, match="no memory for another context"):
            runner.layer_seconds(INPUTS)
        assert len(cuda.held) == held


# --- put to what layers compute in ------------------------------------------------------------------------------------

LAYERS = [
    layer("gemm", "product", "Float", ["Half", "Half"]),
    layer("kgen", "norm", "Float", ["Float", "Half"]),
    layer("kgen", "__mha_v2", "Half", ["Half"]),
    layer("Reformat", "reformat", "Half", ["Float"]),
    layer("kgen", "__myl_CastResh_myl0_1", "Half", ["Float"]),
    layer("kgen", "__myl_CastMul_myl0_2", "Half", ["Half"]),
    layer("Quantize", "q", "Int8", ["Half"]),
    layer("Shape", "shape", "Int64"),
    layer("gemm", "twice", "Half"),
    layer("gemm", "twice", "Float"),
]
SECONDS = {
    "product": 8.0,
    "norm": 2.0,
    "__mha_v2": 4.0,
    "reformat": 0.5,
    "__myl_CastResh_myl0_1": 1.5,
    "__myl_CastMul_myl0_2": 1.0,
    "q": 0.25,
    "shape": 0.125,
    "twice": 0.0625,
    "somebody": 0.5,
}


def audited(layers=LAYERS, seconds=SECONDS, **options):
    return audit_engine(json.dumps({"Layers": layers}), seconds, shape="64 batch 1", **options)


def test_each_layers_time_goes_to_its_kind():
    assert audited().times == LayerTimes(
        "64 batch 1",
        {"fp16": 13.0, "fp32": 2.0},
        casts=2.0,
        qdq=0.25,
        attention=4.0,
        other=0.125,
        unknown=0.5625,
        dearest={"__myl_CastResh_myl0_1": 1.5, "reformat": 0.5},
    )
    assert audited().times.total == sum(SECONDS.values())


def test_shares_go_by_time_where_it_was_measured():
    found = audited()
    assert (found.basis, found.share("fp16"), found.share("fp32")) == ("time", 13 / 15, 2 / 15)
    assert replace(found, times=None).basis == "layers"
    assert replace(found, times=None, operations={"fp32": 3}).basis == "arithmetic"


PRODUCTS = {
    "fp32 sum of halves": (layer("gemm", "x", "Float", ["Half", "Half"]), "fp16"),
    "fp32 sum of bf16": (layer("gemm", "x", "Float", ["BFloat16", "BFloat16"]), "bf16"),
    "eight bits next to a residual": (layer("CaskConvolution", "x", "Half", ["Row major Int8 format", "Half"]), "int8"),
    "fp32 operands, half result": (layer("gemm", "x", "Half", ["Float", "Float"]), "fp32"),
    "an image of bytes": (layer("CaskConvolution", "x", "Float", ["UInt8", "Float"]), "fp32"),
    "pointwise, widened": (layer("kgen", "x", "Float", ["Half"]), "fp16"),
    "pointwise, mixed": (layer("kgen", "conv/Add", "Float", ["Half", "Float"]), "fp32"),
    "pointwise, narrowed": (layer("kgen", "x", "Half", ["Float"]), "fp16"),
    "inputs not listed": (layer("gemm", "x", "BFloat16"), "bf16"),
}


@pytest.mark.parametrize(("entry", "precision"), PRODUCTS.values(), ids=PRODUCTS)
def test_a_kernel_counts_by_its_operands(entry, precision):
    assert audited([entry], {"x": 1.0}).layers == {precision: 1}


def test_an_engine_that_spends_its_time_in_fp32_is_refused_whatever_its_layers_say():
    layers = [layer("gemm", str(index), "Half") for index in range(9)] + [layer("gemm", "large", "Float")]
    seconds = dict.fromkeys(map(str, range(9)), 0.1) | {"large": 2.1}
    check_audit(audited(layers, {}), "fp16", "x.plan")
    with pytest.raises(ParityError, match=r"named fp16 but spends 70 % of its time in fp32 \(fp16 30 %, fp32 70 %\)"):
        check_audit(audited(layers, seconds), "fp16", "x.plan")
    seconds["large"] = 0.1
    with pytest.raises(ParityError, match="named int8 but spends none of its time in int8"):
        check_audit(audited(layers, seconds), "int8", "x.plan")


def test_many_small_layers_of_fp32_do_no_harm():
    layers = [layer("kgen", str(index), "Float") for index in range(9)] + [layer("gemm", "large", "Half")]
    check_audit(audited(layers, dict.fromkeys(map(str, range(9)), 0.1) | {"large": 2.1}), "fp16", "x.plan")


def test_time_that_is_mostly_of_unknown_layers_is_no_evidence():
    found = audited([layer("gemm", "a", "Half"), layer("gemm", "b", "Half")], {"a": 1.0, "other name": 1.5})
    assert (found.times.unknown, found.times.is_meaningful, found.basis) == (1.5, False, "layers")
    assert audited(seconds={"reformat": 1.0}).basis == "layers"


def test_without_times_the_reason_is_kept_and_layers_count():
    found = audited(seconds={}, untimed="it is silent")
    assert (found.times, found.untimed, found.basis) == (None, "it is silent", "layers")
    assert audited(untimed="not so").untimed == ""


def test_sidecars_from_before_times_still_load():
    old = {"method": "engine", "layers": {"fp16": 1}, "operations": {}, "attention": {"whole": 0}}
    assert decode(AuditRecord, old).times is None


# --- shown ------------------------------------------------------------------------------------------------------------


def shown(audit):
    return dict(engine_rows(engine_record(audit=audit)))


def test_the_table_says_where_the_time_goes_and_which_casts_cost():
    rows = shown(audited(seconds={name: each / 1e3 for name, each in SECONDS.items()}))
    assert rows["computes in"].startswith("fp16 86.7 %, fp32 13.3 % of the computing time; ")
    assert rows["time of layers"].startswith("17.938 ms a run at 64 batch 1: 83.6 % computing, 11.1 % casts and ")
    assert "3.1 % in layers unknown to the inspector" in rows["time of layers"]
    assert rows["casts and Q/DQ"].startswith(
        "2 casts and reformats (2.000 ms, 11.1 % of the time), 1 Q, 0 DQ (0.250 ms"
    )
    assert rows["slowest casts"].startswith("__myl_CastResh_myl0_1 (1.500 ms, 8.4 % of the time); reformat (")
    assert rows["attention"] == "1 fused kernels (4.000 ms, 22.3 % of the time)"


def test_the_table_says_why_there_is_no_time():
    assert shown(audited(seconds={}, untimed="it is silent"))["time of layers"] == "not measured: it is silent"
    assert "time of layers" not in shown(AuditRecord("network", {"fp16": 1}, {}, {}))
    doubtful = shown(audited([layer("gemm", "a", "Half")], {"a": 1.0, "else": 3.0}))
    assert doubtful["time of layers"].endswith("too much is unknown for a verdict")


@pytest.mark.parametrize("key", ["DataType", "Datatype", "Format/Datatype"])
def test_types_are_read_where_each_release_writes_them(key):
    entry = {"LayerType": "gemm", "Name": "a", "Inputs": [{key: "Half"}], "Outputs": [{key: "Float"}]}
    assert audit_engine(json.dumps({"Layers": [entry]})).layers == {"fp16": 1}
    assert audit_engine(json.dumps({"Layers": [{**entry, "Inputs": [], "Outputs": [{"Format": "?"}]}]})).layers == {}


def test_only_the_layers_of_the_first_profile_count():
    entries = [layer("gemm", f"product{end}", "Half") for end in ("", " [profile 0]", " [profile 1]", " [profile 12]")]
    assert audit_engine(json.dumps({"Layers": entries})).layers == {"fp16": 2}


def test_attention_is_a_part_of_what_computes():
    twice = [layer("gemm", "fmha", "Half"), layer("Cast", "fmha", "Half")]  # a name that is two things is unknown
    found = audit_engine(
        json.dumps({"Layers": [layer("gemm", "mha", "Half"), *twice]}), {"mha": 1.0, "fmha": 2.0}
    ).times
    assert (found.attention, found.precision, found.unknown) == (1.0, {"fp16": 1.0}, 2.0)
