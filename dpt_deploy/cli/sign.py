"""``dpt-deploy sign``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path

import click

from dpt_deploy.cli.shared.options import PATH, artifact_argument
from dpt_deploy.cli.shared.output import print_path


@click.command()
@artifact_argument
@click.option("--private-key", required=True, type=PATH, help="Elliptic-curve key in a PEM file, without a password.")
@click.option("--signature", type=PATH, help="File to write.  [default: the artefact's name with .sig]")
def command(artifact: Path, private_key: Path, signature: Path | None) -> None:
    """Sign an artefact with a private key, in the format of OpenSSF Model Signing.

    The signature covers every file of the artefact, so nothing is recorded in its sidecar afterwards: verify first.

    \b
    dpt-deploy sign out/hybrid-fp32.onnx --private-key key.pem
    dpt-deploy verify out/hybrid-fp32.onnx --public-key key.pub
    """
    from dpt_deploy.jobs.common.signature import sign_artifact

    print_path(sign_artifact(artifact, private_key, signature))
