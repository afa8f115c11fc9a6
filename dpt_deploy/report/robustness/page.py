"""The page of a study of conditions: one file without scripts or network access. Needs the extra ``study``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dpt_deploy.jobs.study.robustness import findings
from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.figures.robustness_figure import robustness_svg
from dpt_deploy.report.html import Html, el, table, whole_page
from dpt_deploy.report.robustness.numbers import extra_table, growth_table, level_table, target_table

Document = Mapping[str, Any]


@dataclass(frozen=True)
class Strip:
    """A row of pictures with its title: the same image under several conditions, (caption, data URI) each."""

    title: str
    pictures: tuple[tuple[str, str], ...]


def render(document: Document, strips: Sequence[Strip], *, command: str) -> str:
    """Render the page as HTML; ``command`` is the one that wrote it."""
    title = findings.headline(document)
    main = el(
        "main",
        _opening(document, title),
        _figure(document),
        _tables(document),
        _gallery(strips),
        _method(document),
        _provenance(document),
        el("footer", f"Written by dpt-deploy {command}. This page is a single file."),
    )
    return whole_page(title, main)


def _opening(document: Document, title: str) -> Html:
    data = document["data"]
    kicker = f"{findings.under_of(document)} study \N{MIDDLE DOT} {data['images']} images \N{MIDDLE DOT} {data['name']}"
    warnings = [el("p", each, class_="warning", role="note") for each in findings.cautions(document)]
    items = [
        el("li", each)
        for each in [*findings.scored_task(document), *findings.answers(document), *findings.losses(document)]
    ]
    return el(
        "header", el("p", kicker, class_="kicker"), el("h1", title), *warnings, el("ul", *items, class_="findings")
    )


def _figure(document: Document) -> Html:
    note = (
        "Left: mean error under a condition minus that on clean images. Right: the same difference minus that of the "
        "model in FP32, on the same resampled images. A difference is significant if its interval excludes zero."
    )
    figure = el("figure", Html(robustness_svg(document)), el("figcaption", note))
    return el("section", el("h2", "Loss by condition"), figure, el("p", findings.control(document)))


def _tables(document: Document) -> Html:
    parts = [_table(growth_table(document))]
    if document["extras"]:
        parts.append(_table(extra_table(document)))
    if target := target_table(document):
        parts.append(_table(target))
    levels = el("details", el("summary", "The error at every level"), _table(level_table(document)))
    return el("section", el("h2", "Numbers"), *parts, levels)


def _gallery(strips: Sequence[Strip]) -> Html:
    if not strips:
        return Html("")
    rows = [
        el(
            "div",
            el("h3", strip.title),
            *(
                el(
                    "figure",
                    el("img", src=source, alt=f"{strip.title}, {caption}", loading="lazy"),
                    el("figcaption", caption),
                )
                for caption, source in strip.pictures
            ),
            class_="strip",
            style=f"--columns: {len(strip.pictures)}",
        )
        for strip in strips
    ]
    return el("section", el("h2", "The images"), *rows)


def _method(document: Document) -> Html:
    statistics, data = document["statistics"], document["data"]
    facts = [
        ["images", f"{data['images']} of {data['name']}; {data['protocol']}"],
        *([name, str(value)] for name, value in document["about"].items()),
        ["mRR", "mean over conditions of (1 - error) / (1 - error on clean images), in percent"],
        ["mCE", "mean over conditions of the error over that of the same model in FP32, in percent"],
        ["intervals", f"{statistics['interval']}, seed {statistics['seed']}"],
    ]
    return el("section", el("h2", "How it was measured"), table(["", ""], facts))


def _provenance(document: Document) -> Html:
    rows = [
        [each["subject"], each["file"], each["weights"], each["runtime"], each["precision"], each["sha256"][:16]]
        for each in document["subjects"]
    ]
    machine = [[name, _flat(value)] for name, value in document["environment"].items() if value]
    return el(
        "section",
        el("h2", "Provenance"),
        table(["model", "file", "weights", "runtime", "precision", "sha256"], rows),
        el("details", el("summary", "The machine"), table(["", ""], machine)),
    )


def _table(found: TextTable) -> Html:
    return table(list(found.heads), [list(row) for row in found.rows])


def _flat(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
