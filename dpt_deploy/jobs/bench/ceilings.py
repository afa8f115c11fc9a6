"""Matrix products that measure the ceiling, one by each library that takes part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.optional import extra, load_attribute
from dpt_deploy.jobs.bench.candidates import CUDA, find_candidate
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.ceiling import matrices, numpy_product
from dpt_deploy.measure.timing import TimedCall

with extra("export", purpose="measuring the ceiling"):
    from onnx import TensorProto, helper, numpy_helper, save


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
    runs_module = {find_candidate(name).runs == "module" for name in names}
    with ExitStack() as stack:
        found = {"numpy": numpy_product()}
        if False in runs_module:
            found["onnxruntime"] = stack.enter_context(_onnxruntime())
        if True in runs_module:
            found["torch"] = _by_torch("product")()
        yield found


def _by_torch(name: str) -> Any:
    return load_attribute(f"{__package__}.torch_calls:{name}", which="export", purpose="multiplying with PyTorch")


@contextmanager
def _onnxruntime() -> Iterator[TimedCall]:
    """Hold a MatMul ready whose right side is a constant, as in a network: the runtime packs it once."""
    left, right = matrices()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, left.shape) for name in ("left", "product")]
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "ceiling", ends[:1], ends[1:], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with scratch_folder() as folder:
        path = folder / "ceiling.onnx"
        save(model, path)
        with open_runner(path) as runner:
            yield TimedCall(lambda: runner.infer({"left": left}), runner.synchronize)
