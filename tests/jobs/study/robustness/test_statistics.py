"""Statistics of planned errors: the verdict is the planned one, and a planted fault changes it."""

import numpy as np
import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.jobs.study.robustness.outcome import control_result
from dpt_deploy.jobs.study.robustness.statistics import CLEAN, Condition, ConditionScores, analyse

pytestmark = pytest.mark.fast

CONDITIONS = (CLEAN, *(Condition(name, level) for name in ("fog", "noise") for level in (1, 2)))
BLANK = Condition("blank", 2, control=True)
GROWTH = np.array([0, 0.02, 0.04, 0.06, 0.08, 0.3])  # clean, fog 1, fog 2, noise 1, noise 2, blank


def planned(growths, *, images=30, noise=0.002, seed=0):
    """Scores of subjects with these growths, on images whose difficulty differs much more."""
    rng = np.random.default_rng(seed)
    difficulty = rng.uniform(0.1, 0.5, images)
    errors = difficulty + np.array(growths)[:, :, None] + noise * rng.standard_normal((len(growths), 6, images))
    names = tuple(f"scene-{index}" for index in range(images))
    return ConditionScores(("fp32", "int8")[: len(growths)], (*CONDITIONS, BLANK), names, errors)


def extra(growth):
    return analyse(planned([GROWTH, growth]), [("int8", "fp32")]).extras[0]


@pytest.mark.parametrize(
    ("factor", "shift", "expected"),
    [(1.0, 0.0, "not distinguishable"), (1.2, 0.0, "loses more"), (0.8, 0.0, "loses less")],
)
def test_the_verdict_is_about_growth(factor, shift, expected):
    assert extra(factor * GROWTH + shift).verdict == expected


def test_a_precision_that_is_worse_on_clean_images_too_does_not_lose_more():
    assert extra(GROWTH + 0.1).verdict == "not distinguishable"


def test_growth_and_extra_are_those_that_were_planned():
    found = analyse(planned([GROWTH, 1.5 * GROWTH], noise=0), [("int8", "fp32")])
    assert found.responses[0].growth_by_name["fog"].value == pytest.approx(3)
    assert found.responses[0].overall.value == pytest.approx(5)  # without the control
    assert found.extras[0].by_name["noise"].value == pytest.approx(3.5)
    assert [each.value for each in found.extras[0].by_condition] == pytest.approx([0, 1, 2, 3, 4, 15])
    assert found.extras[0].overall.high - found.extras[0].overall.low < 1e-9  # paired: difficulty cancels


def test_mce_and_mrr_by_hand():
    scores = planned([GROWTH, 1.5 * GROWTH], noise=0)
    mean = scores.errors.mean(axis=2)
    fog, noise = mean[:, 1:3].mean(axis=1), mean[:, 3:5].mean(axis=1)
    found = analyse(scores, [("int8", "fp32")]).responses
    assert found[1].relative.value == pytest.approx(50 * (fog[1] / fog[0] + noise[1] / noise[0]))
    kept = [(1 - each[0]) / (1 - mean[0, 0]) for each in (fog, noise)]
    assert found[0].resilience.value == pytest.approx(50 * sum(kept))
    assert found[0].relative is None


def test_the_control_notices_what_has_no_effect():
    seen, blind = GROWTH, np.zeros(6)
    noticed = [
        control_result(scores, analyse(scores, []), "blank").noticed
        for scores in (planned([seen, seen]), planned([seen, blind]))
    ]
    assert noticed == [True, False]


def test_swapped_subjects_reverse_the_verdict():
    scores = planned([GROWTH, 1.2 * GROWTH])
    assert analyse(scores, [("fp32", "int8")]).extras[0].verdict == "loses less"


def test_one_image_has_no_interval():
    with pytest.raises(BadFileError, match="at least two"):
        planned([GROWTH], images=1)
    with pytest.raises(ValueError, match="shape"):
        ConditionScores(("a",), CONDITIONS, ("x", "y"), np.zeros((1, 2, 2)))
