"""Output formats: each fits the maps that it can hold, and the help of ``run`` lists them all."""

import re

import pytest

from dpt_deploy.cli import call
from dpt_deploy.core.task import TASKS
from dpt_deploy.imaging.formats import FORMATS

pytestmark = pytest.mark.needs("cv2", "PIL")


def test_each_task_has_its_formats():
    assert {task.name: [each.name for each in FORMATS.values() if each.fits(task)] for task in TASKS.values()} == {
        "depth": ["png", "pfm", "color", "side", "ply", "glb"],
        "metric-depth": ["png", "pfm", "color", "side", "metric", "ply", "glb"],
        "relative-depth": ["png", "pfm", "color", "side", "ply", "glb"],
        "canonical-depth": ["png", "pfm", "color", "side", "ply", "glb"],
        "sky": ["png", "pfm", "color", "side"],
        "scores": ["labels", "overlay"],
        "labels": ["labels", "overlay"],
    }


def test_a_task_fits_the_formats_it_is_written_in_and_has_a_picture_of_its_map_alone_first():
    for task in TASKS.values():
        assert all(FORMATS[name].fits(task) for name in task.formats)
        pictures = [each.name for each in FORMATS.values() if each.fits(task) and each.picture]
        assert pictures[0] == ("overlay" if task.of_classes else "color")  # of a video


def test_the_help_of_run_lists_every_format(capsys):
    assert call(["run", "--help"]) == 0
    assert re.findall(r"^ +(\w+) {2,}\S", capsys.readouterr().out, re.MULTILINE)[: len(FORMATS)] == list(FORMATS)
