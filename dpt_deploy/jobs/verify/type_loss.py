"""What rounding costs a network in PyTorch's own hands: by that, typed graphs are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from dpt_deploy.artifact.records import CaseResult, TypeLossRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.precision import find_precision
from dpt_deploy.core.size import parse_size
from dpt_deploy.jobs.common.inputs import parity_images, reference_input
from dpt_deploy.measure.metrics import range_error

if TYPE_CHECKING:
    from dpt_deploy.model.dpt import DPT


def type_loss(model: DPT, sidecar: Sidecar, images: np.ndarray, reference: np.ndarray) -> TypeLossRecord | None:
    """Error of ``model``, computed by PyTorch in the type of the artefact, against its FP32 ``reference``.

    For graphs of 8 bits BF16 stands in: it has as many significant bits. ``images`` are bytes (B, H, W, 3). None where
    there is nothing to compare: an FP32 artefact, one that returns labels, a PyTorch that cannot compute in the type,
    or overflows in it.
    """
    import torch

    kind = find_precision(sidecar.precision).loss_precision
    if not kind or sidecar.output_kind == "labels":
        return None
    narrow = getattr(torch, find_precision(kind).torch_type)
    (pixels,) = reference_input(sidecar, images).values()
    # Copies: the graph that is still to be written refers to the model's own tensors.
    numbers = {
        name: tensor.to(narrow) if tensor.is_floating_point() else tensor
        for name, tensor in (*model.named_parameters(), *model.named_buffers())
    }
    device = next(model.parameters()).device
    try:
        with torch.inference_mode():
            given = torch.from_numpy(pixels).to(device, narrow)
            found = torch.func.functional_call(model, numbers, (given,)).float().cpu().numpy()
    except RuntimeError:  # an operator without a kernel for the type
        return None
    largest, mean = range_error(found, reference)
    return TypeLossRecord(kind, largest, mean) if np.isfinite(largest) else None


def held_to_pytorch(case: CaseResult, model: DPT, sidecar: Sidecar) -> CaseResult:
    """A case that failed, held once more: to :data:`TYPE_LOSS_TIMES` what PyTorch itself loses on that very case's
    images, which ``held_to`` then says. The golden images are small; others may cost a network more, whoever rounds."""
    if case.note or case.max is None or case.mean is None:
        return case
    from dpt_deploy.jobs.verify.golden import reference_output

    images = parity_images(sidecar.precision, case.batch, parse_size(case.size, stride=1))
    lost = type_loss(model, sidecar, images, reference_output(model, sidecar, images))
    if lost is None:
        return case
    allowed = replace(sidecar, type_loss=lost).allowed
    return replace(case, passed=case.max <= allowed.max and case.mean <= allowed.mean, held_to=allowed)
