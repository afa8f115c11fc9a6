"""``dpt-deploy bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli._options import PATH, batch_option, json_option, res_option
from dpt_deploy.cli._output import print_json, print_table, say
from dpt_deploy.core.errors import ParityError
from dpt_deploy.core.spec import Size

TIMING_COLUMNS = (
    "size",
    "batch",
    "contender",
    "median",
    "95 % interval",
    "p90",
    "runs",
    "of ceiling",
    "times slower than ort",
)
STEP_COLUMNS = ("step", "median", "share")


@click.command()
@click.argument("artifact", type=PATH, required=False)
@click.option(
    "--backbone", default="hybrid", show_default=True, help="Exported with random weights when no ARTIFACT is given."
)
@res_option("Sizes (default 384).")
@batch_option("Batches (default 1).")
@click.option(
    "--runtime", "contenders", default="torch,ort", show_default=True, help="Any of torch, torch-compile, hf-ort, ort."
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=10.0,
    show_default=True,
    help="Time box of each size and batch.",
)
@click.option("--photo", type=PATH, help="Also time the steps from this file to its depth map.")
@click.option(
    "--check", "baseline", type=PATH, help="Exit 5 when a ratio fell below this recorded run (made by --json)."
)
@json_option
def command(artifact: Path | None, baseline: Path | None, as_json: bool, **options: Any) -> None:
    """Time an exported model beside PyTorch, turn by turn in one run: ratios then hold on a busy machine.

    \b
    dpt-deploy bench                                        # offline: hybrid with random weights
    dpt-deploy bench out/base-fp32.onnx --res 384,768 --runtime torch,hf-ort,ort --json > base.json
    dpt-deploy bench out/base-fp32.onnx --res 384,768 --runtime torch,hf-ort,ort --check base.json
    """
    from dpt_deploy.workflow.bench import read_baseline

    recorded = read_baseline(baseline) if baseline else None  # before minutes of timing
    result = _measure(artifact, **options)
    if as_json:
        print_json(result.to_dict())
    else:
        title = f"{result.model} (weights: {result.weights}); ceiling {result.ceiling / 1e9:.0f} GFLOP/s"
        print_timing(title, result)
    worse = result.worse_than(recorded) if recorded else []
    if worse:
        raise ParityError("slower than recorded: " + "; ".join(map(str, worse)), hint="find what made ours slower")


def _measure(
    artifact: Path | None,
    backbone: str,
    res: tuple[Size, ...],
    batch: tuple[int, ...],
    contenders: str,
    seconds: float,
    photo: Path | None,
) -> Any:
    from dpt_deploy.core.artifact import open_artifact
    from dpt_deploy.workflow.bench import bench_artifact, cached_artifact
    from dpt_deploy.workflow.contenders import make

    names = [name.strip() for name in contenders.split(",")]
    for name in names:
        make(name)  # an unknown one is refused before anything is exported
    opened = open_artifact(artifact) if artifact else cached_artifact(backbone, say)
    return bench_artifact(
        opened,
        res or (Size(384, 384),),
        batches=batch or (1,),
        contenders=names,
        seconds=seconds,
        photograph=photo,
        progress=say,
    )


def print_timing(title: str, result: Any) -> None:
    """The timing table, and the steps of one photograph where they were measured."""
    print_table(title, TIMING_COLUMNS, [_timing_row(row, result.ceiling) for row in result.rows])
    if result.steps:
        whole = sum(result.steps.values())
        rows = [[name, f"{value * 1e3:.1f} ms", f"{100 * value / whole:.1f} %"] for name, value in result.steps.items()]
        print_table("from file to depth map", STEP_COLUMNS, rows)


def _timing_row(row: Any, ceiling: float) -> list[str]:
    low, high = row.timing.interval()
    against = "-" if row.against is None else f"{row.against[0]:.2f} ({row.against[1]:.2f} to {row.against[2]:.2f})"
    return [
        row.size,
        str(row.batch),
        row.contender,
        f"{_ms(row.timing.median)} ms",
        f"{_ms(low)} to {_ms(high)}",
        _ms(row.timing.percentile(90)),
        str(len(row.timing.seconds)),
        f"{100 * row.rate / ceiling:.0f} %",
        against,
    ]


def _ms(seconds: float) -> str:
    """Milliseconds with as many digits as mean something."""
    value = seconds * 1e3
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}" if value < 10 else f"{value:.1f}"
