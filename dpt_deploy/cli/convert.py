"""``dpt-deploy convert``: its options, and the display of its result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.options import PATH, checkpoint_options, json_option
from dpt_deploy.cli.shared.output import print_json, print_path
from dpt_deploy.cli.shared.reporter import checkpoint_keys


@click.command()
@checkpoint_options
@click.option("--weights", metavar="FILE|NAME", help="Checkpoint file, Hugging Face folder, or published name.")
@click.option(
    "--segmentation-weights",
    metavar="FILE|NAME",
    help="With --task both: the segmentation checkpoint to join; its encoder must be that of --weights.",
)
@click.option(
    "--to",
    "layout",
    type=click.Choice(["huggingface", "native"]),
    default="huggingface",
    show_default=True,
    help="A Hugging Face folder, or one safetensors file of this project.",
)
@click.option("-o", "--out", type=PATH, required=True, help="Folder to write to.")
@json_option
def command(backbone: str, out: Path, as_json: bool, keys: bool, **options: Any) -> None:
    """Save a checkpoint in another layout.

    \b
    dpt-deploy convert --backbone hybrid --weights dpt_hybrid-midas-501f0c75.pt -o dpt-hybrid-hf/
    dpt-deploy convert --backbone large --to native -o weights/
    dpt-deploy convert --backbone base --task both --weights depth.pt --segmentation-weights seg.pt --to native -o w/
    """
    from dpt_deploy.jobs.export.convert import convert_checkpoint

    with checkpoint_keys(keys):
        written = convert_checkpoint(backbone, out, **options)
    if as_json:
        print_json({"written": str(written)})
    else:
        print_path(written)
