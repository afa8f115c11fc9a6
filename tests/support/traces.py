"""One trace per network: exports of a network in several precisions begin with the same FP32 graph.

Tracing takes most of the time of a small export. Small graphs are kept in a folder that all workers of a test
run share, large ones in memory.
"""

from __future__ import annotations

import functools
import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest import mock

import onnx_ir as ir
from support.shared_folder import run_folder
from torch.export import ExportedProgram
from torch.onnx._internal.exporter import _registration

from dpt_deploy.jobs.export import export
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.dpt import DPT
from dpt_deploy.model.rewrites.registry import approximated

KEPT = 3  # large graphs; each holds half a gigabyte
SMALL = 10_000_000  # parameters
_MARK = "traced_approximation"

_torchlib_operators = functools.cache(_registration.onnxscript_apis.get_torchlib_ops)
_graphs: OrderedDict[str, ir.Model] = OrderedDict()


@contextmanager
def traces_kept() -> Iterator[None]:
    """Trace a network once for each interface of its graph, and copy that graph afterwards."""
    with mock.patch.object(export, "fp32_graph", _graph), mock.patch.object(export, "approximated", _approximated):
        yield


def _approximated(model: DPT, name: str, parameters: Mapping[str, float]) -> DPT:
    """The approximated network, which bears the numbers that its modules hold without showing them."""
    found = approximated(model, name, parameters)
    setattr(found, _MARK, (name, sorted(parameters.items())))
    return found


def _graph(model: DPT, request: ExportRequest) -> ir.Model:
    key = _key(model, request)
    if sum(tensor.numel() for tensor in model.state_dict().values()) <= SMALL:
        return _from_disk(key, model, request)
    if key not in _graphs:
        _graphs[key] = _traced(model, request)
        while len(_graphs) > KEPT:
            _graphs.popitem(last=False)
    _graphs.move_to_end(key)
    return _graphs[key].clone()


def _traced(model: DPT, request: ExportRequest) -> ir.Model:
    """The graph of a program that PyTorch need not decompose, which would trace it a second time.

    The exporter reads its functions anew for each export; here they are read once.
    """
    refused = mock.patch.object(ExportedProgram, "run_decompositions", side_effect=AssertionError("it is decomposed"))
    with refused, mock.patch.object(_registration.onnxscript_apis, "get_torchlib_ops", _torchlib_operators):
        return fp32_graph(model, request)


def _from_disk(key: str, model: DPT, request: ExportRequest) -> ir.Model:
    with run_folder(f"trace-{key}") as folder:
        path = folder / f"trace-{key}.onnx"
        if not path.exists():
            graph = _traced(model, request)
            partial = path.with_suffix(".partial")
            ir.save(graph, partial)
            partial.rename(path)
            return graph
        return ir.load(path)


def _key(model: DPT, request: ExportRequest) -> str:
    found = hashlib.sha256(str(model).encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.numpy().tobytes())
    interface = (
        request.recipe,
        request.graph_opset,
        request.static,
        request.input_kind,
        request.output_kind,
        getattr(model, _MARK, None),  # not that of the request: next to it the exact network is traced, too
    )
    found.update(repr(interface).encode())
    return found.hexdigest()
