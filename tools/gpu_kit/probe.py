"""Try one TensorRT library on this GPU: build a small FP16 network, load it, run it, compare the result.

    python probe.py tensorrt_rtx

Prints one JSON document: the last stage that was reached, and every message of the library word for word. It runs in a
process of its own, because an incompatible library may crash it.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from typing import Any

import numpy as np

ROWS, WIDTH = 8, 64


def main(library: str) -> dict[str, Any]:
    """Try one library and report on it; ``reached`` is the last stage that succeeded."""
    report: dict[str, Any] = {"library": library, "version": "", "reached": "", "messages": [], "error": ""}
    try:
        _stages(library, report)
    except Exception as exc:  # noqa: BLE001  the probe is there to record any error
        report["error"] = f"{type(exc).__name__}: {exc}"
    return report


def _stages(library: str, report: dict[str, Any]) -> None:
    trt = import_module(library)
    report["version"] = trt.__version__
    report["reached"] = "import"
    logger = _logger(trt, report["messages"])
    left = np.random.default_rng(0).normal(size=(ROWS, WIDTH)).astype(np.float16)
    right = np.random.default_rng(1).normal(size=(WIDTH, WIDTH)).astype(np.float16)
    plan = _build(trt, logger, right)
    report["reached"] = "build"
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("PyTorch finds no GPU: what follows the build was not tried")
    report["gpu"] = torch.cuda.get_device_name()
    report["capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
    engine = trt.Runtime(logger).deserialize_cuda_engine(plan)
    if engine is None:
        raise RuntimeError("deserialize_cuda_engine returned nothing")
    report["reached"] = "load"
    found = _run(engine, torch, left)
    report["reached"] = "run"
    wanted = np.maximum(left.astype(np.float32) @ right.astype(np.float32), 0)
    report["largest_error"] = float(np.abs(found - wanted).max() / np.ptp(wanted))
    if not report["largest_error"] < 5e-3:  # ten bits of fraction, and sums of 64 terms
        raise RuntimeError(f"the result is wrong by {report['largest_error']:.3g} of its range")
    report["reached"] = "compare"


def _logger(trt: Any, messages: list[str]) -> Any:
    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()

        def log(self, severity: Any, message: str) -> None:
            if severity <= trt.ILogger.WARNING:
                messages.append(f"{severity.name}: {message}")

    return Logger()


def _build(trt: Any, logger: Any, right: np.ndarray) -> Any:
    builder = trt.Builder(logger)
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(flags)
    value = network.add_input("left", trt.float16, (ROWS, WIDTH))
    constant = network.add_constant(right.shape, trt.Weights(np.ascontiguousarray(right)))
    kept = trt.MatrixOperation.NONE
    product = network.add_matrix_multiply(value, kept, constant.get_output(0), kept)
    output = network.add_activation(product.get_output(0), trt.ActivationType.RELU).get_output(0)
    output.name = "output"
    network.mark_output(output)
    plan = builder.build_serialized_network(network, builder.create_builder_config())
    if plan is None:
        raise RuntimeError("build_serialized_network returned nothing")
    return bytes(plan)


def _run(engine: Any, torch: Any, left: np.ndarray) -> np.ndarray:
    context = engine.create_execution_context()
    given = torch.from_numpy(left).cuda()
    result = torch.full((ROWS, WIDTH), float("nan"), dtype=torch.float16, device="cuda")
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    context.set_tensor_address("left", given.data_ptr())
    context.set_tensor_address("output", result.data_ptr())
    if not context.execute_async_v3(stream.cuda_stream):
        raise RuntimeError("execute_async_v3 refused")
    torch.cuda.synchronize()
    return np.asarray(result.float().cpu().numpy())


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1])))
