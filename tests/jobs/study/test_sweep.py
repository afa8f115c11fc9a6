"""``dpt-deploy sweep``: every precision at every size, what is best of those that were timed, and the picture."""

import itertools
import json

import pytest
from support.faults.calling import complaint, fine
from support.faults.handmade import listing
from support.tiny import quick_accuracy, tiny_path
from support.traces import traces_kept

from dpt_deploy.artifact.store import open_artifact
from dpt_deploy.jobs.study import sweep
from dpt_deploy.jobs.study.study import MODELS
from dpt_deploy.jobs.study.sweep import Point, _marked
from dpt_deploy.report.figures.pareto_figure import draw_pareto


def point(ms, abs_rel, precision="fp32"):
    return Point("tiny", precision, "64", "ort", abs_rel, ms and (ms, ms, ms))


def test_the_best_are_those_that_none_beats_in_both():
    points = [point(10, 0.3), point(20, 0.2), point(30, 0.25), point(10, 0.31), point(None, 0.01, "fp8"), point(5, 0.9)]
    assert [each.best for each in _marked(points)] == [True, True, False, False, False, True]
    assert [each.best for each in _marked([point(10, 0.3), point(10, 0.3)])] == [True, True]


def test_a_model_in_three_precisions(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "SECONDS", 0.01)
    argv = ["sweep", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "--res", "64", "--scenes", "2"]
    argv += ["--precision", "fp32,fp16,int8-cpu", "-o", tmp_path]
    with quick_accuracy((0.5, 0.4, 0.6)):  # what is slower is compared all the same
        out = fine(capsys, *argv)
    document = json.loads((tmp_path / "sweep.json").read_text())
    assert document["kind"] == "sweep"
    assert document["images"] == 2
    assert [each["subject"] for each in document["precisions"]] == ["tiny-vit fp16", "tiny-vit int8-cpu"]
    assert all(each["original"] == "tiny-vit fp32" for each in document["precisions"])
    assert all(share["value"] for each in document["precisions"] for share in each["abs_rel"])
    found = {(each["precision"], each["size"]): each for each in document["points"]}
    sizes = {size for _, size in found}
    assert sizes == {"64", "96"}
    assert len(found) == 3 * len(sizes)
    assert {each["runtime"] for each in found.values() if each["precision"] == "fp16"} == {"emu"}
    assert all((each["ms"] is None) == (each["precision"] == "fp16") for each in found.values())
    assert any(each["best"] for each in found.values())
    assert len({each["abs_rel"] for each in found.values()}) == len(found)  # a precision does show
    assert "int8-cpu" in out
    picture = (tmp_path / "sweep.svg").read_text()
    assert "Not timed here" in picture
    assert "int8-cpu" in picture
    draw_pareto(document, tmp_path / "again.svg")
    assert (tmp_path / "again.svg").read_text() == picture


def test_numbers_of_tokens_are_points_next_to_the_exact_network(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, "SECONDS", 0.01)
    argv = ["sweep", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "--res", "64", "--scenes", "2"]
    argv += ["--precision", "fp32,int8-cpu", "--tokens", "1:4x4,1:30%", "-o", tmp_path]
    with quick_accuracy((0.5, 0.4, 0.6)), traces_kept():  # any error and any speed is compared
        out = fine(capsys, *argv)
    document = json.loads((tmp_path / "sweep.json").read_text())
    found = {(each["precision"], each["approximation"], each["size"]): each for each in document["points"]}
    kinds = ("tokens-hard-1-4x4", "tokens-merge-1-30")
    precisions, sizes = ("fp32", "int8-cpu"), ("64", "96")
    assert set(found) == set(itertools.product(precisions, ("", *kinds), sizes))
    assert all(each["ms"] for each in found.values())
    assert len({each["abs_rel"] for each in found.values()}) == len(found)
    compared = {each["subject"]: each["original"] for each in document["precisions"]}
    picture = (tmp_path / "sweep.svg").read_text()
    for kind, precision in itertools.product(kinds, precisions):
        assert compared[f"tiny-vit {precision} {kind}"] == "tiny-vit fp32"
        assert f"{precision} {kind}" in out
        assert f"{precision} {kind}" in picture
    for kind in kinds:
        sidecar = open_artifact(tmp_path / MODELS / f"tiny-vit-int8-cpu-{kind}.onnx").sidecar
        assert sidecar.approximation.accuracy.change > sidecar.approximation.limit  # a sweep refuses nothing
        assert sidecar.quantisation.clip
        inside = [name for name in sidecar.quantisation.clip if name.startswith("encoder.fewer.reduce/")]
        assert all("/Slice" in name for name in inside)  # the read-out token, which the decoder takes from there


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "int4"), "int4"),
        (("--res", "100"), "not a multiple of 32"),
        (("--precision", ","), "--precision is empty"),
        (("--tokens", "1:4x4,9:4x4"), "behind block 9"),
        (("--tokens", "1:4x4,2"), "'2' is not LAYER:HxW"),
        (("--tokens", "1:4x4,1:4x4"), "--tokens names 1:4x4 twice"),
    ],
)
def test_mistakes(options, message, tmp_path, capsys):
    said = complaint(capsys, 2, "sweep", "--backbone", tiny_path("tiny-vit"), "-o", tmp_path / "out", *options)
    assert message in said
    assert not (tmp_path / "out").exists()


def test_a_models_folder_that_is_a_link_is_refused(tmp_path, capsys):
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.mkdir()
    out.mkdir()
    (victim / "precious").write_text("precious")
    (out / MODELS).symlink_to(victim)
    argv = ["sweep", "--backbone", tiny_path("tiny-vit"), "--weights", "random", "--scenes", "2", "-o", out]
    assert "models is a symbolic link" in complaint(capsys, 2, *argv)
    assert listing(victim) == {"precious": b"precious"}
    assert [path.name for path in out.iterdir()] == [MODELS]
