"""The cost of a precision compared with FP32: computed by hand, and in sentences."""

from dataclasses import replace

import numpy as np
import pytest
from support.study import candidate, in_precisions

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.study import findings
from dpt_deploy.jobs.study.outcome import originals
from dpt_deploy.jobs.study.prices import price
from dpt_deploy.jobs.study.resolution import Scores

pytestmark = pytest.mark.fast

SIZES = tuple(Size(side, side) for side in (192, 256, 320))


def test_growth_is_of_means_and_delta1_is_in_points():
    values = np.array([[[1.0, 3.0], [2.0, 4.0], [2.0, 6.0]], [[1.0, 3.1], [2.0, 4.6], [3.0, 6.0]]])
    scores = Scores(("full", "cheap"), SIZES, SIZES[0], ("a", "b"), values, np.ones(2))
    delta1 = np.array([[[0.5, 0.7]] * 3, [[0.5, 0.7], [0.4, 0.7], [0.5, 0.8]]])
    found = price(scores, delta1, "cheap", "full", seed=0)
    assert [each.value for each in found.abs_rel] == pytest.approx([2.5, 10.0, 12.5])
    assert [each.value for each in found.delta1] == pytest.approx([0.0, -5.0, 5.0])
    full, cheap = (50 + 100) / 2, 100 * ((6.6 / 4.1 - 1) + (9.0 / 4.1 - 1)) / 2
    assert found.in_range.value == pytest.approx(cheap - full)
    assert found.worst_abs_rel is found.abs_rel[2]
    assert found.worst_delta1 is found.delta1[1]


def test_a_constant_factor_is_certain_and_keeps_the_degradation():
    for found in in_precisions().prices:
        assert all(each.low == pytest.approx(1.0) == each.high for each in found.abs_rel)
        assert abs(found.in_range.value) < 1e-9


def test_originals_are_the_same_model_in_fp32_on_its_own_runtime():
    cheap = replace(candidate("vit int8"), model="vit", precision="int8", runtime="torch")
    on_torch = replace(candidate("vit torch"), model="vit", runtime="torch")
    alone = replace(candidate("other fp16"), model="other", precision="fp16")
    named = [candidate("vit"), on_torch, candidate("conv"), cheap, alone]
    assert originals(named) == [("vit int8", "vit torch")]


def test_a_sentence_for_each_precision():
    first, second = findings.precisions(in_precisions())
    assert first.startswith("vit int8-cpu compared with vit: AbsRel grows by 1.00 % (1.00 to 1.00) at most")
    assert "by \N{MINUS SIGN}1.00 points" in first
    assert "conv int8-cpu" in second
