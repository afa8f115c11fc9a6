"""Markdown for trainings and photographs; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.drawing import lazy_drawing
from dpt_deploy.report.sections import Result, Section, markdown, source


def _training(result: Result, folder: str) -> str:
    data, config = result.data, result.data["plan"]
    schedule, scenes = config["schedule"], config["scenes"]
    images = schedule["steps"] * schedule["batch"]
    name = result.name.removeprefix("training-").removesuffix(".json")  # a second training has a number after its model
    coarse = schedule.get("coarse_steps", 0)
    first = f" ({coarse:,} of them at {schedule['coarse_side']} pixels)" if coarse else ""
    trim = config.get("loss", {"trim": 0.2})["trim"]
    residuals = f"the largest {100 * trim:.0f} % of residuals ignored" if trim else "all residuals counted"
    if config.get("task") == "segmentation":
        residuals = "cross-entropy"
    machine = data["environment"]
    where = ", ".join([f"{machine['cores']} cores of {machine['processor']}", *machine["gpus"]])
    return (
        f"### {name}\n\n`dpt-deploy train benchmarks/trainings/{name}.toml`: {images:,} images of "
        f"{scenes['count']:,} scenes, {schedule['steps']:,} steps{first}, {residuals}, "
        f"{data['seconds'] / 60:.0f} minutes on {where}.\n\n"
        f"On {config['validation']['scenes']} unseen scenes: {_score(data['validation'])}.\n\n"
        f"![loss over steps]({folder}/{result.picture})\n\n{source(result, folder)}"
    )


def _score(score: Mapping[str, float]) -> str:
    if "plane_abs_rel" not in score:
        return ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in score.items())
    share = 100 * score["abs_rel"] / score["plane_abs_rel"]
    return f"AbsRel {score['abs_rel']:.3f}, which is {share:.0f} % of the best plane's {score['plane_abs_rel']:.3f}"


def _photographs(result: Result, folder: str) -> str:
    found = dict(result.data["explained_variance"])
    table = TextTable(("model", "explained variance"), tuple((name, f"{value:.3f}") for name, value in found.items()))
    parts = [f"{result.data['photograph']}: share of the variance of the measured disparity that is explained.\n"]
    plane = found.pop("best plane", None)
    if plane is not None:
        lead = max(found.values()) - plane
        word = "above" if lead > 0 else "below"
        parts.append(f"The best model is {100 * abs(lead):.1f} points {word} the best plane.\n")
    picture = Path(result.name).with_suffix(".png").name
    return "\n".join(
        [*parts, markdown(table), f"![photographs and depth]({folder}/{picture})\n", source(result, folder)]
    )


TRAINING_KINDS: dict[str, Section] = {
    "photographs": Section(
        "Real photographs",
        "`python benchmarks/photographs.py`: the shipped models on photographs. They were trained on rendered scenes\n"
        "only. In photographs they find the layout and some outlines, often at wrong depths.",
        _photographs,
    ),
    "training": Section(
        "Training of the shipped models",
        "The loss is invariant to scale and shift, with gradient matching. AbsRel is the mean over scenes after\n"
        "alignment in inverse depth; the plane is fitted to each ground truth. `tiny-seg` learns labels, by\n"
        "cross-entropy, on the frozen encoder of `tiny`; both are joined in `tiny-both`. Its commonest is the\n"
        "accuracy of always predicting the most frequent class. A training with a number continues\n"
        "the one before it. Minutes are wall-clock time; trainings with a number ran next to other work.",
        _training,
        lazy_drawing("dpt_deploy.report.figures.training_figure:draw_training"),
    ),
}
