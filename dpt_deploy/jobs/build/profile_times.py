"""Measure each profile of an engine on its GPU: the first run, steady runs, and the switch from another profile.

Experimental: not yet run on a GPU; tested with a fake library. All runs use the profile's largest shape and arrays on
the device, through the ordinary runner. First runs come before all others, each in a new runner, so that nothing is
compiled or allocated yet (the driver may still keep something from earlier runs of the process).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import numpy as np

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, engine_of, record
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.errors import DptError, ResourceError
from dpt_deploy.core.profile import Profile, ProfileTime
from dpt_deploy.core.progress import progress, say
from dpt_deploy.core.spec import TensorSpec
from dpt_deploy.jobs.common.inputs import model_inputs
from dpt_deploy.jobs.common.runners import default_runtime, open_runner
from dpt_deploy.jobs.common.samples import structured_images
from dpt_deploy.measure.timing import WARM_UP, Clock, TimedCall, alternate, interleave, measure, now

SECONDS = 2.0  # of steady runs, for each profile
SWITCHES = 20  # runs whose median is the switch


def with_times(artifact: Artifact, gpu: Gpu | None) -> tuple[Artifact, DptError | None]:
    """Record the times of an engine's profiles in its sidecar, unless they were measured on this GPU and driver before.

    If measuring fails, the error is reported and returned, and the engine stays as it is.
    """
    if gpu is None:
        say("profiles: predicted only; the driver finds no NVIDIA GPU to measure them on")
        return artifact, None
    engine = engine_of(artifact)
    if engine.profile_times and engine.measured_on == gpu:
        return artifact, None
    try:
        say(f"measuring {len(engine.profiles)} profiles on {gpu.name}")
        found = replace(engine, profile_times=measure_profiles(artifact), measured_on=gpu)
        return record(artifact, replace(artifact.sidecar, engine=found)), None
    except (DptError, OSError) as exc:
        say(f"profiles were not measured: {exc}")
        failed = exc if isinstance(exc, DptError) else ResourceError(str(exc))
        failed.__cause__ = failed.__context__ = None  # their frames would keep memory of the device
        return artifact, failed.with_traceback(None)


def measure_profiles(artifact: Artifact, *, clock: Clock = now) -> tuple[ProfileTime, ...]:
    """Measure every profile of an engine.

    Raises:
        MissingExtraError: the library or cuda-python is not installed.
        IncompatibleError: this machine cannot run the engine.
        ResourceError: the GPU ran out of memory, or failed.
    """
    profiles = engine_of(artifact).profiles
    firsts, found = [], []
    with ExitStack() as stack, progress("measuring", 2 * len(profiles)) as runs:
        for profile in profiles:
            firsts.append(_first(artifact, profile, clock))
            runs.advance()
        runner: Any = stack.enter_context(open_runner(artifact, default_runtime(artifact.sidecar)))
        for index, profile in enumerate(profiles):
            call = _timed_call(runner, artifact.sidecar, profile)
            steady = interleave({"run": call}, seconds=SECONDS, clock=clock).timings["run"]
            switch = None
            if len(profiles) > 1:
                other = _timed_call(runner, artifact.sidecar, profiles[index - 1])
                switch = _after(call, other, clock) - steady.median
            found.append(ProfileTime(profile, firsts[index], (steady.median, *steady.interval()), switch))
            runs.advance()
    return tuple(found)


def _first(artifact: Artifact, profile: Profile, clock: Clock) -> float:
    """Seconds of the first run of a new runner."""
    runner: Any = open_runner(artifact, default_runtime(artifact.sidecar))
    with runner:
        return measure(_timed_call(runner, artifact.sidecar, profile), clock)


def _after(call: TimedCall, other: TimedCall, clock: Clock) -> float:
    """Median seconds of a run right after one of another profile."""
    for _ in range(WARM_UP):  # the other's first runs, plain and captured; the candidate's own came before
        measure(other, clock)
    return alternate(call, other, rounds=SWITCHES, clock=clock).median


def _timed_call(runner: Any, sidecar: Sidecar, profile: Profile) -> TimedCall:
    """Make a run of the largest shape of a profile, between arrays on the device."""
    batch, height, width = profile.high
    pixels = model_inputs(sidecar, structured_images(batch, height, width))
    inputs = {name: runner.to_device(value) for name, value in pixels.items()}
    dims = {"batch": batch, "height": height, "width": width}
    out = {spec.name: runner.to_device(_zeros(spec.tensor, dims)) for spec in sidecar.outputs}
    return TimedCall(lambda: runner.infer_device(inputs, out=out), runner.synchronize)


def _zeros(spec: TensorSpec, dims: Mapping[str, int]) -> np.ndarray:
    """Make an array for an output."""
    return np.zeros([dims[dim] if isinstance(dim, str) else dim for dim in spec.shape], spec.dtype)
