"""Both searches find what holds, nothing in excess, in few trials."""

import pytest

from dpt_deploy.jobs.verify.search import shortest_prefix, smallest_set

pytestmark = pytest.mark.fast

ITEMS = [f"node{index}" for index in range(100)]


def search(needed):
    trials = []

    def holds(kept):
        trials.append(kept)
        return set(needed) <= kept

    found = smallest_set(ITEMS, holds)
    assert len(trials) == len(set(trials))  # none twice
    return found, len(trials)


@pytest.mark.parametrize("index", [0, 1, 49, 50, 63, 99])
def test_one_culprit_is_found_in_few_trials(index):
    found, trials = search([ITEMS[index]])
    assert found == {ITEMS[index]}
    assert trials <= 2 + 2 * 7  # 2 log2(100)


@pytest.mark.parametrize("needed", [(3, 4), (0, 99), (10, 11, 12, 13, 40), tuple(range(0, 100, 9))])
def test_several_culprits_are_all_found_and_nothing_else(needed):
    found, trials = search([ITEMS[index] for index in needed])
    assert found == {ITEMS[index] for index in needed}
    assert trials < 100 * len(needed)


def test_nothing_to_do_and_nothing_that_helps():
    assert smallest_set(ITEMS, lambda _kept: True) == frozenset()
    assert smallest_set(ITEMS, lambda _kept: False) is None
    assert smallest_set([], lambda _kept: False) is None


def test_of_two_ways_one_is_chosen_that_cannot_be_smaller():
    def holds(kept):
        return {"node7", "node8"} <= kept or {"node80", "node90", "node91"} <= kept

    found = smallest_set(ITEMS, holds)
    assert holds(found)
    assert not any(holds(found - {item}) for item in found)


@pytest.mark.parametrize("needed", [0, 1, 50, 99, 100])
def test_the_shortest_prefix_is_found_by_bisection(needed):
    trials = []

    def holds(kept):
        trials.append(len(kept))
        return len(kept) >= needed

    assert shortest_prefix(ITEMS, holds) == needed
    assert len(trials) <= 7  # log2(100)


def test_a_prefix_is_never_shorter_than_one_that_fails_before_it():
    """With a condition that is not monotonic the result still holds."""
    found = shortest_prefix(ITEMS, lambda kept: len(kept) in (3, 70) or len(kept) == len(ITEMS))
    assert found in (3, 70, len(ITEMS))
