"""The task that is attacked, and the place of its output."""

from dataclasses import replace

import pytest
from support.tiny import tiny_spec

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.task import DEPTH_TASKS, LABEL_TASKS
from dpt_deploy.jobs.attack.tasks import attackable, attacked_task, place_of


@pytest.mark.parametrize(
    ("name", "tasks"),
    [
        ("tiny-vit", ("depth",)),
        ("tiny-seg", ("segmentation",)),
        ("tiny-sky", ("depth",)),  # a sky has no loss
        ("tiny-vit-both", ("depth", "segmentation")),
    ],
)
def test_a_network_is_attacked_in_its_own_tasks_only(name, tasks):
    model = tiny_spec(name)
    assert attackable(model) == tasks
    assert attacked_task(None, model) == tasks[0]
    assert [attacked_task(each, model) for each in tasks] == list(tasks)
    for other in {"depth", "segmentation", "sky"} - set(tasks):
        with pytest.raises(UsageError, match=f"--task is {other}; {name} is a network for {' and '.join(tasks)}"):
            attacked_task(other, model)


def test_the_place_of_an_output_follows_the_order_of_the_network():
    both, sky = tiny_spec("tiny-vit-both"), tiny_spec("tiny-sky")
    assert (place_of(both, DEPTH_TASKS), place_of(both, LABEL_TASKS)) == (0, 1)
    assert place_of(tiny_spec("tiny-seg"), LABEL_TASKS) == 0
    assert place_of(replace(sky, joint=("sky", "scores"), num_classes=2), LABEL_TASKS) == 2
    with pytest.raises(ValueError, match="tiny-seg has no output for depth"):
        place_of(tiny_spec("tiny-seg"), DEPTH_TASKS)
