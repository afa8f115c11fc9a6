"""Convert a checkpoint to another layout: a Hugging Face folder, or this project's own file."""

from __future__ import annotations

from pathlib import Path

from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.files import check_folder, ensure_folder
from dpt_deploy.core.progress import say
from dpt_deploy.core.recipe import Recipe, load_recipe
from dpt_deploy.core.spec import TaskChoice
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.model.checkpoints.huggingface import save_huggingface
from dpt_deploy.model.checkpoints.join import joined
from dpt_deploy.model.checkpoints.load import save_native
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.families.registry import layouts


def convert_checkpoint(
    backbone: str,
    out: Path | str,
    *,
    layout: str = "huggingface",
    weights: Path | str | None = None,
    entry: str = "",
    task: TaskChoice | None = None,
    classes: int | None = None,
    segmentation_weights: Path | str | None = None,
) -> Path:
    """Load a checkpoint strictly and save it in another layout; return what was written.

    ``huggingface`` writes a folder that ``DPTForDepthEstimation`` or ``DPTForSemanticSegmentation`` loads; ``native``
    one safetensors file whose header describes the network.

    ``segmentation_weights`` is a second checkpoint, with the same encoder: the result returns both outputs.

    Raises:
        UsageError: no such layout, the network has no counterpart in it, or the weights are random.
        BadFileError: the checkpoint is unusable.
        ResourceError: disk, memory or network.
    """
    out = Path(out)
    if layout not in layouts():
        raise UsageError(f"unknown layout {layout!r}", hint=f"known: {', '.join(layouts())}")
    recipe = load_recipe(backbone, task=task, classes=classes)
    if recipe.model.joint and layout != "native":
        raise UsageError(f"layout {layout!r} has no network with several outputs", hint="give --to native")
    if segmentation_weights is not None and not recipe.model.has_joint_scores:
        raise UsageError("--segmentation-weights joins two checkpoints", hint="add --task both")
    check_folder(out)  # before anything is downloaded
    if segmentation_weights is None:
        model = _load(recipe, weights, entry)
    else:
        depth = load_recipe(backbone, task="depth")
        segmentation = load_recipe(backbone, task="segmentation", classes=classes)
        model = joined(_load(depth, weights, entry), _load(segmentation, segmentation_weights, ""))
    if layout == "huggingface":
        save_huggingface(model, out, image=recipe.image)
        return out
    ensure_folder(out)
    suffix = f"-both{model.spec.num_classes}" if task == "both" else ""
    target = out / f"{recipe.name}{suffix}.safetensors"
    save_native(model, target, half=True, exact="")  # half the size where the numbers came from float16
    return target


def _load(recipe: Recipe, weights: Path | str | None, entry: str) -> DPT:
    """The network of ``recipe`` with trained weights; says which key became what."""
    source = resolve_weights(weights, recipe, entry=entry)
    if source.is_random:
        raise UsageError(
            "random weights are not converted: once saved, nobody could tell them from trained ones",
            hint="give --weights FILE or the name of a published checkpoint",
        )
    model, _, loaded = build_reference(recipe.model, source)
    if loaded is not None:
        for line in loaded.lines():
            say(line, detail=True)
        say(str(loaded))
    return model
