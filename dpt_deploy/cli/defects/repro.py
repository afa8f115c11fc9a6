"""``dpt-deploy repro``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.artifact.sidecar import ONNX
from dpt_deploy.cli.shared.options import PATH, artifact_argument, json_option
from dpt_deploy.cli.shared.output import print_facts, print_json
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.runners import runtime_help


def parse_each(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[Size, ...]:
    """Parse ``--size``, which may be repeated. Only the syntax is checked."""
    return tuple(parse_size(value, stride=1) for value in values)


@click.command()
@artifact_argument
@click.option(
    "--size",
    "size",
    metavar="HxW",
    multiple=True,
    callback=parse_each,
    help="Size to try; may be repeated, the first that fails counts.  [default: the sizes of the recipe]",
)
@click.option("--whole", is_flag=True, help="Write the whole graph, also of a file that is computed right.")
@click.option(
    "--runtime",
    help=f"Look for what this one computes differently from the reference runtime. {runtime_help(ONNX)}.  "
    "[default: the reference runtime, compared with PyTorch]",
)
@click.option("--weights", metavar="FILE", help="The artefact's own checkpoint, if it was moved.")
@click.option("-o", "--out", type=PATH, required=True, help="Folder to write.")
@click.option("--force", is_flag=True, help="Replace a folder that this command has written.")
@json_option
def command(artifact: Path, out: Path, as_json: bool, **options: Any) -> None:
    """Write a folder for a report of a defect to the makers of an engine.

    It has the smallest piece of the graph that is computed wrong by itself, its inputs and expected outputs, versions,
    and the commands that show the error. No path, name of a machine or photograph of yours is in it; the weights of
    the piece are.

    \b
    dpt-deploy repro out/hybrid-fp32.onnx --size 384 --size 256x640 -o report/
    dpt-deploy repro out/tiny-int8.onnx --runtime openvino -o report/
    dpt-deploy repro out/hybrid-fp16.onnx --whole -o report/
    """
    from dpt_deploy.core.optional import load_attribute

    write_repro = load_attribute(
        "dpt_deploy.jobs.repro.repro:write_repro", which="polygraphy", purpose="writing a folder for a report"
    )
    found = write_repro(artifact, out, **options)
    from dpt_deploy.jobs.repro.texts import facts

    document = facts(found.finding)
    if as_json:
        print_json({"folder": str(out), **document})
        return
    operations = ", ".join(f"{name} ({count})" for name, count in document["operations"].items())
    print_facts(
        str(out),
        [
            ("model", found.finding.title),
            ("found", found.finding.verdict),
            ("operations", operations if len(document["operations"]) < 12 else f"{len(document['operations'])} kinds"),
        ],
    )
