"""A study in words and as data: every sentence follows from its intervals."""

import json
from dataclasses import replace

import pytest
from support.study import GROWTH, candidate, made

from dpt_deploy.jobs.study import findings
from dpt_deploy.jobs.study.outcome import PublishedNumber, analysed, hardest, pairs
from dpt_deploy.measure.bootstrap import Estimate

pytestmark = pytest.mark.fast

# --- headline ---------------------------------------------------------------------------------------------------------


def test_the_papers_ordering_is_reported_where_it_holds():
    found = made()
    assert findings.headline(found) == "Transformers lose less than the convolutional network, as in the paper."
    first, second = findings.ordering(found)
    assert first.startswith("Holds: conv loses 9.")
    assert first.endswith("more than hybrid at 1.33 to 1.67 times the training size.")
    assert "more than vit at" in second


def test_the_reverse_is_reported_as_such():
    found = made(
        {"hybrid": (0, 20, 40, 80), "vit": (0, 20, 40, 80), "conv": GROWTH["conv"], "vit-nearest": (0, 40, 60, 99)}
    )
    assert "the reverse of the paper" in findings.headline(found)
    assert findings.ordering(found)[0].startswith("Reversed: hybrid loses 1")


def test_a_difference_within_chance_is_reported_as_such():
    same = GROWTH["conv"]
    found = made({"hybrid": same, "vit": same, "conv": same, "vit-nearest": (0, 30, 60, 90)})
    assert "can be distinguished" in findings.headline(found)
    assert all(
        text.startswith("Not distinguishable: the loss of conv minus that of ") for text in findings.ordering(found)
    )


def test_a_mixed_outcome_counts_the_pairs():
    found = made({**GROWTH, "hybrid": (0, 20, 40, 80)})
    assert findings.headline(found) == "The paper's ordering holds for 1 of 2 pairs."


def test_without_a_rival_there_is_no_ordering():
    found = made({name: GROWTH[name] for name in ("vit", "vit-nearest")})
    assert findings.ordering(found) == []
    assert "paper" not in findings.headline(found)


# --- control ----------------------------------------------------------------------------------------------------------


def test_a_defect_that_was_noticed_is_reported():
    found = made()
    assert found.measures_something
    assert "the study notices a defect" in findings.control(found)
    assert "equal at the training size" in findings.control(found)
    assert findings.cautions(found) == []


def test_a_defect_that_went_unnoticed_comes_before_everything_else():
    found = made({**GROWTH, "vit-nearest": GROWTH["vit"]})
    assert not found.measures_something
    assert findings.headline(found) == findings.NOTHING
    assert findings.cautions(found)[0].startswith(findings.NOTHING)
    assert found.to_dict()["measures_something"] is False


def test_a_study_without_a_control_says_why():
    growth = {name: GROWTH[name] for name in ("vit", "conv")}
    found = made(growth, no_control="it was not requested")
    assert found.measures_something
    assert findings.control(found) == "No control was run: it was not requested."
    assert found.to_dict()["control"] == {"none": "it was not requested"}


# --- cautions ---------------------------------------------------------------------------------------------------------


def test_random_weights_are_no_finding():
    found = made(random=True)
    assert findings.headline(found).startswith("Random weights")
    assert findings.cautions(found)[0].startswith("hybrid, vit, conv: random weights.")


def test_a_model_no_better_than_a_plane_is_named():
    found = made()
    scores = replace(found.scores, plane=found.scores.values[0, 0] * 0.999)
    flat = replace(found, scores=scores, analysis=analysed(found.candidates, scores, "vit", 0))
    (caution,) = findings.cautions(flat)
    assert caution.startswith("hybrid, vit, conv, vit-nearest: no better than a plane.")


def test_images_left_out_are_counted_and_named():
    (caution,) = findings.cautions(made(failures=[(f"bad-{index}", "cut short") for index in range(5)]))
    assert caution == "5 image(s) could not be used and were left out: bad-0, bad-1, bad-2 and 2 more."


def test_a_published_number_is_next_to_the_measured_one():
    reference = PublishedNumber(
        "Table 1", "hybrid", "AbsRel", 0.093, Estimate(0.0951, 0.09, 0.1), "40 of its 454 images"
    )
    (text,) = findings.references(made(references=[reference]))
    measured, published = text.split("; ")
    assert measured == "AbsRel, hybrid: 0.095 (0.090 to 0.100) measured here on 40 of its 454 images"
    assert published == "0.093 in Table 1 of the paper."


@pytest.mark.parametrize(
    ("value", "text"), [(-1.25, "\N{MINUS SIGN}1.2"), (0.04, "0.0"), (-0.04, "0.0"), (12.0, "12.0")]
)
def test_numbers_have_a_real_minus_and_no_negative_zero(value, text):
    assert findings.signed(value) == text


# --- data -------------------------------------------------------------------------------------------------------------


def test_pairs_are_of_one_runtime_and_precision_and_leave_the_control_out():
    models = [candidate("vit"), candidate("conv"), candidate("vit-nearest")]
    both = models + [replace(each, name=f"{each.name} torch", runtime="torch") for each in models]
    assert pairs(both) == [("vit", "conv"), ("vit torch", "conv torch")]
    assert pairs([candidate("vit"), replace(candidate("conv"), precision="int8")]) == []


def test_rows_hold_every_number_of_the_figure():
    found = made()
    rows = found.rows()
    assert len(rows) == 4 * 4
    row = next(row for row in rows if (row["subject"], row["size"]) == ("conv", "320"))
    assert row["times_training_size"] == pytest.approx(1.6667)
    assert row["loss_percent_low"] < row["loss_percent"] < row["loss_percent_high"]
    assert row["loss_percent"] == pytest.approx(20, abs=0.5)
    assert row["images"] == 40


def test_the_study_is_json_and_holds_every_score():
    found = made()
    read = json.loads(json.dumps(found.to_dict()))
    assert read["kind"] == "resolution-study"
    assert read["abs_rel"]["conv"]["320"] == found.scores.values[2, 2].tolist()
    assert [each["verdict"] for each in read["comparisons"]] == ["holds", "holds"]
    assert read["control"]["noticed"] is True


def test_the_hardest_images_come_worst_first():
    found = made()
    names = [name for name, _ in hardest(found.scores, "vit", 3)]
    errors = dict(zip(found.scores.images, found.scores.values[1, 0], strict=True))
    assert names == sorted(errors, key=errors.get, reverse=True)[:3]
