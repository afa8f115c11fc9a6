"""``dpt-deploy serve-repo``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.options import PATH, json_option
from dpt_deploy.cli.shared.output import print_json, print_path


@click.command()
@click.argument("artifacts", metavar="ARTIFACT...", nargs=-1, type=PATH)
@click.option("-o", "--out", type=PATH, required=True, help="Folder of the repository.")
@click.option(
    "--max-batch",
    type=click.IntRange(1, 1024),
    default=8,
    show_default=True,
    help="Largest batch of an ONNX file; an engine has its own.",
)
@click.option(
    "--device",
    type=click.Choice(["cpu", "gpu"]),
    help="Where the server computes.  [default: gpu for an engine, else cpu]",
)
@click.option(
    "--instances",
    type=click.IntRange(1, 64),
    help="Copies of a model that compute at once.  [default: 2 on a CPU, else 1]",
)
@click.option(
    "--threads", type=click.IntRange(1), help="CPU threads of each copy.  [default: ONNX Runtime's choice, every core]"
)
@click.option(
    "--queue",
    type=click.IntRange(1),
    help="Requests that wait at most; the server refuses more at once.  [default: no bound]",
)
@click.option("--image/--no-image", default=True, show_default=True, help="Add a model that takes image files.")
@click.option("--tensorrt", metavar="VERSION", help="TensorRT version of the server, to check engines against.")
@click.option("--force", is_flag=True, help="Replace a repository that this command has written.")
@json_option
def command(artifacts: tuple[Path, ...], out: Path, force: bool, as_json: bool, **options: Any) -> None:
    """Write a model repository for the Triton inference server, and check it.

    \b
    dpt-deploy serve-repo out/hybrid-fp32.onnx -o models/
    dpt-deploy verify models/                                   # without a server
    dpt-deploy verify grpc://localhost:8001/hybrid-fp32 --against models/
    """
    from dpt_deploy.core.optional import load_attribute
    from dpt_deploy.jobs.serve.request import ServeOptions

    target = "dpt_deploy.jobs.serve.repository:write_repository"
    write = load_attribute(target, which="serve", purpose="a model repository for Triton")
    given = {name: value for name, value in options.items() if value is not None}
    written = write(artifacts, out, ServeOptions(**given), force=force)
    if as_json:
        print_json({"written": [str(path) for path in written]})
    else:
        for path in written:
            print_path(path)
