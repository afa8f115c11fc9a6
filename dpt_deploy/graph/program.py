"""A module traced as a program that PyTorch's exporter need not decompose.

The exporter traces a program a second time to replace operators that have no counterpart in ONNX. For small networks of
any size that takes about half of the time of a trace. In a network like ours it concerns a dozen operators; they are
replaced here, some while the module is traced and some in the graph. A program in which another one is left is
decomposed by PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
import torch._dynamo.config as dynamo_config
import torch.fx.experimental._config as symbolic_config
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator, OpOverload
from torch.export import ExportedProgram
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_ATEN = torch.ops.aten
_SAME = {_ATEN.reshape.default, _ATEN.chunk.default}  # decomposed to an operator that is the same in ONNX
_UNDECLARED = {_ATEN.dropout.default}  # returns its input outside training, and its schema does not say so


class DecomposedProgram(ExportedProgram):
    """An exported program that is decomposed only if an operator in it asks for it."""

    def run_decompositions(self, decomp_table: Any = None, *options: Any, **named: Any) -> ExportedProgram:
        """Return the program itself where ``decomp_table`` would change no operator of it, or what PyTorch returns."""
        if decomp_table is None or any(_must_be_decomposed(node, decomp_table) for node in self.graph.nodes):
            decomposed: ExportedProgram = super().run_decompositions(decomp_table, *options, **named)
            return decomposed
        return self


def program_of(module: nn.Module, example: Tensor, dynamic_shapes: tuple[dict[int, object]] | None) -> ExportedProgram:
    """Trace ``module`` with one input; ``dynamic_shapes`` are those of :func:`torch.export.export`.

    Raises:
        Exception: the module cannot be traced; PyTorch's exception, or the module's.
    """
    with _ExplicitShapes(), _settings():
        traced = torch.export.export(module, (example,), dynamic_shapes=dynamic_shapes, strict=False)
    _replace_operators(traced.graph)
    return DecomposedProgram(
        root=traced.graph_module,
        graph=traced.graph,
        graph_signature=traced.graph_signature,
        state_dict=traced.state_dict,
        range_constraints=traced.range_constraints,
        module_call_graph=traced.module_call_graph,
        example_inputs=traced.example_inputs,
        constants=traced.constants,
        verifiers=traced.verifiers,
    )


@contextmanager
def _settings() -> Iterator[None]:
    # The exporter sets the first, too. Symbolic shapes are seldom found again: to remember them takes longer.
    sizes_may_be_1 = symbolic_config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]  # set when imported
    with sizes_may_be_1, dynamo_config.patch(fake_tensor_cache_enabled=False):
        yield


def _must_be_decomposed(node: fx.Node, table: Mapping[Any, Any]) -> bool:
    operator = node.target
    if node.op != "call_function" or operator in _SAME:
        return False
    if isinstance(operator, HigherOrderOperator):
        return True
    if not isinstance(operator, OpOverload):
        return False
    composed = operator._can_decompose() and _returns_alias(operator)
    return operator in table or operator._schema.is_mutable or composed


# ---- while the module is traced -------------------------------------------------------------------------------------


class _ExplicitShapes(TorchFunctionMode):
    """Give all sizes of a result, as PyTorch does where it decomposes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _EXPLICIT.get(func, func)(*args, **(kwargs or {}))


def _flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    if x.ndim == 0:
        return x.reshape(1)
    first, behind = start_dim % x.ndim, end_dim % x.ndim + 1
    return x.reshape(*x.shape[:first], prod(x.shape[first:behind]), *x.shape[behind:])


def _unflatten(x: Tensor, dim: int, sizes: Any) -> Tensor:
    at = dim % x.ndim
    return x.view(*x.shape[:at], *sizes, *x.shape[at + 1 :])


def _normalize(x: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: Tensor | None = None) -> Tensor:
    if out is not None:
        return functional.normalize(x, p, dim, eps, out)
    length: Tensor = x.norm(p, dim, keepdim=True)
    return x / length.clamp_min(eps).expand(x.shape)


_EXPLICIT: dict[Any, Callable[..., Tensor]] = {
    torch.flatten: _flatten,
    Tensor.flatten: _flatten,
    torch.unflatten: _unflatten,
    Tensor.unflatten: _unflatten,
    functional.normalize: _normalize,
}

# ---- in the graph ---------------------------------------------------------------------------------------------------


def _replace_operators(graph: fx.Graph) -> None:
    for node in list(graph.nodes):
        if node.target in _FUNCTIONAL:
            _make_functional(node)
        elif node.target in _REPLACED:
            _REPLACED[node.target](node, *node.args)


def _make_functional(node: fx.Node) -> None:
    """Turn an operator that changes its input into one that does not, if nothing else shares the input's memory."""
    changed = node.args[0]
    if not isinstance(changed, fx.Node) or any(_shares(each) for each in (changed, *changed.users) if each is not node):
        return
    if _has_one_type(node):
        changed.replace_all_uses_with(node, lambda user: user > node)
        node.target = _FUNCTIONAL[node.target]


def _shares(node: fx.Node) -> bool:
    """True where the result may lie in the memory of an input, as a view does; true of what is no operator, too."""
    return not isinstance(node.target, OpOverload) or _returns_alias(node.target)


def _returns_alias(operator: OpOverload) -> bool:
    return operator in _UNDECLARED or any(found.alias_info is not None for found in operator._schema.returns)


def _has_one_type(node: fx.Node) -> bool:
    values = (each.meta.get("val") for each in (node, *node.all_input_nodes))
    return len({value.dtype for value in values if isinstance(value, Tensor)}) == 1


def _dropout(node: fx.Node, x: fx.Node, _share: float, training: bool) -> None:
    if not training:
        _use_instead(node, x)


def _to_dtype(node: fx.Node, x: fx.Node, dtype: torch.dtype, *options: Any) -> None:
    if x.meta["val"].dtype != dtype:
        _become(node, _ATEN._to_copy.default, x)
        node.kwargs = {"dtype": dtype}
    elif not any(options):  # a copy may be changed, and its source must not
        _use_instead(node, x)


def _use_instead(node: fx.Node, x: fx.Node) -> None:
    if all(user.op != "output" for user in node.users):  # the program's signature names its outputs
        node.replace_all_uses_with(x)
        node.graph.erase_node(node)


def _conv_transpose2d(
    node: fx.Node,
    x: fx.Node,
    weight: fx.Node,
    bias: fx.Node | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    output_padding: Sequence[int] = (0, 0),
    groups: int = 1,
    dilation: Sequence[int] = (1, 1),
) -> None:
    _become(node, _ATEN.convolution.default, x, weight, bias, stride, padding, dilation, True, output_padding, groups)


def _rsub(node: fx.Node, x: fx.Node, minuend: float, *factor: float) -> None:
    if not factor:
        _become(node, _ATEN.sub.Tensor, minuend, x)


def _square(node: fx.Node, x: fx.Node) -> None:
    _become(node, _ATEN.pow.Tensor_Scalar, x, 2)


def _and(node: fx.Node, *sides: fx.Node) -> None:
    _become(node, _ATEN.bitwise_and.Tensor, *sides)


def _become(node: fx.Node, operator: OpOverload, *args: Any) -> None:
    node.target, node.args = operator, args


_FUNCTIONAL: dict[Any, OpOverload] = {_ATEN.relu_.default: _ATEN.relu.default, _ATEN.add_.Tensor: _ATEN.add.Tensor}
_REPLACED: dict[Any, Callable[..., None]] = {
    _ATEN.dropout.default: _dropout,
    _ATEN.to.dtype: _to_dtype,
    _ATEN.conv_transpose2d.input: _conv_transpose2d,
    _ATEN.rsub.Scalar: _rsub,
    _ATEN.__and__.Tensor: _and,
    _ATEN.square.default: _square,
}
