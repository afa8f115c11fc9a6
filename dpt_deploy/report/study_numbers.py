"""Numbers of a study: a summary for the terminal, and the files ``study.json`` and ``study.csv``."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.jobs.study import findings
from dpt_deploy.jobs.study.outcome import RECORD, Study

_FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what begins one
NUMBERS = (RECORD, "study.csv")


@dataclass(frozen=True)
class StudySummary:
    """Summary of a study: caveats, the loss at every size, and sentences about the findings."""

    cautions: list[str]
    title: str
    columns: list[str]
    rows: list[list[str]]
    sentences: list[str]


def summary(study: Study) -> StudySummary:
    """Summarise a study in a table and a few sentences."""
    trained, curves = str(study.scores.trained), study.analysis.curves
    rows = [
        [size, f"{times:.2f}", *(findings.interval(curve.loss[index]) for curve in curves)]
        for index, (times, size) in enumerate(study.ticks())
    ]
    at = study.scores.reference
    rows.append(["AbsRel", f"at {trained}", *(f"{curve.error[at].value:.4f}" for curve in curves)])
    rows.append(
        ["share of plane", f"at {trained}", *(f"{100 * curve.share_of_plane[at].value:.0f} %" for curve in curves)]
    )
    return StudySummary(
        cautions=findings.cautions(study),
        title=f"loss of accuracy in % compared with {trained}, {len(study.scores.images)} images of {study.data.name}",
        columns=["size", "ratio", *(curve.candidate for curve in curves)],
        rows=rows,
        sentences=[
            *findings.ordering(study),
            *findings.precisions(study),
            findings.control(study),
            *findings.references(study),
        ],
    )


def csv_cell(text: str) -> str:
    """Return ``text`` as a cell of a CSV file that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def write_numbers(study: Study, out: Path) -> None:
    """Write ``study.json`` with everything and ``study.csv`` with the rows of the figure."""
    rows = study.rows()
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: csv_cell(value) if isinstance(value, str) else value for name, value in row.items()})
    atomic_write_bytes(out / "study.csv", text.getvalue().encode())
    atomic_write_bytes(out / RECORD, (json.dumps(study.to_dict(), indent=1) + "\n").encode())
