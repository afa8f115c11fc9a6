"""What each profile of an engine costs, measured on its GPU: a first run, a steady one, the switch to it, a wide one.

All of it at the profile's largest shape, between arrays that lie on the device, through the runner as it is used. First
runs come before anything else has run: each in a runner opened for it alone, so that nothing is compiled or made yet
(what the driver keeps between runs of a process it may still keep). Not run on a GPU yet: tried over stand-ins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dpt_deploy.artifact.records import EngineRecord
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, engine_of, record
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.errors import DptError, ResourceError
from dpt_deploy.core.profile import Profile, ProfileTime
from dpt_deploy.core.progress import progress, say
from dpt_deploy.jobs.common.inputs import model_feed
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import WARM_UP, Clock, Contender, alternate, interleave, measure, now, ratio

NARROW, WIDE = "narrow", "wide"
SECONDS = 2.0  # of steady runs, for each profile
SWITCHES = 20  # of which the median is taken

MakeWide = Callable[[], AbstractContextManager[Artifact]]


def with_times(
    artifact: Artifact,
    gpu: Gpu | None,
    wide: MakeWide | None = None,
) -> tuple[Artifact, DptError | None]:
    """The engine with the times of its profiles in its sidecar, and what failed: that is said, and the engine stays.

    ``wide`` makes the engine to compare with; where that fails, the rest is measured without. What was measured before
    on this GPU and driver is kept.
    """
    if gpu is None:
        say("profiles: predicted only; the driver finds no NVIDIA GPU to measure them on")
        return artifact, None
    if _known(engine_of(artifact), gpu, beside=wide is not None):
        return artifact, None
    failed: DptError | None = None
    for attempt in (wide, None) if wide else (None,):
        try:
            with ExitStack() as stack:
                other = stack.enter_context(attempt()) if attempt else None
                say(f"measuring {len(engine_of(artifact).profiles)} profiles on {gpu.name}")
                times = measure_profiles(artifact, other.path if other else None)
            found = replace(engine_of(artifact), profile_times=times, measured_on=gpu)
            return record(artifact, replace(artifact.sidecar, engine=found)), failed
        except (DptError, OSError) as exc:
            say(f"profiles were not measured{' beside a wide one' if attempt else ''}: {exc}")
            failed = _told(exc)
    return artifact, failed


def _told(exc: DptError | OSError) -> DptError:
    """The same complaint without its frames, which would keep what they hold of the device."""
    return (
        type(exc)(str(exc), hint=exc.hint, details=exc.details)
        if isinstance(exc, DptError)
        else ResourceError(str(exc))
    )


def _known(engine: EngineRecord, gpu: Gpu, *, beside: bool) -> bool:
    there = engine.profile_times and engine.measured_on == gpu
    return bool(there) and (not beside or all(each.wide for each in engine.profile_times))


def measure_profiles(
    artifact: Artifact,
    wide: Path | None = None,
    *,
    clock: Clock = now,
) -> tuple[ProfileTime, ...]:
    """Times of every profile of an engine; of the plan ``wide`` too, turn by turn, where one is given.

    Raises:
        MissingExtraError: the library or cuda-python is not installed.
        IncompatibleError: this machine cannot run the engine.
        ResourceError: the GPU ran out of memory, or failed.
    """
    sidecar, profiles = artifact.sidecar, engine_of(artifact).profiles
    firsts, found = [], []
    with ExitStack() as stack, progress("measuring", 2 * len(profiles)) as runs:
        for profile in profiles:
            firsts.append(_first(artifact, profile, clock))
            runs.advance()
        paths = {NARROW: artifact.path, **({WIDE: wide} if wide else {})}
        runners = {name: stack.enter_context(open_runner(path, "trt")) for name, path in paths.items()}
        for index, profile in enumerate(profiles):
            other = profiles[index - 1] if len(profiles) > 1 else None
            found.append(_times(runners, sidecar, profile, other, firsts[index], clock))
            runs.advance()
    return tuple(found)


def _times(
    runners: Mapping[str, Any],
    sidecar: Sidecar,
    profile: Profile,
    other: Profile | None,
    first: float,
    clock: Clock,
) -> ProfileTime:
    """Of one profile, in runners that stay open; ``other`` is the one that is switched from."""
    contenders = {name: _contender(runner, sidecar, profile) for name, runner in runners.items()}
    narrow, switch, beside = contenders[NARROW], None, None
    steady = interleave({NARROW: narrow}, seconds=SECONDS, clock=clock).timings[NARROW]
    if other is not None:
        switch = _after(narrow, _contender(runners[NARROW], sidecar, other), clock) - steady.median
    if WIDE in contenders:  # apart from the steady runs: by turns each finds the other's weights in the caches
        turns = interleave(contenders, seconds=SECONDS, clock=clock).timings
        beside = ratio(turns[WIDE], turns[NARROW])
    return ProfileTime(profile, first, (steady.median, *steady.interval()), switch, beside)


def _first(artifact: Artifact, profile: Profile, clock: Clock) -> float:
    """Seconds of the first run in a runner just opened."""
    runner: Any = open_runner(artifact, "trt")
    with runner:
        return measure(_contender(runner, artifact.sidecar, profile), clock)


def _after(contender: Contender, other: Contender, clock: Clock) -> float:
    """Median seconds of a run right after one of another profile."""
    for _ in range(WARM_UP):  # the other's first runs, plain and captured; the contender's were before
        measure(other, clock)
    return alternate(contender, other, rounds=SWITCHES, clock=clock).median


def _contender(runner: Any, sidecar: Sidecar, profile: Profile) -> Contender:
    """A run of the largest shape of a profile, between two arrays of the device."""
    batch, height, width = profile.high
    pixels = model_feed(sidecar, structured_images(batch, height, width))
    feed = {name: runner.to_device(value) for name, value in pixels.items()}
    out = runner.to_device(_output(sidecar, {"batch": batch, "height": height, "width": width}))
    return Contender(lambda: runner.infer_device(feed, out=out), runner.synchronize)


def _output(sidecar: Sidecar, dims: Mapping[str, int]) -> np.ndarray:
    """An array of the form of the output."""
    spec = sidecar.outputs[0]
    return np.zeros([dims[dim] if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype)
