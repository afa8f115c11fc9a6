"""Check that this machine can run an engine, before anything is deserialised."""

from __future__ import annotations

from dpt_deploy.artifact.records import EngineRecord
from dpt_deploy.core.environment import free_device_memory, gpu_devices
from dpt_deploy.engine import compat, preflight


def check_target_of(record: EngineRecord) -> list[str]:
    """Check that this machine can run an engine; return doubts.

    Raises:
        MissingExtraError: the library that built it is not installed.
        IncompatibleError: it has no weights yet; or no GPU, another GPU, or another version of the library.
        ResourceError: the GPU's memory is too small.
    """
    preflight.check_weights(record)
    return check_machine_for(record)


def check_machine_for(record: EngineRecord) -> list[str]:
    """Check the machine only, ignoring missing weights (used by refit); otherwise like :func:`check_target_of`."""
    version = compat.load(record.library).module.__version__
    gpus = gpu_devices()
    doubts = preflight.check_target(record, version, gpus)
    needed = preflight.needed_bytes(record.weight_bytes, record.activation_bytes, record.ends_bytes)
    preflight.check_device_memory(needed, free_device_memory(), gpus[0])
    return doubts
