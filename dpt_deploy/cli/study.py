"""``dpt-deploy study``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.cli.robustness.corruptions import parse_severities, study_corruptions
from dpt_deploy.cli.shared.options import (
    PATH,
    clusterings,
    json_option,
    names,
    precisions_option,
    res_option,
    runtimes_option,
    tokens_options,
)
from dpt_deploy.cli.shared.output import print_json, print_table, say
from dpt_deploy.core.errors import ParityError, UsageError
from dpt_deploy.core.precision import FP32
from dpt_deploy.core.size import Size


@click.command()
@click.option(
    "--backbone",
    "models",
    default="tiny,tiny-vit,tiny-conv",
    show_default=True,
    callback=names,
    help="Names of networks, recipes (.toml) or exported models (.onnx), separated by commas.",
)
@click.option(
    "--weights", metavar="FILE|NAME|random", help="Weights of the model that is exported (default: the published ones)."
)
@res_option("Network input sizes.  [default: 1 to 2.67 times the training size]")
@runtimes_option
@precisions_option(FP32)
@tokens_options("Measure with fewer tokens, too: one or more, separated by commas.", "LAYER:HxW|LAYER:N%,…")
@click.option(
    "--scenes", type=click.IntRange(2), default=48, show_default=True, help="Number of rendered scenes to measure on."
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Seed of scenes and intervals, below 1,000,000; seeds less than 1,000 apart may share scenes.",
)
@click.option("--data", metavar="NAME:DIR", help="Measure on this data set instead, with its own protocol.")
@click.option("--limit", type=click.IntRange(2), metavar="N", help="Use the first N images only.")
@click.option("--reference", type=click.Choice(["paper"]), help="Print the paper's number next to the measured one.")
@click.option(
    "--control",
    type=click.Choice(["tiled", "nearest", "none"]),
    default="tiled",
    show_default=True,
    callback=lambda _context, _option, value: None if value == "none" else value,
    help="Defect planted in the position embedding of a model; the study must detect it.",
)
@click.option(
    "--check",
    "recorded",
    type=PATH,
    help="Compare with this recorded study; exit with 5 if any confidence intervals do not overlap.",
)
@click.option(
    "--corruptions",
    metavar="NAMES",
    callback=lambda context, option, value: value and names(context, option, value),
    help="Study damaged images instead (default size: that of the training): names such as fog-3d, groups "
    "(noise, blur, weather, digital, view, 3-d), or all, separated by commas.",
)
@click.option(
    "--severity",
    "severities",
    default="1-5",
    show_default=True,
    callback=parse_severities,
    help="Severities of the corruptions, such as 1-5 or 1,3,5.",
)
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw the figures and write the page.")
@click.option("-o", "--out", type=PATH, default="out/study", show_default=True, help="Folder to write to.")
@json_option
def command(out: Path, plot: bool, reference: str | None, recorded: Path | None, as_json: bool, **options: Any) -> None:
    """Measure accuracy against inference resolution (the paper's Figure 4).

    Every model is exported and scored on every image at every size. An interrupted study continues where it stopped.
    The results are written to study.json, study.csv, figure.svg, figure.png and report.html. The exit code is 5 if the
    planted defect was not detected (the study is then not sensitive enough), or if --check finds a difference.

    \b
    dpt-deploy study                                     # offline: the models that ship with the package
    dpt-deploy study --backbone tiny-vit --runtime ort,torch --res 192,320 --scenes 16
    dpt-deploy study --seed 90210 --check out/study/study.json -o out/other    # same result on other scenes?
    dpt-deploy study --backbone hybrid-nyu --data nyu-metric:/data/nyu --res 480x640,544x736 --reference paper
    dpt-deploy study --backbone tiny --corruptions all --precision fp32,int8-cpu --scenes 16
    """
    from dpt_deploy.jobs.study import study
    from dpt_deploy.jobs.study.agreement import agreement
    from dpt_deploy.jobs.study.outcome import NUMBERS, PICTURES, RECORD, STAGED
    from dpt_deploy.report import study_numbers

    if plot:
        from dpt_deploy.report.study_files import write_pictures  # fails early without matplotlib
    sizes: tuple[Size, ...] = options.pop("res")
    corruptions, severities = options.pop("corruptions"), options.pop("severities")
    fewer = clusterings(options.pop("tokens"), options.pop("reconstruction"))
    request = study.StudyRequest(sizes=sizes, reference=reference is not None, approximations=fewer, **options)
    if corruptions:
        _refuse_check(recorded)
        study_corruptions(request, corruptions, severities, out=out, plot=plot, as_json=as_json)
        return
    setup = study.prepare_study(request)
    baseline = study.recorded_study(recorded, setup, out) if recorded else None
    found, models = study.run_study(setup, out, baseline=baseline)
    with staged_files(out, STAGED) as stage:
        study_numbers.write_numbers(found, stage)
        if plot:
            say("drawing")
            write_pictures(found, models, setup, stage)
        commit_files(FileSet(stage, [*(PICTURES if plot else ()), *NUMBERS]))
    met = agreement(found, baseline) if baseline else None
    summary = study_numbers.summary(found)
    for caution in summary.cautions:
        say(caution, style="bold red")
    if as_json:
        print_json(found.to_dict() | ({"agreement": met.to_dict()} if met else {}))
    else:
        print_table(summary.title, summary.columns, summary.rows)
        click.echo("\n".join([*summary.sentences, *([str(met)] if met else [])]))
        click.echo(str(out / ("report.html" if plot else RECORD)))
    if not found.measures_something:
        raise ParityError(
            "the planted defect was not detected: the study is not sensitive enough",
            hint="use more images or better trained models; the results were written all the same",
        )
    if met:
        met.require()


def _refuse_check(recorded: Path | None) -> None:
    if recorded:
        raise UsageError(
            "--check compares resolution studies; it does not go with --corruptions", hint="leave out one of them"
        )
