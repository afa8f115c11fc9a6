"""Markdown for trainings, resolution studies and photographs; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.optional import extra
from dpt_deploy.report.bench_tables import TimingTable
from dpt_deploy.report.sections import Result, Section, markdown, source


def _training(result: Result, folder: str) -> str:
    data, plan = result.data, result.data["plan"]
    schedule, scenes = plan["schedule"], plan["scenes"]
    score = data["validation"]
    images = schedule["steps"] * schedule["batch"]
    study = result.name.removeprefix("training-").removesuffix(".json")  # a second one has a number behind its model
    what = (
        f"`dpt-deploy train benchmarks/trainings/{study}.toml`: {images:,} images of {scenes['count']:,} scenes, "
        f"{schedule['steps']:,} steps{_coarse(schedule)}, {_trimmed(plan)}, {data['seconds'] / 60:.0f} minutes on "
        f"{_machine(data['environment'])}.\n"
    )
    numbers = ", ".join(f"{name.replace('_', ' ')} {value:.3f}" for name, value in score.items())
    return (
        f"### {study}\n\n{what}\nOn {plan['validation']['scenes']} unseen scenes: {numbers}.\n\n"
        f"![loss over steps]({folder}/{result.picture})\n\n{source(result, folder)}"
    )


def _coarse(schedule: Mapping[str, Any]) -> str:
    steps = schedule.get("coarse_steps", 0)
    return f" ({steps:,} of them at {schedule['coarse_side']} pixels)" if steps else ""


def _trimmed(plan: Mapping[str, Any]) -> str:
    trim = plan.get("loss", {"trim": 0.2})["trim"]
    return f"the largest {100 * trim:.0f} % of residuals left out" if trim else "no residual left out"


def _machine(environment: Mapping[str, Any]) -> str:
    return ", ".join([f"{environment['cores']} cores of {environment['processor']}", *environment["gpus"]])


def _draw_training(data: Mapping[str, Any], path: Path) -> None:
    with extra("study", purpose="drawing a training"):
        from dpt_deploy.report.training_figure import draw_training
    draw_training(data, path)


def _study(result: Result, folder: str) -> str:
    data = result.data
    sizes = data["sizes"]
    rows = {(row["subject"], row["size"]): row for row in data["rows"]}
    names = [subject["name"] for subject in data["subjects"]]
    loss = TimingTable(
        ("loss in % against " + data["trained"], *sizes),
        tuple((name, *(_interval(rows[name, size], "loss_percent") for size in sizes)) for name in names),
    )
    error = TimingTable(
        ("AbsRel", *sizes), tuple((name, *(f"{rows[name, size]['abs_rel']:.3f}" for size in sizes)) for name in names)
    )
    prices = [markdown(each) for each in _prices(data)]
    verdicts = "".join(f"- {line}\n" for line in _verdicts(data))
    about = f"{data['data']['images']} images of {data['data']['name']}, seed {data['data']['seed']}."
    plane = f"The best plane of each image errs {data['plane_abs_rel']['value']:.3f}.\n"
    parts = [f"{about} {plane}", markdown(loss), markdown(error), *prices, verdicts]
    picture = f"![accuracy over resolution]({folder}/{result.picture})\n"
    return "\n".join([*parts, picture, source(result, folder)])


def _prices(data: Mapping[str, Any]) -> list[TimingTable]:
    """What other precisions cost beside FP32; studies before there were any say nothing of it."""
    found = data.get("precisions", [])
    if not found:
        return []
    return [
        TimingTable((title, *data["sizes"]), tuple((each["subject"], *map(_hundredths, each[key])) for each in found))
        for title, key in (("AbsRel over that of FP32, %", "abs_rel"), ("δ1 over that of FP32, points", "delta1"))
    ]


def _hundredths(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.2f} ({estimate['low']:.2f} to {estimate['high']:.2f})"


def _interval(row: Mapping[str, Any], key: str) -> str:
    return f"{row[key]:.1f} ({row[f'{key}_low']:.1f} to {row[f'{key}_high']:.1f})"


def _points(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.1f} ({estimate['low']:.1f} to {estimate['high']:.1f})"


def _verdicts(data: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{each['rival']} loses {_points(each['in_range'])} points more than {each['subject']} over the paper's range: "
        f"the paper's ordering {each['verdict'] if each['verdict'] == 'holds' else 'is ' + each['verdict']}"
        for each in data["comparisons"]
    ]
    control = data["control"]
    if "noticed" in control:
        found = "noticed" if control["noticed"] else "**not noticed**"
        lines.append(f"the planted defect ({control['planted']}, {_points(control['overall'])} points) was {found}")
    return lines


def _photographs(result: Result, folder: str) -> str:
    found = result.data["explained_variance"]
    facts = TimingTable(("model", "explained variance"), tuple((name, f"{value:.3f}") for name, value in found.items()))
    picture = Path(result.name).with_suffix(".png").name
    return (
        f"{result.data['photograph']}, share of the variance of the measured disparity:\n\n{markdown(facts)}\n"
        f"![photographs and depth]({folder}/{picture})\n\n{source(result, folder)}"
    )


STUDY_KINDS: dict[str, Section] = {
    "training": Section(
        "Training of the shipped models",
        "Loss: scale- and shift-invariant, with gradient matching. AbsRel is the mean over scenes after\n"
        "alignment in inverse depth; the plane is fitted to each ground truth. A training with a number\n"
        "goes on from where the one without it ended. Minutes are of the clock: those with a number ran beside one\n"
        "another, and beside other work.",
        _training,
        _draw_training,
    ),
    "resolution-study": Section(
        "Accuracy against inference resolution",
        "The paper's Figure 4 on exported artefacts: how much larger the mean AbsRel is than at the training size,\n"
        "with 95 % intervals (paired bootstrap over images).",
        _study,
    ),
    "photographs": Section("Real photographs", "`python benchmarks/photographs.py`", _photographs),
}
