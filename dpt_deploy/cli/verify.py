"""``dpt-deploy verify``: its options, and the display of its result."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from dpt_deploy.artifact.sidecar import ONNX, PLAN
from dpt_deploy.cli.shared.options import (
    PATH,
    batch_option,
    json_option,
    res_option,
    signature_options,
)
from dpt_deploy.cli.shared.output import PARITY_COLUMNS, case_rows, print_json, print_table
from dpt_deploy.jobs.common.runners import runtime_help


@click.command()
@click.argument("artifact", metavar="ARTIFACT|FOLDER|ADDRESS")
@res_option("Sizes, e.g. 384,256x640 (height x width).  [default: the sizes of the recipe]")
@batch_option("Batches, e.g. 1,3.  [default: the batches of the recipe]")
@click.option(
    "--against",
    type=PATH,
    help="Checkpoint or .onnx to compare with, instead of PyTorch with the artefact's own weights. For an address: the "
    "artefact, or the model repository, whose golden tensors are sent.",
)
@click.option("--weights", metavar="FILE", help="The artefact's own checkpoint, if it was moved.")
@click.option(
    "--runtime",
    help=f"{runtime_help(ONNX, PLAN)}.  [default: trt for an engine; emu for 16 bits, int8 and fp8, then ort with "
    "--golden; else ort]",
)
@click.option(
    "--golden", is_flag=True, help="Compare with the stored tensors; needs neither PyTorch nor the checkpoint."
)
@signature_options
@json_option
def command(artifact: str, as_json: bool, **options: Any) -> None:
    """Compare an exported model with PyTorch at several sizes and batches; exit with 5 if a tolerance is exceeded.

    A folder is a model repository, which is checked without a server. An address is a model on a server, which gets the
    golden tensors; the answers are compared.

    \b
    dpt-deploy verify out/hybrid-fp32.onnx --res 384,256x640,512x384 --batch 1,3
    dpt-deploy verify models/
    dpt-deploy verify grpc://localhost:8001/hybrid-fp32 --against models/
    """
    from dpt_deploy.core.optional import load_attribute
    from dpt_deploy.jobs.verify.result import raise_on_failure
    from dpt_deploy.jobs.verify.verify import verify_artifact

    path = Path(artifact)
    if "://" in artifact:
        target = "dpt_deploy.jobs.verify.served:verify_served"
        verify_served = load_attribute(target, which="serve", purpose="requests to a model server")
        verification = verify_served(artifact, **options)
    elif os.path.isfile(path / "selftest.json"):  # noqa: PTH113  no error for what cannot be a path
        print_repository(path, as_json=as_json)
        return
    else:
        verification = verify_artifact(path, **options)
    if as_json:
        print_json(verification.to_dict())
    else:
        for each in filter(None, (verification, verification.deployed)):
            print_table(each.title, PARITY_COLUMNS, case_rows(each.comparison.cases))
    raise_on_failure(verification)


def print_repository(folder: Path, *, as_json: bool) -> None:
    """Check a model repository without a server, and list its models."""
    from dpt_deploy.core.optional import load_attribute

    check = load_attribute(
        "dpt_deploy.jobs.serve.check:check_repository", which="serve", purpose="checking a model repository"
    )
    names = check(folder)
    if as_json:
        print_json({"repository": str(folder), "verified": True, "models": list(names)})
    else:
        print_table(f"{folder}, checked without a server", ["model", "check"], [[name, "passed"] for name in names])
