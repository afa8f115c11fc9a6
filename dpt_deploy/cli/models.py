"""``dpt-deploy models``: its options, and the display of its result."""

from __future__ import annotations

from dataclasses import asdict
from typing import get_args

import click

from dpt_deploy.cli.shared.options import json_option
from dpt_deploy.cli.shared.output import print_json, print_table, say
from dpt_deploy.core.spec import ModelTask


@click.command()
@click.argument("names", nargs=-1)
@click.option("--task", type=click.Choice(get_args(ModelTask)), help="Only networks for this task.")
@click.option("--parameters", is_flag=True, help="Count the parameters too (needs PyTorch; about a second a network).")
@json_option
def command(names: tuple[str, ...], task: ModelTask | None, parameters: bool, as_json: bool) -> None:
    """List the networks: what each returns, its size, and the licence and place of its weights.

    Each name is one for --backbone. A size is that of the training; height and width may be other multiples of the
    stride, except where it is the only one. "by name" means that the weights are taken only if --weights names them.
    An engine is "like" that of another network if a build is recorded only for that one, which has the same layers.
    With names, builds are shown in full.

    \b
    dpt-deploy models
    dpt-deploy models hybrid large --parameters
    dpt-deploy models --task segmentation --json
    """
    from dpt_deploy.jobs.models import list_networks, runtimes

    found, running = list_networks(names, task=task, parameters=parameters), runtimes()
    if as_json:
        print_json({"networks": [asdict(each) for each in found], "runtimes": running})
        return
    columns = ["network", "task", "returns", "size", "stride", "licence", "commercial", "weights", "engine"]
    rows = []
    for each in found:
        licence, commercial = (each.chosen.licence, each.chosen.commercial) if each.chosen else ("-", "-")
        size = f"{each.size} only" if each.fixed else each.size
        engine = each.engine.short if each.engine else "-"
        terms = [licence, commercial, each.availability, engine]
        row = [each.name, each.task, each.quantity, size, str(each.stride), *terms]
        rows.append([*row, f"{each.parameters / 1e6:.1f} M"] if each.parameters is not None else row)
    print_table("networks", [*columns, "parameters"] if parameters else columns, rows, align="left")
    for each in found if names else ():
        say(f"{each.name}, {each.task}: {each.engine or 'no build of an engine is recorded'}")
        for file in each.weights:
            if file.stated_by:
                say(f"{file.file}: its SHA-256 is stated by {file.stated_by}; its authors state none")
    here = ", ".join(each["name"] for each in running if each["installed"])
    missing = ", ".join(each["name"] for each in running if not each["installed"])
    say(f"every network runs in these runtimes: {here or 'none is installed'}; not installed: {missing or 'none'}")
