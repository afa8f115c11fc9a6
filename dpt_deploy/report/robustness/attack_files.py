"""Figure and page of an attack. Needs the extras ``study`` and ``export``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.optional import extra
from dpt_deploy.datasets.base import Sample
from dpt_deploy.jobs.attack.attack import AttackSetup, damage_of
from dpt_deploy.jobs.attack.pictures import LabelledPictures
from dpt_deploy.jobs.study.images import Images
from dpt_deploy.jobs.study.models import CandidateModel
from dpt_deploy.jobs.study.robustness.statistics import Condition
from dpt_deploy.jobs.study.scoring import OpenModels

with extra("study", purpose="drawing the figure and the report"):
    from dpt_deploy.report.exhibits import depth_picture, label_picture, photograph
    from dpt_deploy.report.figures.robustness_figure import draw_robustness
    from dpt_deploy.report.robustness.page import Strip, render

Draw = Callable[[NDArray[Any]], str]  # from a network's output to a picture as a data URI

PICTURES = ("attack.svg", "attack.png", "attack.html")


def write_pictures(
    document: Mapping[str, Any], setup: AttackSetup, models: Sequence[CandidateModel], out: Path
) -> None:
    """Write ``attack.svg``, ``attack.png`` and ``attack.html``."""
    draw_robustness(document, out / PICTURES[0])
    draw_robustness(document, out / PICTURES[1])
    page = render(document, _strips(document, setup, models), command="attack")
    atomic_write_bytes(out / PICTURES[2], page.encode())


def _strips(document: Mapping[str, Any], setup: AttackSetup, models: Sequence[CandidateModel]) -> list[Strip]:
    """The first image under every attack at its highest level, and what each file predicts for it."""
    sample, _ = setup.images.read(document["images"][0])
    shown = _shown(setup.conditions)
    damage = damage_of(setup, models[0].artifact.sidecar)
    damaged = [damage(sample, each) for each in shown]
    captions = [str(each) for each in shown]
    found = [_strip("image", captions, [photograph(each.image) for each in damaged])]
    images = setup.images
    draw = _labels(images, sample) if isinstance(images, LabelledPictures) else _depth(images, sample)
    with ExitStack() as stack:
        opened = OpenModels(stack, models, images, [setup.size])
        for each in models:
            name = each.candidate.name
            maps = [draw(opened.output(name, setup.size, seen)) for seen in damaged]
            found.append(_strip(f"{setup.task} by {name}", captions, maps))
    return found


def _depth(images: Images, sample: Sample) -> Draw:
    truth = images.truth(sample)
    scale = float(truth[truth > 0].min()), float(truth[truth > 0].max())
    return lambda output: depth_picture(images.nearness(output, sample), scale)


def _labels(images: LabelledPictures, sample: Sample) -> Draw:
    return lambda output: label_picture(images.labels(output, sample), images.protocol.classes)


def _shown(conditions: Sequence[Condition]) -> list[Condition]:
    """The clean condition and the highest level of each other one."""
    best: dict[str, Condition] = {}
    for each in conditions:
        if each.name not in best or each.level > best[each.name].level:
            best[each.name] = each
    return list(best.values())


def _strip(title: str, captions: Sequence[str], sources: Sequence[str]) -> Strip:
    return Strip(title, tuple(zip(captions, sources, strict=True)))
