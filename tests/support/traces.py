"""One trace per network: exports of the same network in several precisions begin with the same FP32 graph."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import onnx_ir as ir

from dpt_deploy.jobs.export import export
from dpt_deploy.jobs.export.assemble import fp32_graph
from dpt_deploy.jobs.export.request import ExportRequest
from dpt_deploy.model.dpt import DPT

KEPT = 3  # graphs; those of a large network hold half a gigabyte

_graphs: OrderedDict[object, ir.Model] = OrderedDict()


@contextmanager
def traces_kept() -> Iterator[None]:
    """Export a network once for each interface of its graph, and copy that graph afterwards."""
    with mock.patch.object(export, "fp32_graph", _graph):
        yield


def _graph(model: DPT, request: ExportRequest) -> ir.Model:
    if request.approximation is not None:  # its modules may hold values that no key below shows
        return fp32_graph(model, request)
    key = (
        _digest(model),
        repr(request.recipe),
        request.graph_opset,
        request.static,
        request.input_kind,
        request.output_kind,
    )
    if key not in _graphs:
        _graphs[key] = fp32_graph(model, request)
        while len(_graphs) > KEPT:
            _graphs.popitem(last=False)
    _graphs.move_to_end(key)
    return _graphs[key].clone()


def _digest(model: DPT) -> str:
    found = hashlib.sha256(str(model).encode())
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.numpy().tobytes())
    return found.hexdigest()
