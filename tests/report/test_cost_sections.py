"""Clustered tokens and joint files on the page: a line for each file, intervals, and the picture."""

import copy

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

SCORED = {"file": "tokens-hard 2:16x16", "gflop": 3.1, "abs_rel": {"value": 0.25, "low": 0.2, "high": 0.3}}
TIMED = {"size": "384", "file": "tokens-hard 4:16x16", "rounds": 5, "ms": 900.4, "gflop": 77.6}
DATA = {
    "kind": "tokens",
    "recorded": "2026-01-01T00:00:00",
    "environment": {"processor": "a processor", "cores": 2, "gpus": [], "tools": {}},
    "load_average_before": [0.1, 0.2, 0.3],
    "accuracy": {
        "model": "tiny-vit",
        "scenes": 48,
        "rows": [SCORED | {"change_percent": {"value": 1.5, "low": -0.5, "high": 3.25}}],
    },
    "speed": {"model": "base", "weights": "random", "rows": [TIMED | {"times_as_fast": [1.25, 1.2, 1.3]}]},
}


JOINT = {
    "kind": "joint-cost",
    "recorded": "2026-01-01T00:00:00",
    "environment": {"processor": "a processor", "cores": 2, "gpus": [], "tools": {}},
    "load_average": {"before": [0.1, 0.2, 0.3], "after": [1.0, 1.0, 1.0]},
    "case": {
        "model": "base-both150-fp32",
        "weights": "random (seed 0)",
        "size": 384,
        "rounds": 40,
        "two_files_over_joint": [1.5, 1.48, 1.53],
        "p50_ms": {"joint": 900.2, "two files": 1350.0},
        "operations_at": "384x384",
        "operations": {"both": 300e9, "depth": 223.4e9, "segmentation": 230e9},
    },
}


SCORE = {"value": 0.5, "low": 0.25, "high": 0.75}
ACCURACY = {
    "kind": "joint-accuracy",
    "recorded": "2026-01-01T00:00:00",
    "environment": DATA["environment"],
    "model": "tiny-both",
    "scenes": 96,
    "seed": 1_000_000,
    "most_frequent_class": {"correct": SCORE, "mean_iou": SCORE},
    "rows": [
        {"precision": name, "abs_rel": SCORE, "correct": SCORE, "mean_iou": SCORE}
        | {"change": {"abs_rel": SCORE, "correct": SCORE, "mean_iou": SCORE}}
        for name in ("fp32", "int8-cpu")
    ],
}
SECONDS = {
    "kind": "study-seconds",
    "recorded": "2026-01-01T00:00:00",
    "environment": DATA["environment"],
    "rows": [
        {"study": name, "command": "attack", "exit_code": code, "seconds": 90.0, "processor_seconds": 150.0}
        | {"peak_bytes": 1_230_000_000, "load_average_before": 0.1}
        for name, code in (("good", 0), ("failed", 5))
    ],
}
MEASURED = {"recorded": "2026-01-01T00:00:00", "environment": DATA["environment"]}
MEASURED |= {"load_average_before": [0.1, 0.2, 0.3]}
LOADS = {
    **MEASURED,
    "kind": "load-time",
    "turns": 6,
    "rows": [
        {"model": "tiny", "precision": precision, "size": 192, "equal": precision == "fp32"}
        | {"load_seconds": {"planned": 0.3, "unplanned": 0.1}, "peak_bytes": {"planned": 2e8, "unplanned": 1.9e8}}
        | {"loads_as_fast": [2.96, 2.29, 3.3], "runs_as_fast": [1.006, 0.998, 1.012]}
        for precision in ("fp32", "fp16")
    ],
}
TRACES = {
    **MEASURED,
    "kind": "trace-time",
    "rounds": 4,
    "rows": [
        {"model": name, "equal": name == "base", "as_fast": [2.014, 1.9, 2.1]}
        | {"seconds": {"pytorch": 30.04, "replaced": 15.02}, "nodes": {"pytorch": 231, "replaced": 229}}
        for name in ("base", "other")
    ],
}
GRAPHS = {
    **MEASURED,
    "kind": "openvino-graphs",
    "rows": [
        {"model": "base", "precision": "fp32", "size": 384, "rest": rest, "rounds": 12, "profile_ms": profile}
        | {"p50_ms": {"one size": 100.04, "any size": 110.06}, "times_as_fast": [1.1, 1.05, 1.149]}
        for rest, profile in (("f32", {"attention": 40.02}), ("bf16", {"attention": 20.0, "small operators": 3.0}))
    ],
}


def test_a_file_has_a_line_with_its_intervals():
    page = render([Result("tokens-x.json", DATA)])
    assert "| tokens-hard 2:16x16 | 0.2500 (0.2000 to 0.3000) | +1.50 % (-0.50 to +3.25) | 3.10 |" in page.text
    assert "| 384 | tokens-hard 4:16x16 | 900 | 1.25 (1.20 to 1.30) | 78 | 5 |" in page.text
    assert "`base` with random weights" in page.text
    assert "tokens-x.svg" in page.pictures


def test_a_result_without_its_intervals_is_an_error():
    data = copy.deepcopy(DATA)
    del data["speed"]["rows"][0]["times_as_fast"]
    with pytest.raises(BadFileError, match="times_as_fast"):
        render([Result("tokens-x.json", data)])


def test_the_picture_names_what_it_shows(tmp_path):
    drawing = pytest.importorskip("dpt_deploy.report.figures.cost_figure", reason="drawing needs matplotlib")
    drawing.draw_tokens(DATA, tmp_path / "tokens.svg")
    picture = (tmp_path / "tokens.svg").read_text()
    assert "change of AbsRel, % (tiny-vit)" in picture
    assert "384, tokens-hard 4:16x16" in picture


def test_one_file_and_two_have_a_line_each():
    text = render([Result("joint-cost-x.json", JOINT)]).text
    assert "| one file with both outputs | 900 | 300.0 |  |" in text
    assert "| two files | 1350 | 453.4 | 1.50 (1.48 to 1.53) |" in text
    assert "weights random (seed 0), 40 rounds" in text


def test_the_picture_of_a_joint_file_has_time_and_operations(tmp_path):
    drawing = pytest.importorskip("dpt_deploy.report.figures.cost_figure", reason="drawing needs matplotlib")
    assert "joint-cost-x.svg" in render([Result("joint-cost-x.json", JOINT)]).pictures
    drawing.draw_joint_cost(JOINT, tmp_path / "joint.svg")
    other = copy.deepcopy(JOINT)
    other["case"]["operations"]["both"] = 400e9
    drawing.draw_joint_cost(other, tmp_path / "other.svg")
    picture, changed = ((tmp_path / name).read_text() for name in ("joint.svg", "other.svg"))
    assert "two files over one (base-both150-fp32)" in picture
    assert "operations" in picture
    assert picture != changed


def test_a_joint_result_without_its_interval_is_an_error():
    data = copy.deepcopy(JOINT)
    del data["case"]["two_files_over_joint"]
    with pytest.raises(BadFileError, match="two_files_over_joint"):
        render([Result("joint-cost-x.json", data)])


def test_accuracy_has_a_line_for_each_precision_and_its_change():
    text = render([Result("joint-accuracy.json", ACCURACY)]).text
    assert "| fp32 | 0.5000 (0.2500 to 0.7500) | 50.00 (25.00 to 75.00) | 50.00 (25.00 to 75.00) |" in text
    assert "| int8-cpu | +0.5000 (+0.2500 to +0.7500) | +50.00 (+25.00 to +75.00) |" in text
    assert "| the most frequent class everywhere |  | 50.00 (25.00 to 75.00) |" in text
    assert "joint-accuracy.png" in text


def test_one_precision_alone_has_no_changes():
    text = render([Result("joint-accuracy.json", ACCURACY | {"rows": ACCURACY["rows"][:1]})]).text
    assert "Minus FP32" not in text


def test_the_time_of_a_study_that_failed_is_not_shown():
    text = render([Result("study-seconds.json", SECONDS)]).text
    assert "| good | `dpt-deploy attack` | 1.5 min | 2.5 min | 1.23 GB | 0.1 |" in text
    assert "| failed | `dpt-deploy attack` | exit code 5 | 2.5 min |" in text


def test_a_file_loads_and_runs_with_and_without_the_plan():
    text = render([Result("load-time-2c.json", LOADS)]).text
    line = "| 0.30 s | 0.10 s | 2.96 (2.29 to 3.30) | 200 MB | 190 MB |"
    assert f"| tiny | fp32 | 192 {line} 1.01 (1.00 to 1.01) |" in text
    assert f"| tiny | fp16 | 192 {line} other numbers |" in text  # no speed of what computes something else


def test_a_graph_is_traced_in_two_ways():
    text = render([Result("trace-time-2c.json", TRACES)]).text
    assert "| base | 30.0 s | 15.0 s | 2.01 (1.90 to 2.10) | 231 | 229 |" in text
    assert "| other | 30.0 s | 15.0 s | other numbers | 231 | 229 |" in text


def test_graphs_of_openvino_are_compared_and_profiled():
    text = render([Result("openvino-graphs-2c.json", GRAPHS)]).text
    assert "| base | fp32 | 384 | f32 | 100.0 ms | 110.1 ms | 1.10 (1.05 to 1.15) | 12 |" in text
    assert "| base | fp32 | 384 | f32 | 40.0 ms | 0.0 ms |" in text
    assert "| base | fp32 | 384 | bf16 | 20.0 ms | 3.0 ms |" in text
