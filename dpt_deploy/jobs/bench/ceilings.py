"""Matrix products that measure the ceiling, one by each library that takes part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.optional import extra, load_attribute
from dpt_deploy.core.precision import FP32
from dpt_deploy.jobs.bench.candidates import CUDA, find_candidate
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.ceiling import matrices, numpy_product
from dpt_deploy.measure.timing import SETTLE_SECONDS, TimedCall, Timing, repeat
from dpt_deploy.runtime.registry import find_runtime

with extra("export", purpose="measuring the ceiling"):
    from onnx import TensorProto, helper, numpy_helper, save

_RUNS = 5  # of each product alone


def side_of(device: str) -> int:
    """Return the side of the matrices that are multiplied."""
    return ceiling.DEVICE_SIDE if device == CUDA else ceiling.SIDE


@contextmanager
def products(names: Sequence[str], device: str, dtype: str) -> Iterator[dict[str, TimedCall]]:
    """Hold the products ready: by NumPy and by the libraries that the candidates ``names`` compute with.

    On a GPU it is PyTorch's alone, in ``dtype``.
    """
    if device == CUDA:
        yield {"torch": _by_torch("product_on_gpu")(dtype)}
        return
    candidates = [find_candidate(name) for name in names]
    runtimes = {each.runtime for each in candidates if each.runs != "module"}
    with ExitStack() as stack:
        found = {"numpy": numpy_product()}
        if runtimes:
            found["onnxruntime"] = stack.enter_context(_exported("ort"))
        if any(name.startswith("openvino") for name in runtimes):
            found["openvino"] = stack.enter_context(_exported("openvino"))
        if any(each.runs == "module" for each in candidates):
            found["torch"] = _by_torch("product")()
        yield found


def time_alone(calls: Mapping[str, TimedCall]) -> dict[str, Timing]:
    """Time every product by itself, before threads of other sessions spin."""
    found = {}
    for name, call in calls.items():
        found[name] = repeat(call, rounds=_RUNS)
        time.sleep(SETTLE_SECONDS)
    return found


def faster(alone: Mapping[str, Timing], between: Mapping[str, Timing]) -> dict[str, Timing]:
    """Return the faster timing of every product: alone, or between the rounds."""
    return {name: ceiling.best({"alone": alone[name], "between": between[name]}) for name in alone}


def share(name: str, timing: Timing, operations: int, best: Timing, precision: str, device: str) -> float | None:
    """Share of the ceiling ``best`` that a candidate reached on an artefact of ``precision``.

    None if it is above the ceiling, or if it computes in another type than the products: they are in FP32 on a CPU, and
    on a GPU in the type of the artefact.
    """
    candidate = find_candidate(name)
    narrow = precision != FP32 or find_runtime(candidate.runtime).arithmetic
    if device != CUDA and (candidate.quantised or (candidate.runs == "model" and narrow)):
        return None
    return ceiling.share(timing, operations, best, side_of(device))


def _by_torch(name: str) -> Any:
    return load_attribute(f"{__package__}.torch_calls:{name}", which="export", purpose="multiplying with PyTorch")


@contextmanager
def _exported(runtime: str) -> Iterator[TimedCall]:
    """Hold a MatMul ready whose right side is a constant, as in a network: a runtime packs it once."""
    left, right = matrices()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, left.shape) for name in ("left", "product")]
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "ceiling", ends[:1], ends[1:], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with scratch_folder() as folder:
        path = folder / "ceiling.onnx"
        save(model, path)
        with open_runner(path, runtime) as runner:
            yield TimedCall(lambda: runner.infer({"left": left}), runner.synchronize)
