"""The cases of a verification: batches and sizes."""

from __future__ import annotations

from collections.abc import Sequence

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.errors import UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.size import Size, parse_size
from dpt_deploy.jobs.common.limits import check_request
from dpt_deploy.jobs.verify.compare import MIN_SPAN_RANDOM, MIN_SPAN_TRAINED

Cases = Sequence[tuple[int, Size]]


def list_cases(sidecar: Sidecar, res: tuple[Size, ...], batch: tuple[int, ...]) -> Cases:
    """The batches and sizes to compare at.

    Raises:
        UsageError: the artefact cannot take one of them, or there is none.
        ResourceError: one needs more memory than this machine has.
    """
    if sidecar.engine and not (res or batch):
        return _corners(sidecar.engine.profiles)
    static, stride = sidecar.shapes.static_size, sidecar.shapes.stride
    sizes = res or ((static,) if static else tuple(parse_size(text, stride=stride) for text in sidecar.verify.res))
    batches = batch or ((1,) if sidecar.shapes.single else sidecar.verify.batch)
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


def smallest_span(sidecar: Sidecar) -> float:
    """The least range, as a share of the largest magnitude, that a meaningful reference output has."""
    return MIN_SPAN_RANDOM if sidecar.weights.is_random else MIN_SPAN_TRAINED
