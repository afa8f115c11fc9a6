"""``dpt-deploy export``: its options, and the display of its result."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from dpt_deploy.artifact.store import Artifact
from dpt_deploy.cli.shared.options import (
    PATH,
    ApproximationText,
    approximate,
    checkpoint_options,
    clusterings,
    json_option,
    res_option,
    size,
    tokens_options,
)
from dpt_deploy.cli.shared.output import (
    PARITY_COLUMNS,
    accuracy_rows,
    case_rows,
    print_facts,
    print_json,
    print_path,
    print_table,
)
from dpt_deploy.cli.shared.reporter import checkpoint_keys
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.precision import CLIPPING_METHODS, FP32, PRECISIONS
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import TaskChoice


def _approximation(
    named: ApproximationText | None, tokens: tuple[tuple[float, ...], ...], reconstruction: str | None
) -> ApproximationText | None:
    asked = [*clusterings(tokens, reconstruction), *([named] if named else [])]
    if len(asked) > 1:
        raise UsageError("more than one approximation was asked for", hint="give --tokens or --approximate, and once")
    return asked[0] if asked else None


@click.command()
@checkpoint_options
@click.option(
    "--weights",
    metavar="FILE|NAME|random",
    help="Checkpoint file, Hugging Face folder, published name, or random[:SEED].",
)
@click.option(
    "--commercial",
    is_flag=True,
    help="Refuse weights that may not be used commercially; warn where that is unclear.",
)
@click.option(
    "--precision",
    default=FP32,
    show_default=True,
    help=f"Number format of the graph: {', '.join(PRECISIONS)}.",
)
@click.option(
    "--calibration", type=PATH, help="Folder of photographs to measure tensor ranges on (default: rendered scenes)."
)
@res_option("Sizes to measure tensor ranges at.  [default: the training size, and 5/3 of it]")
@click.option(
    "--method",
    default=CLIPPING_METHODS[0],
    show_default=True,
    help=f"Where to clip 8-bit tensors: {', '.join(CLIPPING_METHODS)}.",
)
@click.option(
    "--budget",
    type=float,
    metavar="SHARE",
    help="Maximum relative increase of the error; blocks are left unquantised to meet it.",
)
@click.option(
    "--smooth",
    is_flag=True,
    help="Try to move the spread of LayerNorm channels into weights before 8-bit quantisation; kept if it wins.",
)
@click.option(
    "--approximate",
    "approximation",
    metavar="NAME=VALUE,…",
    callback=approximate,
    help="Apply an approximate rewrite of the network by its name; refused if the error grows by more than --budget "
    "(default 1 %).",
)
@tokens_options("Run the blocks after LAYER on HxW clusters of tokens, or merge N % of the tokens: an approximation.")
@click.option(
    "--opset", type=int, help="23 keeps attention fused (default); 20 is for TensorRT before 10.14 and JetPack 6."
)
@click.option("--static", callback=size, metavar="HxW", help="Export for one size and batch 1 instead of any.")
@click.option(
    "--input",
    "input_kind",
    type=click.Choice(["float32", "uint8"]),
    default="float32",
    show_default=True,
    help="Input of the graph: normalised RGB, or bytes (normalisation is part of the graph).",
)
@click.option(
    "--output",
    "output_kind",
    type=click.Choice(["scores", "labels"]),
    default="scores",
    show_default=True,
    help="Output of the graph: the network's own, or class labels (segmentation only).",
)
@click.option("-o", "--out", type=PATH, default=Path("out"), show_default=True, help="Folder to write the artefact to.")
@click.option(
    "--force",
    is_flag=True,
    help="Export again even if the artefact is up to date; write an 8-bit file even if it is slower or has much noise.",
)
@json_option
def command(
    as_json: bool,
    keys: bool,
    backbone: str,
    task: TaskChoice | None,
    classes: int | None,
    res: tuple[Size, ...],
    out: Path,
    force: bool,
    approximation: ApproximationText | None,
    tokens: tuple[tuple[float, ...], ...],
    reconstruction: str | None,
    **options: Any,
) -> None:
    """Turn a checkpoint into a verified ONNX model.

    \b
    dpt-deploy export --backbone hybrid --weights dpt_hybrid-midas-501f0c75.pt -o out/
    dpt-deploy export --backbone large --task segmentation --output labels
    dpt-deploy export --backbone base --task both --weights base-both150.safetensors
    dpt-deploy export --backbone tiny --precision fp16 --calibration photos/
    dpt-deploy export --backbone tiny --precision int8 --budget 0.01
    dpt-deploy export --backbone tiny-vit --tokens 4:16x16 --budget 0.05
    dpt-deploy export --backbone base --weights random -o out/      # for timing only

    Without --weights, the weights that ship with the package are used (tiny, tiny-vit, tiny-conv, tiny-both), else the
    published checkpoint of that name: it is downloaded once and its hash is checked. Licence and training data are
    shown.
    """
    from dpt_deploy.jobs.export.export import export_model
    from dpt_deploy.jobs.export.request import Approximation, ExportRequest

    approximation = _approximation(approximation, tokens, reconstruction)
    request = ExportRequest(
        load_recipe(backbone, task=task, classes=classes),
        res=res,
        approximation=Approximation(*approximation) if approximation else None,
        **options,
    )
    with checkpoint_keys(keys):
        exported = export_model(request, out, force=force)
    if as_json:
        twins = [_facts(each) for each in exported.artifacts if each is not exported.artifact]
        print_json({**_facts(exported.artifact), "twin": twins[0] if twins else None})
        return
    for each in exported.artifacts:
        sidecar = each.sidecar
        if sidecar.parity:
            print_table(f"{sidecar.precision} against PyTorch", PARITY_COLUMNS, case_rows(sidecar.parity.cases))
        if sidecar.quantisation:
            found = sidecar.quantisation.worth
            print_facts(f"{sidecar.precision} compared with fp32: {found.source} at {found.size}", accuracy_rows(found))
        if sidecar.approximation:
            found = sidecar.approximation.accuracy
            print_facts(
                f"{sidecar.approximation.name} compared with the exact network: {found.source} at {found.size}",
                accuracy_rows(found),
            )
        print_path(each.path)


def _facts(artifact: Artifact) -> dict[str, Any]:
    sidecar = artifact.sidecar
    return {
        "artifact": str(artifact.path),
        "weights": str(sidecar.weights),
        "parity": asdict(sidecar.parity) if sidecar.parity else None,
        "worth": asdict(sidecar.quantisation.worth) if sidecar.quantisation else None,
        "approximation": asdict(sidecar.approximation) if sidecar.approximation else None,
    }
