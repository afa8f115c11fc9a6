"""Checks before a build and before a plan is deserialised: memory, another GPU or library; traits of an engine.

Nothing here imports TensorRT: the checks use the sidecar and the driver only.
"""

from __future__ import annotations

from collections.abc import Sequence

from dpt_deploy.artifact.records import EngineRecord
from dpt_deploy.core.environment import Gpu
from dpt_deploy.core.errors import IncompatibleError, ResourceError

RUNTIME_BYTES = 500 << 20  # approximate size of a CUDA context and the library's code
# Compute capabilities for which TensorRT-RTX 1.7.1 has a name: RTX plans run on these.
RTX_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")


def traits_of(precision: str, task: str, largest_batch: int, *, refittable: bool = False) -> set[str]:
    """Traits of an engine that known defects depend on."""
    return {precision, task, *(("batch",) if largest_batch > 1 else ()), *(("refit",) if refittable else ())}


RUNS = 2  # in flight at once in the runner; activations include input and output of one


def needed_bytes(weight_bytes: int, activation_bytes: int, ends_bytes: int) -> int:
    """Predict the device memory of a running engine.

    It is the sum of weights, activations at the largest shape, input and output of further runs, and the runtime.
    """
    return weight_bytes + activation_bytes + (RUNS - 1) * ends_bytes + RUNTIME_BYTES


def check_device_memory(needed: int, free: int | None, gpu: Gpu | None) -> None:
    """Raise :class:`ResourceError` if an engine does not fit its GPU; ``free`` is None without a GPU."""
    if free is not None and needed > free:
        raise ResourceError(
            f"the engine needs about {needed / 1e9:.1f} GB of device memory at its largest shape; "
            f"{free / 1e9:.1f} GB are free on {gpu.name if gpu else 'the GPU'}",
            hint="use fewer pixels (--res) or a smaller --batch, or stop other programs there",
        )


def check_target(record: EngineRecord, library_version: str | None, gpus: Sequence[Gpu]) -> list[str]:
    """Check that a plan can be deserialised on this machine; return doubts.

    ``library_version`` is that of the installed library which built the plan (None: not installed, which is the
    caller's error).

    Raises:
        IncompatibleError: there is no GPU, it is of another kind, or the library has another version.
    """
    if not gpus:
        raise IncompatibleError(
            f"this plan needs an NVIDIA GPU to run; the driver finds none. It was built {describe_origin(record)}",
            hint="copy the plan and its .json to the machine that will run it; here, run the ONNX file",
        )
    if library_version is not None:
        _check_version(record, library_version)
    return _check_gpu(record, gpus[0])


def check_weights(record: EngineRecord) -> None:
    """Raise :class:`IncompatibleError` for a plan without its weights: it would load, and compute nonsense."""
    if record.options.strip_weights:
        raise IncompatibleError(
            "this plan was built without its weights (--strip-weights) and cannot run before it gets some",
            hint="put them in on the GPU that will run it: dpt-deploy refit PLAN MODEL.onnx",
        )


def describe_origin(record: EngineRecord) -> str:
    """Describe the library, GPU and targets of a plan in a phrase."""
    where = f"on {record.device}" if record.device else "without a GPU"
    targets = record.options.compute_capabilities
    return f"by {record.library} {record.version} {where}" + (f" for {', '.join(targets)}" if targets else "")


def _check_version(record: EngineRecord, found: str) -> None:
    if found == record.version:
        return
    if record.options.version_compatible and _newer(found, record.version):  # also of the next major version
        return
    raise IncompatibleError(
        f"this plan was built by {record.library} {record.version}; {found} is installed, and a plan is bound to its "
        "version",
        hint=f"build it again here: {_rebuild(record)}",
    )


def _check_gpu(record: EngineRecord, gpu: Gpu) -> list[str]:
    if record.library == "tensorrt_rtx":
        return _check_rtx(record, gpu)
    if record.device is None or record.device.capability == gpu.capability:
        return []
    if record.options.hardware_compatible and min(_number(gpu), _number(record.device)) >= (8, 0):
        return []
    raise IncompatibleError(
        f"this plan was built {describe_origin(record)}; it does not run on {gpu}",
        hint=f"build it again there ({_rebuild(record)}), or once with --hardware-compatible",
    )


def _check_rtx(record: EngineRecord, gpu: Gpu) -> list[str]:
    """Check the targets of an RTX plan, which is compiled for its GPU when it is loaded."""
    targets = record.options.compute_capabilities
    if targets and gpu.capability not in targets:
        raise IncompatibleError(
            f"this plan was built {describe_origin(record)}; it does not run on {gpu}",
            hint=f"build it again with --compute-capabilities {','.join((*targets, gpu.capability))}",
        )
    if gpu.capability in RTX_CAPABILITIES:
        return []
    return [
        f"TensorRT-RTX has no name for compute capability {gpu.capability} of {gpu.name}; it knows "
        f"{', '.join(RTX_CAPABILITIES)}. If it refuses the plan, build with tensorrt"
    ]


def _rebuild(record: EngineRecord) -> str:
    sizes = ",".join(dict.fromkeys(str(profile).partition(" ")[0] for profile in record.profiles))
    batch = max(profile.high[0] for profile in record.profiles)
    return f"dpt-deploy build MODEL.onnx --res {sizes} --batch {batch}"


def _number(gpu: Gpu) -> tuple[int, ...]:
    return tuple(int(part) for part in gpu.capability.split("."))


def _newer(one: str, other: str) -> bool:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(part) for part in text.split(".") if part.isdecimal())

    return numbers(one) >= numbers(other)
