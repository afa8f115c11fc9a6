"""``dpt-deploy convert``: its options, and the display of its result."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from dpt_deploy.cli.shared.options import PATH, checkpoint_options, json_option
from dpt_deploy.cli.shared.output import print_json, print_path
from dpt_deploy.cli.shared.reporter import checkpoint_keys
from dpt_deploy.core.errors import UsageError


@click.command()
@click.argument("artifacts", metavar="[ARTIFACT]...", nargs=-1, type=PATH)
@partial(checkpoint_options, backbone_required=False)
@click.option("--weights", metavar="FILE|NAME", help="Checkpoint file, Hugging Face folder, or published name.")
@click.option(
    "--segmentation-weights",
    metavar="FILE|NAME",
    help="With --task both: the segmentation checkpoint to join; its encoder must be that of --weights.",
)
@click.option(
    "--to",
    "layout",
    type=click.Choice(["huggingface", "native", "hub"]),
    default="huggingface",
    show_default=True,
    help="Of a checkpoint: a Hugging Face folder, or one safetensors file of this project. Of artefacts: hub.",
)
@click.option("-o", "--out", type=PATH, required=True, help="Folder to write to.")
@click.option("--force", is_flag=True, help="With --to hub: replace a folder that this command has written.")
@json_option
def command(artifacts: tuple[Path, ...], out: Path, as_json: bool, force: bool, **options: Any) -> None:
    """Save a checkpoint in another layout, or exported models in that of the Hugging Face hub.

    \b
    dpt-deploy convert --to hub out/tiny-fp32.onnx out/tiny-fp16.onnx out/tiny-int8-cpu.onnx -o tiny/
    dpt-deploy convert --backbone hybrid --weights dpt_hybrid-midas-501f0c75.pt -o dpt-hybrid-hf/
    dpt-deploy convert --backbone large --to native -o weights/
    dpt-deploy convert --backbone base --task both --weights depth.pt --segmentation-weights seg.pt --to native -o w/
    """
    if options["layout"] == "hub":
        written = _hub_folder(artifacts, out, force, options)
    elif artifacts or force:
        raise UsageError("artefacts and --force belong to --to hub", hint="add --to hub, or leave them out")
    else:
        written = _checkpoint(out, options)
    if as_json:
        print_json({"written": str(written)})
    else:
        print_path(written)


def _hub_folder(artifacts: tuple[Path, ...], out: Path, force: bool, options: dict[str, Any]) -> Path:
    from dpt_deploy.jobs.hub.repository import write_hub_folder

    if given := [name for name, value in options.items() if value and name != "layout"]:
        raise UsageError(
            f"--{given[0].replace('_', '-')} chooses a checkpoint; --to hub takes exported models",
            hint="for example: convert --to hub out/tiny-fp32.onnx -o tiny/",
        )
    return write_hub_folder(artifacts, out, force=force)


def _checkpoint(out: Path, options: dict[str, Any]) -> Path:
    from dpt_deploy.jobs.export.convert import convert_checkpoint

    backbone, keys = options.pop("backbone"), options.pop("keys")
    if backbone is None:
        raise UsageError("--backbone is missing", hint="name the network of the checkpoint, see `dpt-deploy models`")
    with checkpoint_keys(keys):
        return convert_checkpoint(backbone, out, **options)
