"""``dpt-deploy demo``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli.bench import print_timing
from dpt_deploy.cli.shared.options import PATH
from dpt_deploy.cli.shared.output import PARITY_COLUMNS, case_rows, print_table
from dpt_deploy.core.recipe import load_recipe


@click.command()
@click.option("--backbone", default="tiny", show_default=True, help="Name of a network (see `dpt-deploy models`).")
@click.option("-o", "--out", type=PATH, default=Path("out/demo"), show_default=True, help="Folder to write to.")
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time limit of the timing.",
)
def command(backbone: str, out: Path, seconds: float) -> None:
    """Run the whole pipeline once, offline, on a photograph: export, verify, predict, time.

    Nothing is downloaded. `tiny`, `tiny-vit` and `tiny-conv` use the trained weights that ship with the package. Any
    other model gets random weights, which only show that the pipeline works.
    """
    from dpt_deploy.jobs.demo import run_demo

    demo = run_demo(backbone, out, seconds=seconds)
    weights = demo.artifact.sidecar.weights
    description = load_recipe(backbone).description
    title = f"{demo.artifact.path.name} against PyTorch (weights: {weights})"
    print_table(title, PARITY_COLUMNS, case_rows(demo.verification.comparison.cases))
    print_timing(f"time of one image (weights: {weights})", demo.timing)
    click.echo(
        f"photograph  {demo.photograph}\ndepth       {demo.picture}   (weights: {weights})\nmodel       {description}"
    )
