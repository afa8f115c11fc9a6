"""Markdown for resolution studies and the power of their check; see :mod:`dpt_deploy.report.benchmark_page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from dpt_deploy.jobs.study.findings import interval
from dpt_deploy.measure.bootstrap import Estimate
from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.sections import Result, Section, markdown, source

_VERDICTS = {
    "holds": "as in the paper",
    "reversed": "the reverse of the paper",
    "not distinguishable": "within chance",
}


def _study(result: Result, folder: str) -> str:
    data = result.data
    sizes = data["sizes"]
    rows = {(row["subject"], row["size"]): row for row in data["rows"]}
    names = [candidate["name"] for candidate in data["subjects"]]
    loss = TextTable(
        ("loss in % compared with " + data["trained"], *sizes),
        tuple((name, *(_text(_loss(rows[name, size])) for size in sizes)) for name in names),
    )
    error = TextTable(
        ("AbsRel", *sizes), tuple((name, *(f"{rows[name, size]['abs_rel']:.3f}" for size in sizes)) for name in names)
    )
    about = f"### {data['data']['images']} images of {data['data']['name']}, seed {data['data']['seed']}\n"
    plane = f"The AbsRel of the best plane of each image is {data['plane_abs_rel']['value']:.3f} on average.\n"
    findings = "".join(f"- {line}\n" for line in [*_losses(data), *_verdicts(data), *_costs(data)])
    prices = [
        markdown(TextTable((title, *sizes), tuple((each["subject"], *map(_hundredths, each[key])) for each in priced)))
        for title, key in (
            ("change of AbsRel against FP32, %", "abs_rel"),
            ("change of δ1 against FP32, points", "delta1"),
        )
        if (priced := data.get("precisions"))  # missing in older studies
    ]
    picture = f"![accuracy over resolution]({folder}/{result.picture})\n"
    return "\n".join(
        [about, findings, plane, markdown(loss), markdown(error), *prices, picture, source(result, folder)]
    )


def _losses(data: Mapping[str, Any]) -> list[str]:
    """The mean loss of every model over the range of the paper's figure."""
    found = data.get("loss_in_paper_range", {})
    control = data["control"].get("planted")
    each = [f"{name} {_text(estimate, ' %')}" for name, estimate in found.items() if name != control]
    return [f"Mean loss over the sizes of the paper's figure: {'; '.join(each)}."] if each else []


def _verdicts(data: Mapping[str, Any]) -> list[str]:
    lines = [
        f"{each['rival']} loses {_text(each['in_range'])} points more than {each['subject']} over the sizes of the "
        f"paper's figure: {_VERDICTS[each['verdict']]}."
        for each in data["comparisons"]
    ]
    control = data["control"]
    if "noticed" in control:
        found = "notices" if control["noticed"] else "does **not** notice"
        points = _text(control["overall"])
        lines.append(f"Control: {control['planted']} loses {points} points more. The study {found} the planted defect.")
    return lines


def _costs(data: Mapping[str, Any]) -> list[str]:
    """The largest growth of the error in each other precision."""
    return [
        f"{each['subject']}: AbsRel grows by at most {_hundredths(max(each['abs_rel'], key=_value))} % compared with "
        f"{each['original']}; δ1 changes by at worst {_hundredths(min(each['delta1'], key=_value))} points."
        for each in data.get("precisions", [])
    ]


def _agreements(results: Sequence[Result]) -> str:
    """Count the intervals of each later study that overlap with those of the largest one, on other images."""
    largest = max(results, key=lambda result: int(result.data["data"]["images"]))
    lines = []
    for other in results:
        pairs = _common(largest.data, other.data)
        if other is largest or not pairs or set(largest.data["images"]) & set(other.data["images"]):
            continue
        met = sum(one.meets(two) for one, two in pairs)
        lines.append(
            f"- The study of {other.data['data']['images']} other images (seed {other.data['data']['seed']}): {met} of "
            f"{len(pairs)} intervals overlap with those of {largest.data['data']['images']} images.\n"
        )
    return f"Comparison with other images, as `dpt-deploy study --check` does it:\n\n{''.join(lines)}" if lines else ""


def _common(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[Estimate, Estimate]]:
    """The losses that both studies have, in pairs."""
    if (one["data"]["name"], one["trained"]) != (other["data"]["name"], other["trained"]) or "images" not in one:
        return []
    first, second = (
        {(row["subject"], row["size"]): row for row in data["rows"] if row["size"] != data["trained"]}
        for data in (one, other)
    )
    return [(Estimate(**_loss(first[key])), Estimate(**_loss(second[key]))) for key in first if key in second]


def _loss(row: Mapping[str, Any]) -> dict[str, float]:
    ends = {"value": "loss_percent", "low": "loss_percent_low", "high": "loss_percent_high"}
    return {name: row[key] for name, key in ends.items()}


def _value(estimate: Mapping[str, float]) -> float:
    return estimate["value"]


def _text(estimate: Mapping[str, float], unit: str = "") -> str:
    return interval(Estimate(**estimate), unit)


def _hundredths(estimate: Mapping[str, float]) -> str:
    return interval(Estimate(**estimate), digits=2)


def _check_power(result: Result, folder: str) -> str:
    data = result.data
    covered = data["covered"]
    lines = [f"- If nothing has changed, {100 * data['unchanged']['share']:.0f} % of studies raise a false alarm.\n"]
    for points, group in groupby(data["changed"], key=lambda each: each["points"]):
        shares = sorted(100 * each["share"] for each in group)
        ends = " to ".join(dict.fromkeys(f"{share:.0f}" for share in (shares[0], shares[-1])))
        lines.append(f"- A change of {points} points in one model is detected in {ends} % of studies.\n")
    lines.append(
        f"- The 95 % intervals contain the true value in {100 * covered['study']:.0f} % of cases with "
        f"{data['images']} images, and in {100 * covered['record']:.0f} % with {data['recorded_images']}.\n"
    )
    table = TextTable(
        ("model", "planted points", "detected in", "intervals apart"),
        tuple(
            (each["subject"], str(each["points"]), f"{100 * each['share']:.0f} %", f"{each['intervals']:.1f}")
            for each in data["changed"]
        ),
    )
    about = (
        f"{data['trials']} simulated pairs of a record of {data['recorded_images']} images and a study of "
        f"{data['images']} others, drawn from {data['study']}; {data['intervals']} intervals are compared.\n"
    )
    return "\n".join([about, "".join(lines), markdown(table), source(result, folder)])


STUDY_KINDS: dict[str, Section] = {
    "resolution-study": Section(
        "Accuracy against inference resolution",
        "The paper's Figure 4 on exported artefacts. The loss at a size is the increase of the mean AbsRel over that\n"
        "at the training size. Intervals are 95 % (paired bootstrap over images).",
        _study,
        compare=_agreements,
    ),
    "check-power": Section(
        "Power of the check of a study",
        "`python benchmarks/check_power.py`: how far `dpt-deploy study --check` can be trusted. The errors of one\n"
        "recorded study stand for all images; records and studies are drawn from them.",
        _check_power,
    ),
}
