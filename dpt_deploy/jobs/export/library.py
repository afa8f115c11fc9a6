"""The zoo as a library: networks as plain modules, with one method more that writes an ONNX file.

``model`` must not import ``graph``, and a network that exports itself needs both. So the class of the library is a
subclass that lives here, where a job may join the two. It adds a method and no state: the state dict, the module names
and the numbers are those of :class:`~dpt_deploy.model.dpt.DPT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from dpt_deploy.core.encoders import Tap
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.recipe import load_recipe
from dpt_deploy.core.size import Size
from dpt_deploy.core.spec import INPUT_FLOAT, Readout, TaskChoice
from dpt_deploy.core.task import tasks_of
from dpt_deploy.jobs.common.reference import build_reference
from dpt_deploy.jobs.common.weights import resolve_weights
from dpt_deploy.jobs.export.typed import save_described

with extra("export", purpose="building a network"):
    import torch

    from dpt_deploy.graph.axes import axes_of
    from dpt_deploy.graph.exporter import OPSETS, ExportInterface, onnx_from_module
    from dpt_deploy.model.dpt import DPT
    from dpt_deploy.model.initial import fresh_model
    from dpt_deploy.model.rewrites.registry import exactly_rewritten

PRETRAINED = "pretrained"


class ExportableDPT(DPT):
    """A :class:`~dpt_deploy.model.dpt.DPT` that can write itself as an ONNX file."""

    @classmethod
    def sharing(cls, model: DPT) -> Self:
        """A network of this class with the tensors of ``model``; they are shared, not copied."""
        with torch.device("meta"):
            made = cls(model.spec)
        made.load_state_dict(model.state_dict(), assign=True)
        return made

    def export(self, path: Path | str, *, opset: int = 23, static: Size | None = None) -> Path:
        """Write the network as one FP32 ONNX file, rewritten for inference; the module itself stays as it is.

        The file takes normalised RGB, float32 (B, 3, H, W). Batch, height and width are free unless ``static`` fixes
        them; the sides are multiples of ``spec.stride``, or those of the only size that the network takes. Nothing is
        verified: the command ``dpt-deploy export`` writes a verified artefact with its sidecar. Weights above 1 GiB lie
        in ``<path>.data``.

        Args:
            path: the file; it is replaced.
            opset: 23 keeps attention as one node, 20 decomposes it.
            static: the only size, with batch 1.

        Raises:
            UsageError: another opset, or a size that the network does not take.
            ResourceError: the folder is not writable, or the disk is full.
        """
        if opset not in OPSETS:
            raise UsageError(
                f"opset {opset} is not offered; expected one of {', '.join(map(str, OPSETS))}", hint="use opset=23"
            )
        if static:
            self.spec.check_size(static)
        axes = axes_of(self.spec, static, self.encoder.constants)
        names = tuple(task.output for task in tasks_of(self.spec))
        interface = ExportInterface(axes, INPUT_FLOAT, names, opset=opset)
        # Of a twin: the rewriting freezes the parameters it shares, and the caller may want to go on training. In
        # evaluation mode, whatever mode this module is in: batch norms are folded.
        twin = ExportableDPT.sharing(self).float().cpu().eval()
        graph = onnx_from_module(exactly_rewritten(twin), interface)
        save_described(graph, Path(path), {})
        return Path(path)


def create_model(
    name: str,
    *,
    weights: str | Path | None = None,
    task: TaskChoice | None = None,
    classes: int | None = None,
    readout: Readout | None = None,
    taps: Sequence[Tap] | None = None,
) -> ExportableDPT:
    """Build a network of the zoo as a plain ``torch.nn.Module``.

    It maps normalised RGB (B, 3, H, W), H and W multiples of ``model.spec.stride``, to depth (B, H, W) or to logits
    (B, classes, H, W). It is in evaluation mode, its parameters require gradients, and it depends on no global state.

    Args:
        name: one of :func:`list_models`, or the path of a recipe (``.toml``).
        weights: a checkpoint file or folder; the name of a published or shipped checkpoint; ``pretrained`` for the one
            that belongs to ``name``; ``random`` (or ``random:SEED``) for weights that make outputs worth comparing. By
            default the usual initialisation of a network that is to be trained.
        task: ``segmentation`` turns a depth network into its segmentation twin; ``both`` returns depth and logits.
        classes: number of classes of a segmentation network.
        readout: treatment of the read-out token, ``ignore``, ``add`` or ``project`` (paper Eq. 2 to 4, Table 7).
        taps: the features handed to the decoder, finest first: block numbers from 0, or ``stage0``, … (paper Table 6).

    Raises:
        UsageError: no such name, task or published checkpoint.
        BadFileError: the recipe with these changes describes no network, or the checkpoint does not fit it.
        ResourceError: a download failed.
    """
    changes = {"readout": readout, "taps": None if taps is None else list(taps)}
    changes = {key: value for key, value in changes.items() if value is not None}
    recipe = load_recipe(name, task=task, classes=classes, model=changes)
    if weights is None:
        model = fresh_model(recipe.model)
    else:
        source = resolve_weights(None if weights == PRETRAINED else str(weights), recipe)
        model = build_reference(recipe.model, source)[0]
    return ExportableDPT.sharing(model).requires_grad_(True).eval()
