"""The cases of a verification: sizes and batches, with the outputs of both sides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.runner import Runner, Tensors
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.inputs import model_feed, parity_images
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.verify.compare import MIN_SPAN_RANDOM, MIN_SPAN_TRAINED, Outputs

Cases = Sequence[tuple[int, Size]]


def list_cases(sidecar: Sidecar, res: tuple[Size, ...], batch: tuple[int, ...]) -> Cases:
    """The batches and sizes to compare at; raises :class:`UsageError` for one that the artefact cannot take."""
    if sidecar.engine and not (res or batch):
        return _corners(sidecar.engine.profiles)
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    sizes = res or ((static,) if static else tuple(parse_size(text, stride=stride) for text in sidecar.verify.res))
    batches = batch or ((1,) if static else sidecar.verify.batch)
    cases = [(one, size) for size in sizes for one in batches]
    for one, size in cases:
        check_request(sidecar, size, one)
    if not cases:
        raise UsageError("there is no case to verify: the recipe's matrix is empty", hint="give --res and --batch")
    return cases


def _corners(profiles: Sequence[Profile]) -> Cases:
    """The smallest and the largest shape of every profile, so that each is switched to."""
    shapes = dict.fromkeys(shape for profile in profiles for shape in (profile.low, profile.high))
    return [(batch, Size(height, width)) for batch, height, width in shapes]


def paired_outputs(
    runner: Runner,
    sidecar: Sidecar,
    reference: Callable[[np.ndarray], Tensors],
    *,
    images: np.ndarray | None = None,
) -> Outputs:
    """Return a function of batch and size that gives the candidate's outputs and the reference's."""

    def run(batch: int, size: Size) -> tuple[Tensors, Tensors]:
        pixels = parity_images(sidecar.precision, batch, size) if images is None else images
        return runner.infer(model_feed(sidecar, pixels)), reference(pixels)

    return run


def smallest_span(sidecar: Sidecar) -> float:
    """The least range that a reference output must have for a comparison to mean anything."""
    return MIN_SPAN_RANDOM if sidecar.weights.is_random else MIN_SPAN_TRAINED
