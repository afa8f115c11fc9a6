"""Records of tasks: every model has one, and an unknown one is refused."""

from dataclasses import replace

import pytest
from support.faults.handmade import MODEL

from dpt_deploy.core.spec import MetricTail
from dpt_deploy.core.task import (
    CANONICAL_DEPTH,
    DEPTH,
    LABELS,
    METRIC_DEPTH,
    RELATIVE_DEPTH,
    SCORES,
    TASKS,
    task_named,
    task_of,
    tasks_of,
)

pytestmark = pytest.mark.fast


def test_a_model_has_the_task_of_its_head():
    assert task_of(MODEL) is DEPTH
    assert task_of(replace(MODEL, metric=MetricTail(1.0, 0.0, 256.0))) is METRIC_DEPTH
    assert task_of(replace(MODEL, quantity="relative depth")) is RELATIVE_DEPTH
    assert task_of(replace(MODEL, quantity="canonical depth", canonical_focal=300.0)) is CANONICAL_DEPTH
    segmentation = MODEL.with_classes(7)
    assert task_of(segmentation) is SCORES
    assert task_of(segmentation, labels=True) is LABELS


def test_joint_heads_have_tasks_of_their_own_after_the_first():
    assert tasks_of(replace(MODEL, joint=("scores",))) == (DEPTH, SCORES)
    with pytest.raises(ValueError, match="'unheard' is unknown"):
        tasks_of(replace(MODEL, joint=("unheard",)))


def test_maps_hold_numbers_or_labels():
    assert {task.name: task.of_classes for task in TASKS.values()} == {
        "depth": False,
        "metric-depth": False,
        "relative-depth": False,
        "canonical-depth": False,
        "sky": False,
        "scores": True,
        "labels": True,
    }


def test_the_quantity_of_a_depth_map_is_stated():
    assert {task.name: task.quantity for task in TASKS.values()} == {
        "depth": "inverse depth",
        "metric-depth": "metres",
        "relative-depth": "relative depth",
        "canonical-depth": "canonical depth",
        "sky": "",
        "scores": "",
        "labels": "",
    }
    assert [task.name for task in TASKS.values() if task.unit == "m"] == ["metric-depth"]


def test_a_task_is_found_by_its_name():
    assert all(task_named(name) is task for name, task in TASKS.items())
    with pytest.raises(ValueError, match="task 'pose' is unknown; expected one of depth"):
        task_named("pose")
