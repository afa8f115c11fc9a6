"""``dpt-deploy sweep``: its options, and the display of its result."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dpt_deploy.artifact.commit import FileSet, commit_files, staged_files
from dpt_deploy.cli.shared.options import PATH, clusterings, json_option, precisions_option, res_option, tokens_options
from dpt_deploy.cli.shared.output import print_json, print_path, print_table
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.size import Size

if TYPE_CHECKING:
    from dpt_deploy.jobs.study.sweep import Point


@click.command()
@click.option(
    "--backbone",
    default="tiny",
    show_default=True,
    help="Name of a network (see `dpt-deploy models`) or a recipe file (.toml).",
)
@click.option("--weights", metavar="FILE|NAME|random", help="Weights to use (default: the published ones).")
@res_option("Network sizes, the training size and others.  [default: 1 to 2.67 times the training size]")
@precisions_option("fp32,fp16,int8-cpu,int8,fp8")
@tokens_options("Compare numbers of tokens, too: one or more, separated by commas.", "LAYER:HxW|LAYER:N%,…")
@click.option(
    "--scenes", type=click.IntRange(2), default=16, show_default=True, help="Number of rendered scenes to measure on."
)
@click.option("--plot/--no-plot", default=True, show_default=True, help="Draw error against time.")
@click.option("-o", "--out", type=PATH, default="out/sweep", show_default=True, help="Folder to write to.")
@json_option
def command(
    backbone: str,
    weights: str | None,
    res: tuple[Size, ...],
    precisions: tuple[str, ...],
    tokens: tuple[tuple[float, ...], ...],
    reconstruction: str | None,
    scenes: int,
    plot: bool,
    out: Path,
    as_json: bool,
) -> None:
    """Compare precisions, sizes and numbers of tokens of a model: error against time.

    Every precision is exported and scored on the same scenes at every size. The precisions that ONNX Runtime computes
    on this machine (fp32, int8-cpu) are timed, interleaved. The others are meant for engines: their errors are measured
    with the runtime emu, and they are not timed. The results are written to sweep.json and sweep.svg.

    \b
    dpt-deploy sweep                                     # offline: the model that ships with the package
    dpt-deploy sweep --backbone tiny-vit --res 192,320 --precision fp32,int8-cpu
    dpt-deploy sweep --backbone tiny-vit --res 192,320 --precision fp32,int8-cpu --tokens 2:16x16,3:12x12
    """
    from dpt_deploy.jobs.study import sweep
    from dpt_deploy.report.drawing import load_drawing

    draw = (
        load_drawing("dpt_deploy.report.figures.pareto_figure:draw_pareto") if plot else None
    )  # fails early without matplotlib
    setup = sweep.prepare_sweep(backbone, weights, res, precisions, scenes, clusterings(tokens, reconstruction))
    found = sweep.run_sweep(setup, out)
    document = found.to_dict()
    with staged_files(out, "sweep") as stage:
        atomic_write_bytes(stage / "sweep.json", (json.dumps(document, indent=1) + "\n").encode())
        if draw:
            draw(document, stage / "sweep.svg")
        commit_files(FileSet(stage, [*(["sweep.svg"] if draw else ()), "sweep.json"]))
    if as_json:
        print_json(document)
        return
    columns = ("precision", "size", "runtime", "AbsRel", "ms", "best")
    print_table(
        f"{document['images']} images of {found.study.data.name}", columns, [_row(point) for point in found.points]
    )
    print_path(out / "sweep.json")


def _row(point: Point) -> list[str]:
    time = f"{point.ms[0]:.1f} ({point.ms[1]:.1f}-{point.ms[2]:.1f})" if point.ms else "-"
    name = f"{point.precision} {point.approximation}".strip()
    return [name, point.size, point.runtime, f"{point.abs_rel:.4f}", time, "*" if point.best else ""]
