"""The table of rewrites: exact ones are always applied, approximate ones only by name."""

import copy

import pytest
import torch
from support.tiny import tiny_model

from dpt_deploy.core.errors import UsageError
from dpt_deploy.model.rewrites.registry import REWRITES, Rewrite, approximated, exactly_rewritten, find_approximation


def scaled(model, factor):
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.head.conv3.weight.mul_(factor)
    return changed


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.setitem(REWRITES, "scaling", Rewrite("scaling", exact=False, apply=scaled, parameters=("factor",)))


def output(model):
    with torch.inference_mode():
        return model(torch.linspace(-1, 1, 3 * 64 * 64).reshape(1, 3, 64, 64))


def test_exact_rewrites_keep_the_output_and_approximate_ones_are_left_out(scaling):
    model = tiny_model("tiny-vit")
    torch.testing.assert_close(output(exactly_rewritten(model)), output(model), rtol=1e-4, atol=1e-4)


def test_an_approximation_is_applied_to_a_copy(scaling):
    model = tiny_model("tiny-vit")
    before = output(model)
    changed = output(approximated(model, "scaling", {"factor": 0.5}))
    assert not torch.allclose(changed, before)
    assert torch.equal(output(model), before)


def test_an_unknown_approximation_is_refused_with_the_known_ones(scaling):
    with pytest.raises(UsageError, match="unknown approximation 'merging'") as caught:
        find_approximation("merging")
    assert caught.value.hint == "known: scaling, tokens-hard, tokens-knn, tokens-merge"


def test_an_exact_rewrite_is_no_approximation():
    with pytest.raises(UsageError) as caught:
        find_approximation("fewer-operations")
    assert caught.value.hint == "known: tokens-hard, tokens-knn, tokens-merge"


def test_other_parameters_than_it_takes_are_refused(scaling):
    with pytest.raises(UsageError, match="has the parameters share; expected factor"):
        approximated(tiny_model("tiny-vit"), "scaling", {"share": 0.5})
