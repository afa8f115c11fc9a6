"""``dpt-deploy bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli._options import PATH, json_option, res_option
from dpt_deploy.cli._output import print_json, print_table, say
from dpt_deploy.core.spec import Size, check_size

TIMING_COLUMNS = ("size", "contender", "median", "95 % interval", "runs", "times slower than ort")


@click.command()
@click.argument("artifact", type=PATH, required=False)
@click.option(
    "--backbone", default="hybrid", show_default=True, help="Exported with random weights when no ARTIFACT is given."
)
@res_option("Sizes (default 384).")
@click.option("--runtime", "contenders", default="torch,ort", show_default=True, help="Any of torch, hf-ort, ort.")
@click.option("--seconds", default=10.0, show_default=True, help="Time box of each size.")
@json_option
def command(
    artifact: Path | None, backbone: str, res: tuple[Size, ...], contenders: str, seconds: float, as_json: bool
) -> None:
    """Time an exported model beside PyTorch, turn by turn in one run, so that ratios hold on a busy machine.

    \b
    dpt-deploy bench                                        # offline: hybrid with random weights
    dpt-deploy bench out/base-fp32.onnx --res 384,768 --runtime torch,hf-ort,ort
    """
    from dpt_deploy.core.artifact import open_artifact
    from dpt_deploy.workflow.bench import bench_artifact, cached_artifact

    opened = open_artifact(artifact) if artifact else cached_artifact(backbone, say)
    sizes = res or (Size(384, 384),)
    for size in sizes:
        check_size(size, stride=opened.sidecar.model.stride)
    result = bench_artifact(
        opened,
        sizes,
        contenders=[name.strip() for name in contenders.split(",")],
        seconds=seconds,
        progress=lambda size: say(f"timing {size}"),
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print_table(f"{result.model} (weights: {result.weights}), batch 1", TIMING_COLUMNS, timing_rows(result))


def timing_rows(result: Any) -> list[list[str]]:
    """Timing rows for a table."""
    rows = []
    for row in result.rows:
        low, high = row.timing.interval()
        against = "-" if row.against is None else f"{row.against[0]:.2f} ({row.against[1]:.2f}-{row.against[2]:.2f})"
        interval = f"{low * 1e3:.0f}-{high * 1e3:.0f} ms"
        rows.append(
            [
                row.size,
                row.contender,
                f"{row.timing.median * 1e3:.0f} ms",
                interval,
                str(len(row.timing.seconds)),
                against,
            ]
        )
    return rows
