"""Programs that need no decomposition compute what their modules do, at sizes at which they were not traced."""

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from dpt_deploy.core.errors import DptError
from dpt_deploy.graph import program
from dpt_deploy.graph.axes import Axes
from dpt_deploy.graph.exporter import ExportInterface, onnx_from_module

pytestmark = [pytest.mark.needs("torch", "onnxruntime")]

WEIGHT = torch.arange(24.0).reshape(3, 2, 2, 2) / 24


def added(x, other):
    y = x * 2
    y += other
    return y


def read_again(x):
    y = x * 2
    z = y.relu_()
    return y + z


def dropped(x):
    y = x * 2
    z = F.dropout(y, training=False)
    z += 1
    return y * z


REPLACED = {
    "flatten": lambda x: x.flatten(2),
    "flatten everything": torch.flatten,
    "unflatten": lambda x: x.unflatten(-1, (-1, 4)),
    "reshape": lambda x: x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, 3),
    "chunk": lambda x: x.chunk(2, dim=2)[1],
    "dropout": lambda x: F.dropout(x * 2, training=False) * 2,
    "relu in place": lambda x: F.relu(x * 2, inplace=True),
    "add in place": lambda x: added(x, x),
    "read after it was changed": read_again,
    "add and relu in place": lambda x: added((x * 2).relu_(), x).relu_(),
    "to its own type": lambda x: (x * 2).float() * 2,
    "to another type": lambda x: x.to(torch.float64),
    "transposed convolution": lambda x: F.conv_transpose2d(x, WEIGHT, stride=2),
    "grouped transposed convolution": lambda x: F.conv_transpose2d(x, WEIGHT[:, :1], groups=3, padding=1),
    "from a number": lambda x: 1.5 - x,
    "integers from a number": lambda x: 2 - (x * 4).int(),
    "dropped and changed": dropped,
    "and": lambda x: ((x > -0.5) & (x < 0.5)).float(),
    "square": torch.square,
    "normalize": lambda x: F.normalize(x, dim=1),
}


def aliased(x):
    y = x * 2
    z = y.view(-1)
    y += 1
    return z


def copied(x):
    y = x * 2
    z = y.to(torch.float32, copy=True)
    z += 1
    return y + z


# Each of these is left to PyTorch: it shares memory, has a second type, or is an operator that is not replaced.
LEFT = {
    "a view of what changes": aliased,
    "an input that changes": lambda x: x.relu_() * 1,
    "two types": lambda x: added(x, x.double()),
    "a copy that changes": copied,
    "a factor": lambda x: torch.rsub(x, 1.5, alpha=2),
    "a dropped output": lambda x: F.dropout(x * 2, training=False),
    "an output of its own type": lambda x: (x * 2).float(),
    "another operator": F.softshrink,
}


class All(nn.Module):
    """All functions of one input."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions

    def forward(self, x):
        return tuple(function(x) for function in self.functions)


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def deployed(functions, monkeypatch):
    """Pairs of arrays of ONNX Runtime and PyTorch, one for each function; True if PyTorch decomposed the program."""
    asked, decompose = [], ExportedProgram.run_decompositions
    monkeypatch.setattr(
        ExportedProgram, "run_decompositions", lambda self, *args: asked.append(1) or decompose(self, *args)
    )
    module, x = All(functions), images(3, 3, 24, 8)
    sides = {2: 8 * Dim("h", min=1, max=64), 3: 8 * Dim("w", min=1, max=64)}
    with torch.inference_mode():
        traced = program.program_of(module, images(2, 3, 16, 40), ({0: Dim("batch", min=1, max=64), **sides},))
        graph = torch.onnx.export(traced, dynamo=True, verbose=False).model_proto
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    return list(zip(found, (each.numpy() for each in module(x.clone())), strict=True)), bool(asked)


def equal(found, expected):
    return found.dtype == expected.dtype and found.shape == expected.shape and np.allclose(found, expected, atol=1e-6)


def test_every_replaced_operator_computes_the_same_without_a_second_trace(monkeypatch):
    pairs, decomposed = deployed(REPLACED.values(), monkeypatch)
    assert not decomposed
    assert [name for name, pair in zip(REPLACED, pairs, strict=True) if not equal(*pair)] == []


def test_wrong_replacements_would_be_noticed(monkeypatch):
    monkeypatch.setitem(program._EXPLICIT, Tensor.flatten, lambda x, start: x.transpose(2, 3).flatten(start))
    subtract, turned = torch.ops.aten.rsub.Scalar, torch.ops.aten.sub.Tensor
    monkeypatch.setitem(program._REPLACED, subtract, lambda node, *sides: program._become(node, turned, *sides))
    (flat, minus), _ = deployed((REPLACED["flatten"], REPLACED["from a number"]), monkeypatch)
    assert not equal(*flat)
    assert not equal(*minus)


@pytest.mark.parametrize("name", LEFT)
def test_what_is_not_replaced_is_left_to_pytorch(name, monkeypatch):
    (pair,), decomposed = deployed((LEFT[name],), monkeypatch)
    assert decomposed
    assert equal(*pair)


def test_a_view_of_what_changes_must_not_be_made_functional(monkeypatch):
    monkeypatch.setattr(program, "_shares", lambda _node: False)
    (pair,), _ = deployed((aliased,), monkeypatch)
    assert not equal(*pair)


def test_a_module_that_cannot_be_traced_is_refused_with_pytorch_s_reason():
    branches = All([lambda x: x if x.sum() > 0 else -x])
    with pytest.raises(DptError, match=r"^PyTorch cannot trace it: .*guard"):
        onnx_from_module(branches, ExportInterface(Axes(16), "pixel_values", ("predicted_depth",)))


def test_pytorch_s_own_table_decomposes_everything():
    traced = program.program_of(All([F.gelu, F.softplus]), images(2, 3, 16, 40), None)
    before = {str(node.target) for node in traced.graph.nodes}
    after = {str(node.target) for node in traced.run_decompositions().graph.nodes}
    assert "aten.softplus.default" in before - after
