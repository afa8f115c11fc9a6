"""``dpt-deploy study --corruptions``: the display of its result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.cli.shared.output import print_json, print_table, say
from dpt_deploy.core.errors import ParityError, UsageError

if TYPE_CHECKING:
    from dpt_deploy.jobs.study.study import StudyRequest


def parse_severities(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Parse ``--severity 1-5`` or ``1,3,5``. Only the syntax is checked."""
    found: list[int] = []
    for part in (value or "1-5").split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or not (last or first).isdecimal():
            raise UsageError(
                f"--severity is {value!r}; expected numbers from 1 to 5", hint="for example --severity 1-5 or 1,3,5"
            )
        found += range(int(first), int(last or first) + 1)
    return tuple(found)


def study_corruptions(
    request: StudyRequest,
    corruptions: Sequence[str],
    severities: Sequence[int],
    *,
    out: Path,
    plot: bool,
    as_json: bool,
) -> None:
    """Run a study of corruptions, write its files to ``out`` and print it.

    Raises:
        ParityError: the control was not noticed; the results are written all the same.
    """
    from dpt_deploy.jobs.study.robustness import corrupted
    from dpt_deploy.report.robustness import numbers

    if plot:
        from dpt_deploy.report.robustness import files  # fails early without matplotlib
    asked = corrupted.CorruptionRequest(request, tuple(corruptions), tuple(severities))
    setup = corrupted.prepare_corruptions(asked)
    study, _ = corrupted.run_corruptions(setup, out)
    document = study.to_dict()
    with staged_files(out, "corruptions") as stage:
        numbers.write_numbers(document, stage / corrupted.RECORD)
        if plot:
            say("drawing")
            files.write_pictures(document, setup, stage)
        commit_files(FileSet(stage, [*(files.PICTURES if plot else ()), *numbers.names(corrupted.RECORD)]))
    shown = corrupted.RECORD.replace(".json", ".html") if plot else corrupted.RECORD
    print_document(document, out / shown, as_json=as_json)


def print_document(document: Mapping[str, Any], shown: Path, *, as_json: bool) -> None:
    """Print a study of conditions; ``shown`` is the file to name last.

    Raises:
        ParityError: the control was not noticed.
    """
    from dpt_deploy.jobs.study.robustness import findings
    from dpt_deploy.report.robustness import numbers

    for caution in findings.cautions(document):
        say(caution, style="bold red")
    if as_json:
        print_json(dict(document))
    else:
        table = numbers.growth_table(document)
        print_table(f"{document['data']['images']} images of {document['data']['name']}", table.heads, table.rows)
        click.echo("\n".join(findings.sentences(document)))
        click.echo(str(shown))
    if not document["measures_something"]:
        raise ParityError(
            "the control has no effect: the study is not sensitive enough",
            hint="use more images or better trained models; the results were written all the same",
        )
