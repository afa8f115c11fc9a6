"""Build a serialised engine from an ONNX file, strongly typed: the graph decides in which precision each operator runs.

16-bit attention stays fused, so that a build by TensorRT-RTX that succeeds has a dedicated kernel for it. No kernel
computes FP32 attention fused; there the builder may decompose it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dpt_deploy.artifact.records import EngineOptions, EngineRecord
from dpt_deploy.core.errors import BadFileError, DptError, IncompatibleError, ResourceError, UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.engine.audit import audit_network, check_audit
from dpt_deploy.engine.callbacks import Messages, progress_monitor
from dpt_deploy.engine.compat import Edition, as_attention
from dpt_deploy.engine.request import BuildRequest

LEVELS = range(6)

_NODE = re.compile(r"\[ONNX Layer: ([^\]]+)\]")


@dataclass(frozen=True)
class Built:
    """A serialised engine (any buffer), its record for the sidecar, and the timing cache for the next build."""

    plan: Any
    record: EngineRecord
    timing_cache: bytes | None


def build_engine(request: BuildRequest, timing_cache: bytes | None = None) -> Built:
    """Parse, audit and build; ``timing_cache`` is that of an earlier build (empty: begin one, None: keep none).

    Raises:
        UsageError: an option that this edition does not have, or a workspace that is too small.
        BadFileError: not an ONNX file.
        ParityError: the graph does not compute in the precision that its name promises; nothing is built.
        IncompatibleError: this edition cannot parse or build the graph; the message names the node.
        ResourceError: out of memory.
    """
    edition, path, sidecar = request.edition, request.source.path, request.source.sidecar
    trt = edition.module
    with Messages(edition) as messages:
        builder = trt.Builder(messages.logger)
        if builder is None:
            raise IncompatibleError(
                f"{edition} cannot start: {messages.first}", hint="see `dpt-deploy doctor` for GPU and driver"
            )
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        _parse(edition, network, path, messages)
        let_fp32_attention_decompose(edition, network)
        audit = audit_network(edition, network, request.operations)
        check_audit(audit, sidecar.precision, path.name)
        config = _config(edition, builder, request.options)
        for profile in request.profiles:
            made = _profile(builder, network, profile, channels_last=sidecar.input_kind == "uint8")
            config.add_optimization_profile(made)
        monitor = progress_monitor(edition, messages)
        config.progress_monitor = monitor
        cache = _use_timing_cache(edition, config, timing_cache)
        begun = time.monotonic()
        with closing(monitor.phases):
            plan = builder.build_serialized_network(network, config)
        took = time.monotonic() - begun
        if monitor.phases.failure is not None:
            raise monitor.phases.failure
        if plan is None:
            raise _not_built(request, messages)
        kept = bytes(config.get_timing_cache().serialize()) if cache is not None else None
        return Built(plan, request.record(audit, took), kept)


def let_fp32_attention_decompose(edition: Edition, network: Any) -> int:
    """Let the builder decompose every FP32 attention; return how many. 16-bit attention stays fused."""
    found = 0
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        attention = as_attention(edition, layer)
        if attention is not None and layer.get_input(0).dtype == edition.module.DataType.FLOAT:
            attention.decomposable = True
            found += 1
    return found


def _parse(edition: Edition, network: Any, path: Path, messages: Messages) -> None:
    parser = edition.module.OnnxParser(network, messages.logger)
    done = parser.parse_from_file(str(path))
    if done and network.num_inputs and network.num_outputs:
        return
    if not parser.num_errors:  # the parser reads any other file as an empty network
        raise BadFileError(f"{path} is not an ONNX file that {edition} can read", hint="export it again")
    error = parser.get_error(0)
    node = f"node {error.node_name()!r} ({error.node_operator()})" if error.node_operator() else "the graph"
    raise IncompatibleError(
        f"{edition} does not take {node} of {path.name}: {' '.join(error.desc().split())[:300]}",
        hint="export with --opset 20 for TensorRT before 10.14, or in another --precision",
        details=tuple(parser.get_error(index).desc() for index in range(parser.num_errors)),
    )


def _config(edition: Edition, builder: Any, options: EngineOptions) -> Any:
    trt = edition.module
    for name in ("version_compatible", "hardware_compatible", "compute_capabilities"):
        if getattr(options, name):
            edition.check_option(name)
    if options.level not in LEVELS:
        raise UsageError(f"optimisation level {options.level} is unknown", hint="give one from 0 to 5")
    config = builder.create_builder_config()
    config.builder_optimization_level = options.level
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # what the audit of the built engine reads
    wanted = {
        "VERSION_COMPATIBLE": options.version_compatible,
        "STRIP_PLAN": options.strip_weights,
        "REFIT": options.refittable,  # not REFIT_IDENTICAL: a stripped plan takes other weights as well
        "TF32": options.tf32,
    }
    for name, on in wanted.items():
        flag = getattr(trt.BuilderFlag, name)
        (config.set_flag if on else config.clear_flag)(flag)
    if options.workspace_bytes:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    _set_capabilities(edition, config, options.compute_capabilities)
    return config


def _set_capabilities(edition: Edition, config: Any, wanted: Sequence[str]) -> None:
    if not wanted:
        return
    known = edition.module.ComputeCapability.__members__
    config.num_compute_capabilities = len(wanted)
    for index, text in enumerate(wanted):
        name = f"SM{text.replace('.', '')}"
        if name not in known:
            choices = [f"{entry[2:-1]}.{entry[-1]}" for entry in known if entry.startswith("SM")]
            raise UsageError(
                f"{edition} builds for no compute capability {text!r}", hint=f"choose from {', '.join(choices)}"
            )
        config.set_compute_capability(known[name], index)


def _profile(builder: Any, network: Any, profile: Profile, *, channels_last: bool) -> Any:
    made = builder.create_optimization_profile()
    name = network.get_input(0).name
    made.set_shape(name, *(full_shape(shape, channels_last=channels_last) for shape in _corners(profile)))
    return made


def _corners(profile: Profile) -> tuple[tuple[int, int, int], ...]:
    return profile.low, profile.best, profile.high


def full_shape(shape: tuple[int, int, int], *, channels_last: bool) -> tuple[int, int, int, int]:
    """Shape of the graph's input for (batch, height, width): (N, 3, H, W), or (N, H, W, 3) of the uint8 variant."""
    batch, height, width = shape
    return (batch, height, width, 3) if channels_last else (batch, 3, height, width)


def _use_timing_cache(edition: Edition, config: Any, former: bytes | None) -> Any | None:
    """Start from an earlier build's measurements; None if the edition measures nothing."""
    if former is None or not edition.has("timing cache"):
        return None
    cache = config.create_timing_cache(former)
    if cache is None or not config.set_timing_cache(cache, False):
        raise BadFileError(
            f"{edition} cannot use this timing cache on this GPU", hint="remove it: the build makes a new one"
        )
    return cache


def _not_built(request: BuildRequest, messages: Messages) -> DptError:
    """Make the error of a build that returned nothing."""
    edition, name, text = request.edition, request.source.path.name, messages.first
    if messages.out_of_memory:
        return ResourceError(
            f"out of memory while building {name}: {text}",
            hint="use fewer or smaller --res, a smaller --batch, or a machine with more memory",
        )
    if "workspace limit" in " ".join(messages.errors).lower():
        return UsageError(
            f"no kernel fits a workspace of {request.options.workspace_bytes / 1e6:,.0f} MB: {text}",
            hint="leave --workspace out, or give more",
        )
    if request.options.refittable:
        return IncompatibleError(
            f"{edition} did not build a refittable engine here: {text}",
            hint="such a build needs a GPU; leave --refit and --strip-weights out, or build on the target",
        )
    node = _NODE.search(" ".join(messages.errors))
    where = f" at node {node[1]!r}" if node else ""
    return IncompatibleError(
        f"{edition} cannot build {name}{where}: {text}",
        hint="export it in another --precision or with --opset 20, or try another version (see `dpt-deploy doctor`)",
    )
