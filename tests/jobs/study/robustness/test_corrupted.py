"""The study of corruptions from end to end on miniature models: right, resumable, and loud about what is wrong."""

import json
from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from support.faults.calling import complaint, fine
from support.tiny import exported, quick_accuracy, tiny_path
from support.traces import traces_kept

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.size import Size
from dpt_deploy.datasets.corruptions.registry import CORRUPTIONS, corrupt
from dpt_deploy.jobs.study.journal import Journal
from dpt_deploy.jobs.study.models import candidates
from dpt_deploy.jobs.study.outcome import Candidate
from dpt_deploy.jobs.study.robustness import corrupted, findings
from dpt_deploy.jobs.study.robustness.outcome import fp32_pairs
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition
from dpt_deploy.jobs.study.scoring import OpenModels
from dpt_deploy.jobs.study.study import StudyRequest
from dpt_deploy.report.robustness.numbers import extra_table, growth_table, level_table
from dpt_deploy.report.robustness.sections import ROBUSTNESS_KINDS
from dpt_deploy.report.sections import Result
from dpt_deploy.scenes.render import render_scene

SIDE = 96
NAMES = ("gaussian-noise", "fog-3d")


@pytest.fixture(autouse=True)
def _small_scenes(monkeypatch):
    monkeypatch.setattr(corrupted, "SIDE", SIDE)


@pytest.fixture(scope="module")
def path():
    return str(exported("tiny-vit").path)


def request(path, **changes):
    study = {"models": (path,), "scenes": 2, "control": "tiled", **changes.pop("study", {})}
    return corrupted.CorruptionRequest(StudyRequest(**study), **{"corruptions": NAMES, "severities": (1, 5), **changes})


@pytest.fixture(scope="module")
def document(path, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrupted, "SIDE", SIDE)
        setup = corrupted.prepare_corruptions(request(path))
        return json.loads(json.dumps(corrupted.run_corruptions(setup, folder)[0].to_dict()))


# --- right ------------------------------------------------------------------------------------------------------------


def test_the_document_has_every_condition_and_the_control(document):
    found = [(each["name"], each["level"], each["control"]) for each in document["conditions"]]
    damaged = [(name, severity, False) for name in NAMES for severity in (1, 5)]
    assert found == [("clean", 0, True), *damaged, ("blank", 1, True), ("blank", 5, True)]
    assert len({each["checksum"] for each in document["conditions"]}) == len(found)
    assert document["control"]["condition"] == "blank 5"
    assert set(document["summary"][0]["growth_by_name"]) == set(NAMES)


def test_an_error_is_that_of_the_protocol_on_the_corrupted_image(path, document):
    setup = corrupted.prepare_corruptions(request(path))
    name = document["images"][1]
    scene = render_scene(int(name.removeprefix("scene-")), height=SIDE, width=SIDE)
    depth = np.where(np.isfinite(scene.depth), scene.depth, 0).astype(np.float32)
    image = corrupt(scene.image, CORRUPTIONS["fog-3d"], 5, depth=depth, name=name)
    sample, _ = setup.images.read(name)
    assert np.array_equal(corrupted.damage_of(0)(sample, Condition("fog-3d", 5)).image, image)
    with ExitStack() as stack:
        models = candidates((path,), None, ("ort",), ("fp32",), None)
        opened = OpenModels(stack, models, setup.images, setup.sizes)
        output = opened.output("tiny-vit", setup.sizes[0], replace(sample, image=image))
    errors = setup.images.errors(output, sample)
    expected = (errors["abs_rel"] + 1 - errors["delta1"]) / 2
    assert document["errors"]["tiny-vit"]["fog-3d 5"][1] == pytest.approx(expected, abs=1e-5)


def test_where_pixels_move_the_truth_that_is_scored_moves_too(path, tmp_path):
    setup = corrupted.prepare_corruptions(request(path, corruptions=("field-of-view",), severities=(5,)))
    found = json.loads(json.dumps(corrupted.run_corruptions(setup, tmp_path)[0].to_dict()))
    sample, _ = setup.images.read(found["images"][0])
    moved = corrupted.damage_of(0)(sample, Condition("field-of-view", 5))
    with ExitStack() as stack:
        opened = OpenModels(stack, candidates((path,), None, ("ort",), ("fp32",), None), setup.images, setup.sizes)
        output = opened.output("tiny-vit", setup.sizes[0], moved)
    expected, wrong = (setup.images.errors(output, truth) for truth in (moved, sample))
    dee, wrong_dee = ((each["abs_rel"] + 1 - each["delta1"]) / 2 for each in (expected, wrong))
    assert found["errors"]["tiny-vit"]["field-of-view 5"][0] == pytest.approx(dee, abs=1e-5)
    assert abs(dee - wrong_dee) > 1e-3


def test_the_first_condition_is_the_picture_itself(path):
    sample, _ = corrupted.prepare_corruptions(request(path)).images.read("scene-1000000")
    assert corrupted.damage_of(0)(sample, CLEAN) is sample


def test_a_finished_study_is_not_scored_again(path, tmp_path, monkeypatch):
    setup = corrupted.prepare_corruptions(request(path, corruptions=("contrast",), severities=(5,)))
    first = corrupted.run_corruptions(setup, tmp_path)[0].to_dict()
    monkeypatch.setattr(Journal, "add", None)
    assert corrupted.run_corruptions(setup, tmp_path)[0].to_dict()["errors"] == first["errors"]


def test_precisions_are_paired_with_fp32_at_their_size(document):
    candidate = Candidate("a fp32", "a", "transformer", "ort", "fp32", "a.onnx", "ab" * 32, "random")
    small, large = (Size(side, side) for side in (96, 128))
    low = replace(candidate, name="a int8", precision="int8-cpu")
    found = fp32_pairs({"f": (candidate, small), "g": (candidate, large), "i": (low, small), "j": (low, large)})
    assert found == [("i", "f"), ("j", "g")]
    assert fp32_pairs({"i": (low, small), "g": (candidate, large)}) == []


@pytest.mark.parametrize("first", ["exact", "approximate"])
def test_the_original_is_exact_whatever_the_order(first):
    size = Size(96, 96)
    exact = Candidate("e", "a", "transformer", "ort", "fp32", "a.onnx", "ab" * 32, "random")
    merged = replace(exact, name="m", approximation="tokens-merge 2, 30")
    low = [replace(each, precision="int8-cpu") for each in (merged, exact)]
    full = {"e": (exact, size), "m": (merged, size)}
    ordered = full if first == "exact" else dict(reversed(full.items()))
    found = fp32_pairs({**ordered, "ml": (low[0], size), "l": (low[1], size)})
    assert found == [("m", "e"), ("ml", "e"), ("l", "e")]
    assert fp32_pairs({"m": (merged, size), "l": (low[1], size)}) == []


@pytest.mark.needs("matplotlib")
def test_the_command_writes_numbers_figures_and_page(path, tmp_path, capsys):
    argv = ["study", "--backbone", path, "--corruptions", "jpeg", "--severity", "5", "--scenes", 2, "-o", tmp_path]
    out = fine(capsys, *argv, "--control", "none")
    names = {entry.name for entry in tmp_path.iterdir()}
    assert names == {"scores.jsonl", *(f"corruptions.{end}" for end in ("json", "csv", "svg", "png", "html"))}
    assert "No control was run" in out
    page = (tmp_path / "corruptions.html").read_text()
    assert page.count("<img") == 2
    assert "<script" not in page
    assert "Random weights" in page


def test_files_with_fewer_tokens_are_compared_with_the_exact_one(tmp_path):
    fewer = {"weights": "random", "approximations": (("tokens-merge", (1.0, 30.0)),)}
    asked = request(tiny_path("tiny-vit"), corruptions=("contrast",), severities=(5,), study=fewer)
    with quick_accuracy(), traces_kept():
        found = corrupted.run_corruptions(corrupted.prepare_corruptions(asked), tmp_path)[0].to_dict()
    assert [(each["subject"], each["original"]) for each in found["extras"]] == [
        ("tiny-vit tokens-merge-1-30", "tiny-vit")
    ]


# --- what is said -----------------------------------------------------------------------------------------------------


def with_extra(document, low, high):
    """The document with a second subject whose extra growth has these ends."""
    middle = {"value": (low + high) / 2, "low": low, "high": high}
    verdict = "loses more" if low > 0 else "loses less" if high < 0 else "not distinguishable"
    names = document["summary"][0]["growth_by_name"]
    extra = {"subject": "b int8", "original": "tiny-vit", "overall": middle, "share": middle, "verdict": verdict}
    subjects = [{**each, "random": False} for each in document["subjects"]]
    extra["by_name"] = dict.fromkeys(names, middle)
    return {**document, "measures_something": True, "subjects": subjects, "extras": [extra]}


@pytest.mark.parametrize(
    ("ends", "expected"), [((1, 2), "b int8: more is lost"), ((-2, -1), "FP32 loses most"), ((-1, 1), "No other")]
)
def test_the_headline_follows_from_the_interval(document, ends, expected):
    found = with_extra(document, *ends)
    assert expected in findings.headline(found)
    assert "1.50" in extra_table(found).rows[0][1] or ends == (-1, 1)


def test_the_section_of_the_report_shows_all_tables(document):
    text = ROBUSTNESS_KINDS["corruption-study"].show(Result("corruption-study-x.json", document), "results")
    for table in (growth_table(document), level_table(document)):
        assert all(head in text for head in table.heads)
    assert "Control: blank 5" in text


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--corruptions", "rain"), "'rain' is unknown"),
        (("--corruptions", "fog", "--severity", "6"), "severity 6; expected numbers from 1 to 5"),
        (("--corruptions", "fog", "--severity", "0-2"), "severity 0; expected numbers from 1 to 5"),
        (("--corruptions", "fog", "--severity", "high"), "--severity is 'high'"),
        (("--corruptions", ","), "--corruptions is empty"),
        (("--corruptions", "fog", "--check", "x.json"), "does not go with --corruptions"),
        (("--corruptions", "fog", "--reference", "paper"), "no numbers for corrupted images"),
        (("--corruptions", "fog", "--backbone", tiny_path("tiny-seg")), "the study measures depth"),
    ],
)
@pytest.mark.needs("matplotlib")
def test_mistakes(options, message, tmp_path, capsys):
    argv = ["study", "--backbone", tiny_path("tiny-vit"), "-o", tmp_path / "out", *options]
    assert message in complaint(capsys, 2, *argv)
    assert not (tmp_path / "out").exists()


def test_a_control_without_effect_is_reported(document):
    blind = {**document, "measures_something": False}
    assert any("not sensitive enough" in each for each in findings.cautions(blind))
    assert "not sensitive" in findings.headline(with_extra(document, 1, 2) | {"measures_something": False})


def test_metric_depth_is_not_measured_on_scenes():
    with pytest.raises(UsageError, match="inverse depth"):
        corrupted.prepare_corruptions(request(tiny_path("tiny-metric")))
