"""Convert a checkpoint to another layout: a Hugging Face folder, or this project's own file."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.families.registry import layouts


def convert_checkpoint(
    backbone: str,
    out: Path | str,
    *,
    layout: str = "huggingface",
    weights: Path | str | None = None,
    entry: str = "",
    task: ModelTask | None = None,
    classes: int | None = None,
) -> Path:
    """Load a checkpoint strictly and save it in another layout; return what was written.

    ``huggingface`` writes a folder that ``DPTForDepthEstimation`` or ``DPTForSemanticSegmentation`` loads; ``native``
    one safetensors file whose header describes the network.

    Raises:
        UsageError: no such layout, the network has no counterpart in it, or the weights are random.
        BadFileError: the checkpoint is unusable.
        ResourceError: disk, memory or network.
    """
    out = Path(out)
    if layout not in layouts():
        raise UsageError(f"unknown layout {layout!r}", hint=f"known: {', '.join(layouts())}")
    recipe = load_recipe(backbone, task=task, classes=classes)
    check_folder(out)  # before anything is downloaded
    source = resolve_weights(weights, recipe, entry=entry)
    if source.is_random:
        raise UsageError(
            "random weights are not converted: once saved, nobody could tell them from trained ones",
            hint="give --weights FILE or the name of a published checkpoint",
        )
    model, source, loaded = build_reference(recipe.model, source)
    if loaded is not None:
        for line in loaded.lines():
            say(line, detail=True)
        say(str(loaded))
    if layout == "huggingface":
        save_huggingface(model, out, image=recipe.image)
        return out
    ensure_folder(out)
    target = out / f"{recipe.name}.safetensors"
    save_native(model, target)
    return target
