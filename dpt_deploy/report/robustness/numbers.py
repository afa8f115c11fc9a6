"""Numbers of a study of conditions: tables for terminal and pages, and the JSON and CSV files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.jobs.study.robustness.findings import text
from dpt_deploy.report.bench_tables import TextTable
from dpt_deploy.report.study_numbers import csv_cell

Document = Mapping[str, Any]


def write_numbers(document: Document, path: Path) -> None:
    """Write the document to ``path``, and its rows to the CSV file next to it."""
    rows = document["rows"]
    stream = io.StringIO()
    writer = csv.DictWriter(stream, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: csv_cell(value) if isinstance(value, str) else value for name, value in row.items()})
    atomic_write_bytes(path.with_suffix(".csv"), stream.getvalue().encode())
    atomic_write_bytes(path, (json.dumps(document, indent=1) + "\n").encode())


def names(record: str) -> tuple[str, str]:
    """Names of the files of :func:`write_numbers`; the document comes last."""
    return str(Path(record).with_suffix(".csv")), record


def growth_table(document: Document) -> TextTable:
    """Growth of the error in points: a row per kind of condition, a column per subject."""
    summary = document["summary"]
    kinds = list(summary[0]["growth_by_name"])
    rows = [(name, *(text(each["growth_by_name"][name]) for each in summary)) for name in kinds]
    rows.append(("all", *(text(each["growth"]) for each in summary)))
    rows.append(("error on clean images, %", *(text(each["clean"]) for each in summary)))
    rows.append(("mRR, %", *(text(each["mrr"]) for each in summary)))
    rows.append(("mCE, %", *(text(each["mce"]) if each["mce"] else "100" for each in summary)))
    return TextTable(("growth of the error, points", *(each["subject"] for each in summary)), tuple(rows))


def extra_table(document: Document) -> TextTable:
    """Growth of each precision minus that of FP32 in points: a row per kind of condition."""
    extras = document["extras"]
    kinds = list(extras[0]["by_name"])
    rows = [(name, *(text(each["by_name"][name], "", 2) for each in extras)) for name in kinds]
    rows.append(("all", *(text(each["overall"], "", 2) for each in extras)))
    heads = tuple(f"{each['subject']} \N{MINUS SIGN} {each['original']}" for each in extras)
    return TextTable(("difference of growth, points", *heads), tuple(rows))


def level_table(document: Document) -> TextTable:
    """Error in percent: a row per subject and kind of condition, a column per level."""
    rows = document["rows"]
    levels = sorted({row["level"] for row in rows if row["level"]})
    found = {(row["subject"], row["name"], row["level"]): row["error"] for row in rows}
    kinds = list(dict.fromkeys((row["subject"], row["name"]) for row in rows if row["level"]))
    cells = [
        (
            f"{subject}, {name}",
            f"{found[subject, 'clean', 0]:.1f}",
            *(f"{found[subject, name, level]:.1f}" if (subject, name, level) in found else "-" for level in levels),
        )
        for subject, name in kinds
    ]
    return TextTable(("error, %", "clean", *(f"{level:g}" for level in levels)), tuple(cells))


def target_table(document: Document) -> TextTable | None:
    """Distance to the target of an attack in percent: a row per subject, a column per condition; None without one."""
    rows = document["rows"]
    if "target" not in rows[0]:
        return None
    conditions = list(dict.fromkeys((row["name"], row["level"]) for row in rows))
    found = {(row["subject"], row["name"], row["level"]): 100 * row["target"] for row in rows}
    cells = [
        (subject, *(f"{found[subject, *each]:.1f}" for each in conditions))
        for subject in dict.fromkeys(row["subject"] for row in rows)
    ]
    heads = tuple(f"{name} {level:g}" if level else name for name, level in conditions)
    return TextTable(("distance to the target, %", *heads), tuple(cells))
