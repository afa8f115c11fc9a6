"""``dpt-deploy doctor``: its options, and the display of its result."""

from __future__ import annotations

from dataclasses import asdict

import click

from dpt_deploy.cli.shared.options import json_option
from dpt_deploy.cli.shared.output import print_facts, print_json


@click.command()
@json_option
def command(as_json: bool) -> None:
    """Show what works on this machine and what is missing, how to install it, and the networks that can be exported."""
    from dpt_deploy.jobs.doctor import diagnose_machine, zoo_table

    checks, fingerprint = diagnose_machine()
    zoo = zoo_table()
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "environment": fingerprint, "zoo": zoo})
        return
    print_facts("this machine", [(c.name, "yes" if c.fine else "no", c.detail) for c in checks])
    tools = fingerprint["tools"]
    versions = ", ".join(f"{name} {version}" for name, version in tools.items()) if isinstance(tools, dict) else ""
    click.echo(f"\n{fingerprint['processor']}, {fingerprint['cores']} cores\n{versions}\n")
    print_facts("networks: --backbone, description, published checkpoints", [tuple(row.values()) for row in zoo])
