"""Trainings, studies and photographs on the page: every number comes from the record, and what is missing is named."""

import copy

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

MACHINE = {"cores": 2, "processor": "a processor", "gpus": []}
TRAINING = {
    "kind": "training",
    "model": "small",
    "plan": {
        "schedule": {"steps": 30, "batch": 4},
        "scenes": {"count": 24},
        "validation": {"scenes": 7},
    },
    "environment": MACHINE,
    "seconds": 90.0,
    "loss": [[25, 1.5], [30, 0.5]],
    "validation": {"abs_rel": 0.25, "plane_abs_rel": 0.5, "share_of_plane": 0.5},
}


def row(candidate, size, loss):
    return {
        "subject": candidate,
        "size": size,
        "abs_rel": 0.1 + loss / 1000,
        "loss_percent": loss,
        "loss_percent_low": loss - 1,
        "loss_percent_high": loss + 1,
    }


STUDY = {
    "kind": "resolution-study",
    "data": {"name": "rendered scenes", "seed": 5, "images": 12},
    "trained": "64",
    "sizes": ["64", "96"],
    "subjects": [{"name": "vit"}, {"name": "conv"}],
    "rows": [row("vit", "64", 0.0), row("vit", "96", 2.5), row("conv", "64", 0.0), row("conv", "96", 9.0)],
    "plane_abs_rel": {"value": 0.375, "low": 0.3, "high": 0.4},
    "comparisons": [
        {"subject": "vit", "rival": "conv", "in_range": {"value": 6.5, "low": 5, "high": 8}, "verdict": "holds"}
    ],
    "control": {"noticed": False, "planted": "vit-tiled", "overall": {"value": 1, "low": -1, "high": 3}},
}
PHOTOGRAPHS = {"kind": "photographs", "photograph": "a motorcycle", "explained_variance": {"vit": 0.625}}


def page(name, data):
    return render([Result(f"{name}.json", data)]).text


def test_a_training_is_shown_with_its_command_its_time_and_its_score():
    shown = page("training-small", TRAINING)
    assert "`dpt-deploy train benchmarks/trainings/small.toml`: 120 images of 24 scenes, 30 steps, " in shown
    assert "the largest 20 % of residuals ignored, 2 minutes" in shown
    assert "On 7 unseen scenes: AbsRel 0.250, which is 50 % of the best plane's 0.500." in shown
    assert "![loss over steps](results/training-small.svg)" in shown


def test_a_study_is_shown_with_intervals_verdicts_and_its_control():
    shown = page("resolution-study-x", STUDY)
    assert "The AbsRel of the best plane of each image is 0.375 on average." in shown
    assert "| conv | 0.0 (\N{MINUS SIGN}1.0 to 1.0) | 9.0 (8.0 to 10.0) |" in shown
    assert "conv loses 6.5 (5.0 to 8.0) points more than vit over the sizes of the paper's figure: as in the" in shown
    assert "The study does **not** notice the planted defect." in shown
    without = page("resolution-study-x", {**STUDY, "control": {"none": "it was not asked for"}})
    assert "planted" not in without


def test_studies_of_other_images_are_compared_with_the_largest():
    large = {**STUDY, "images": ["a", "b"], "data": {**STUDY["data"], "images": 40}}
    rows = [row("vit", "64", 0.0), row("vit", "96", 3.5), row("conv", "64", 0.0), row("conv", "96", 30.0)]
    other = {**STUDY, "images": ["c"], "rows": rows}
    text = render([Result("resolution-study-a.json", large), Result("resolution-study-b.json", other)]).text
    assert "The study of 12 other images (seed 5): 1 of 2 intervals overlap with those of 40 images." in text
    same = {**other, "images": ["b", "c"]}
    assert (
        "overlap"
        not in render([Result("resolution-study-a.json", large), Result("resolution-study-b.json", same)]).text
    )


def test_the_power_of_the_check_is_shown_as_a_range_over_models():
    changed = [
        {"subject": name, "points": points, "share": share, "intervals": 1.0}
        for points, shares in ((10, (0.25, 0.65)), (40, (1.0, 1.0)))
        for name, share in zip(("vit", "conv"), shares, strict=True)
    ]
    power = {
        "kind": "check-power",
        "study": "resolution-study-x.json",
        "recorded_images": 160,
        "images": 48,
        "intervals": 28,
        "trials": 300,
        "covered": {"record": 0.95, "study": 0.92},
        "unchanged": {"share": 0.17, "intervals": 0.4},
        "changed": changed,
    }
    shown = page("check-power-x", power)
    assert "If nothing has changed, 17 % of studies raise a false alarm." in shown
    assert "A change of 10 points in one model is detected in 25 to 65 % of studies." in shown
    assert "A change of 40 points in one model is detected in 100 % of studies." in shown
    assert "contain the true value in 92 % of cases with 48 images, and in 95 % with 160." in shown


def test_photographs_are_shown_with_their_number():
    shown = page("photographs", PHOTOGRAPHS)
    assert "| vit | 0.625 |" in shown
    assert "(results/photographs.png)" in shown


@pytest.mark.parametrize(
    ("name", "data", "key"),
    [("training-small", TRAINING, "validation"), ("resolution-study-x", STUDY, "rows")],
)
def test_a_record_that_lacks_something_is_named(name, data, key):
    damaged = copy.deepcopy(data)
    del damaged[key]
    with pytest.raises(BadFileError, match=f"{name}.json lacks"):
        page(name, damaged)


def test_the_loss_is_drawn(tmp_path):
    drawing = pytest.importorskip("dpt_deploy.report.figures.training_figure", reason="drawing needs matplotlib")
    drawing.draw_training(TRAINING, tmp_path / "a.svg")
    drawing.draw_training(TRAINING, tmp_path / "b.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    drawing.draw_training({**TRAINING, "loss": [[25, 1.5], [30, 1.0]]}, tmp_path / "c.svg")
    assert (tmp_path / "a.svg").read_bytes() != (tmp_path / "c.svg").read_bytes()
