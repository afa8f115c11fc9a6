"""Rounding errors of PyTorch in the type of an artefact: the measure that typed graphs are held to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.artifact.records import CaseResult, TypeLossRecord, loosened
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.optional import extra
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.runner import Tensors
from dpt_deploy.core.size import parse_size
from dpt_deploy.jobs.common.inputs import ReferenceDescription, parity_images, reference_input
from dpt_deploy.jobs.common.reference import reference_outputs
from dpt_deploy.measure.metrics import range_error

with extra("export", purpose="computing in PyTorch"):
    import torch

    from dpt_deploy.runtime.pytorch import by_name, narrow_products

if TYPE_CHECKING:
    from dpt_deploy.model.dpt import DPT

TYPE_LOSS_DRAWS = 4
"""Measurements of one loss. A network that amplifies rounding spreads them widely (decision 60)."""

_NUDGE = 1 / 16  # of the type's step: far below the rounding of the input itself


def type_losses(
    model: DPT,
    sidecar: ReferenceDescription,
    images: np.ndarray,
    reference: Tensors,
    *,
    arithmetic: str = "",
    draw: int = 0,
) -> dict[str, TypeLossRecord]:
    """Errors of ``model`` computed by PyTorch in the artefact's type against its FP32 ``reference``, by output.

    8-bit graphs are measured in BF16, which has as many significant bits. ``arithmetic`` is the precision of a runtime
    that does not compute in the artefact's own. ``images`` are bytes (B, H, W, 3). A ``draw`` above 0 changes the input
    by less than the type can hold, so that other numbers are rounded up and down. Outputs without a record: all those
    of an FP32 artefact, labels, and those for which PyTorch has no kernels of the type or overflows in it.
    """
    measured = [output for output in sidecar.outputs if output.kind.compare == "range"]
    kind = find_precision(arithmetic or sidecar.precision).loss_precision
    if not kind or not measured:
        return {}
    narrow = getattr(torch, find_precision(kind).torch_type)
    (pixels,) = reference_input(sidecar, images).values()
    if draw:
        step = _NUDGE * torch.finfo(narrow).eps
        pixels = pixels * (1 + step * np.random.default_rng(draw).standard_normal(pixels.shape, np.float32))
    # Copies: the graph that is still to be written refers to the model's own tensors.
    numbers = {
        name: tensor.to(narrow) if tensor.is_floating_point() else tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    device = next(model.parameters()).device
    try:
        with torch.inference_mode(), narrow_products(device):
            result = torch.func.functional_call(model, numbers, (torch.from_numpy(pixels).to(device, narrow),))
    except RuntimeError:  # an operator without a kernel for the type
        return {}
    found = by_name(result, sidecar.outputs)
    lost = {
        output.name: TypeLossRecord(
            kind, *range_error(found[output.name], reference[output.name], output.kind.full_scale)
        )
        for output in measured
    }
    return {name: record for name, record in lost.items() if np.isfinite(record.max)}


def held_to_pytorch(case: CaseResult, model: DPT, sidecar: Sidecar, arithmetic: str = "") -> CaseResult:
    """A failed case, held to :data:`TYPE_LOSS_TIMES` the type loss on that very case's images, if that is more.

    The golden images are small; others may cost a network more, whoever rounds. The loss is the largest of up to
    :data:`TYPE_LOSS_DRAWS` measurements. ``held_to`` records the tolerance.
    """
    if case.note or case.max is None or case.mean is None:
        return case
    images = parity_images(sidecar.precision, case.batch, parse_size(case.size, stride=1))
    reference = reference_outputs(model, sidecar, images)
    allowed = sidecar.output(case.output).tolerance
    for draw in range(TYPE_LOSS_DRAWS):
        lost = type_losses(model, sidecar, images, reference, arithmetic=arithmetic, draw=draw).get(case.output)
        if lost is None:
            return case
        allowed = loosened(allowed, lost)
        if case.max <= allowed.max and case.mean <= allowed.mean:
            return replace(case, passed=True, held_to=allowed)
    return replace(case, passed=False, held_to=allowed)
