"""The matrix product that every share of the ceiling refers to, by each library that takes part."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dpt_deploy.jobs.bench import contenders
from dpt_deploy.jobs.common.runners import open_runner
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.ceiling import matrices, numpy_product
from dpt_deploy.measure.timing import TimedCall


def side_of(device: str) -> int:
    """Side of the matrices that are multiplied."""
    return ceiling.DEVICE_SIDE if device == contenders.CUDA else ceiling.SIDE


@contextmanager
def products(
    names: Sequence[str], device: str = contenders.CPU, dtype: str = "float32"
) -> Iterator[dict[str, TimedCall]]:
    """The product by NumPy, and by the libraries that the contenders ``names`` compute with, ready to be timed.

    On a GPU it is PyTorch's alone, in ``dtype``.
    """
    if device == contenders.CUDA:
        yield {"torch": _torch_on_gpu(dtype)}
        return
    runs_module = {contenders.runs_module(name) for name in names}
    with ExitStack() as stack:
        found = {"numpy": numpy_product()}
        if False in runs_module:
            found["onnxruntime"] = stack.enter_context(_onnxruntime())
        if True in runs_module:
            found["torch"] = _torch()
        yield found


def _torch() -> TimedCall:
    import torch

    left, right = map(torch.from_numpy, matrices())
    return TimedCall(lambda: left @ right, lambda: None)


def _torch_on_gpu(dtype: str) -> TimedCall:
    import torch

    generator = torch.Generator(contenders.CUDA).manual_seed(0)
    shape, kind = (ceiling.DEVICE_SIDE, ceiling.DEVICE_SIDE), getattr(torch, dtype)
    left, right = (torch.randn(shape, generator=generator, device=contenders.CUDA).to(kind) for _ in range(2))
    return TimedCall(lambda: left @ right, torch.cuda.synchronize)


@contextmanager
def _onnxruntime() -> Iterator[TimedCall]:
    """One MatMul whose right side is a constant, as in a network: the runtime packs it once."""
    from onnx import TensorProto, helper, numpy_helper, save

    left, right = matrices()
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, left.shape) for name in ("left", "product")]
    node = helper.make_node("MatMul", ["left", "right"], ["product"])
    graph = helper.make_graph([node], "ceiling", ends[:1], ends[1:], [numpy_helper.from_array(right, "right")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as folder:
        path = Path(folder) / "ceiling.onnx"
        save(model, path)
        with open_runner(path) as runner:
            yield TimedCall(lambda: runner.infer({"left": left}), runner.synchronize)
