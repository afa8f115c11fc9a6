"""``dpt-deploy build``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpt_deploy.artifact.records import EngineOptions
from dpt_deploy.cli.shared.engine_tables import cost_table, engine_rows, next_step
from dpt_deploy.cli.shared.options import PATH, artifact_argument, capabilities, json_option, ranges
from dpt_deploy.cli.shared.output import print_facts, print_json, print_path, print_table, say
from dpt_deploy.core.environment import LIBRARIES
from dpt_deploy.core.ranges import MAX_BATCH

if TYPE_CHECKING:
    from dpt_deploy.jobs.build.build import BuildResult

_UNTRIED = "experimental: not yet run on a GPU"


@click.command()
@artifact_argument
@click.option(
    "--res",
    "res",
    metavar="SIZES",
    callback=ranges,
    help="Sizes; each gets optimisation profiles of its own. A..B is one range.  [default: the training size]",
)
@click.option("--batch", type=click.IntRange(1, MAX_BATCH), default=1, show_default=True, help="Largest batch.")
@click.option("--library", type=click.Choice(list(LIBRARIES)), help="Default: the one that is installed.")
@click.option(
    "--level", type=click.IntRange(0, 5), default=3, show_default=True, help="Optimisation level of the builder."
)
@click.option("--workspace", type=click.IntRange(1, 1 << 24), help="Largest workspace of a layer, in MiB.")
@click.option("--timing-cache", type=PATH, help=f"File to keep kernel timings in (tensorrt; {_UNTRIED}).")
@click.option("--compute-capabilities", metavar="N.N,…", callback=capabilities, help="Target GPUs (tensorrt_rtx).")
@click.option(
    "--hardware-compatible",
    is_flag=True,
    help=f"Make the engine run on every GPU from Ampere on (tensorrt; {_UNTRIED}).",
)
@click.option(
    "--version-compatible",
    is_flag=True,
    help=f"Make the engine run with later versions of the library (tensorrt; {_UNTRIED}).",
)
@click.option(
    "--strip-weights",
    is_flag=True,
    help=f"Leave the weights out; `refit` ({_UNTRIED}) must add them before the engine runs.",
)
@click.option("--refit", is_flag=True, help=f"Allow `refit` to replace the weights later ({_UNTRIED}).")
@click.option("--tf32", is_flag=True, help="Let FP32 products round their inputs to TF32 (10 bits).")
@click.option(
    "--measure/--no-measure",
    default=None,
    help=f"Time each profile ({_UNTRIED}).  [default: if there is a GPU]",
)
@click.option("-o", "--out", type=PATH, default=Path("out"), show_default=True, help="Folder to write the engine to.")
@click.option("--force", is_flag=True, help="Build again even if the engine is up to date.")
@json_option
def command(artifact: Path, as_json: bool, workspace: int | None, **others: Any) -> None:
    """Build a TensorRT engine from an exported model: strongly typed, audited, with a profile for each size.

    \b
    dpt-deploy build out/hybrid-fp16.onnx --res 384,384x672 --batch 8
    dpt-deploy build out/hybrid-fp16.onnx --res 256..512 -o engines/

    TensorRT-RTX builds without a GPU. Building with TensorRT, and running an engine, need one (experimental: not yet
    run on a GPU). The exit code is 5 if the graph does not compute in its precision and 6 if the library cannot build
    it. If a measurement requested with --measure fails, the command exits with an error but keeps the engine.
    """
    from dpt_deploy.jobs.build.build import build_engine_artifact

    names = ("level", "compute_capabilities", "hardware_compatible", "version_compatible", "strip_weights", "refit")
    chosen = {name: others.pop(name) for name in (*names, "tf32")}
    options = EngineOptions(workspace_bytes=(workspace or 0) << 20, **chosen)
    result = build_engine_artifact(artifact, others.pop("out"), options=options, **others)
    _show(result, as_json=as_json)
    if others["measure"] and result.failed:
        raise result.failed


def _show(result: BuildResult, *, as_json: bool) -> None:
    from dpt_deploy.artifact.store import engine_of

    if as_json:
        print_json(result.to_dict())
        return
    record = engine_of(result.artifact)
    print_table(*cost_table(result.costs, record))
    print_facts(str(result.artifact.path), engine_rows(record))
    say(next_step(result.artifact))
    print_path(result.artifact.path)
