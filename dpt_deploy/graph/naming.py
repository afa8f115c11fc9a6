"""Name nodes and tensors after the PyTorch modules that they come from.

``encoder.blocks.3.attn.qkv`` is the output tensor of that module; its nodes are ``encoder.blocks.3.attn.qkv/MatMul``.
The exporter's own metadata (stack traces with paths of the exporting machine) is removed.
"""

from __future__ import annotations

import ast
import re
from collections import Counter

import onnx_ir as ir

MODULE_KEY = "module"
_WRAPPED = "model"
_MODULE_PARAMETER = re.compile(r"\w+(\.\w+)+")
_SCOPES = "pkg.torch.onnx.name_scopes"


def module_of(name: str) -> str:
    """Return the module that a node is named after; the name itself if there is none."""
    return name.rpartition("/")[0] or name


def name_after_modules(model: ir.Model) -> None:
    """Rename nodes and values of ``model`` in place, after the modules recorded by the exporter."""
    scopes = [(node, _scopes(node)) for node in model.graph]
    last_of: dict[str, ir.Node] = {}
    for node, path in scopes:
        if not _only_integers(node):
            last_of |= dict.fromkeys(path, node)
    outputs = {value.name for value in model.graph.outputs}
    uses: Counter[str] = Counter()
    for node, path in scopes:
        module = path[-1] if path else ""
        uses[f"{module}/{node.op_type}"] += 1
        count = uses[f"{module}/{node.op_type}"]
        node.name = f"{module}/{node.op_type}" + (f"_{count}" if count > 1 else "")
        for index, value in enumerate(node.outputs):
            if value.name not in outputs:
                value.name = node.name + (f":{index}" if len(node.outputs) > 1 else "")
        node.metadata_props.clear()
        if module:
            node.metadata_props[MODULE_KEY] = module
    _name_module_outputs(last_of, outputs)
    _name_parameters(model)
    _name_constants(model)
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.outputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        for value in node.outputs:
            value.metadata_props.clear()


def _only_integers(node: ir.Node) -> bool:
    """Return True if ``node`` computes only integers: sizes of maps and indices, which no module of a network returns.

    The exporter may place them after the numbers of the module, where a later module reads them.
    """
    kinds = [value.dtype for value in node.outputs]
    return all(kind is not None and kind.is_integer() for kind in kinds)


def _name_module_outputs(last_of: dict[str, ir.Node], outputs: set[str | None]) -> None:
    """Name the last tensor computed inside a module after it; the outermost such module gives the name."""
    named: set[int] = set()
    for module in sorted(last_of, key=lambda name: name.count(".")):
        node = last_of[module]
        (*_, value) = node.outputs
        if len(node.outputs) == 1 and value.name not in outputs and id(value) not in named:
            value.name = module
            named.add(id(value))


def _name_parameters(model: ir.Model) -> None:
    for value in [value for name, value in model.graph.initializers.items() if _unwrapped(name) != name]:
        model.graph.initializers.pop(str(value.name))
        value.name = _unwrapped(str(value.name))
        model.graph.register_initializer(value)


def _name_constants(model: ir.Model) -> None:
    """Name initializers that the exporter derived (a transposed weight, a shape) after the first node that reads them.

    Parameters of modules keep their dotted names.
    """
    order = {node: index for index, node in enumerate(model.graph)}
    derived = [value for name, value in model.graph.initializers.items() if not _MODULE_PARAMETER.fullmatch(name)]
    for value in (value for value in derived if value.uses()):
        node, index = min(value.uses(), key=lambda use: order[use.node])
        model.graph.initializers.pop(str(value.name))
        outputs = {output.name for output in node.outputs}
        name = f"{node.name}:{index}"
        value.name = name if name not in outputs else f"{name}.constant"  # a node of several outputs numbers them too
        model.graph.register_initializer(value)


def _scopes(node: ir.Node) -> list[str]:
    """Module paths from outermost to innermost, without the root and the operator's own entry."""
    text = node.metadata_props.get(_SCOPES)
    if not text:
        return []
    scopes = [_unwrapped(scope) for scope in ast.literal_eval(text)[:-1]]
    return [scope for scope in scopes if scope and not scope.startswith("_empty_nn_module")]


def _unwrapped(path: str) -> str:
    """Path inside the network, without the ``model.`` of wrappers for uint8 input and label output."""
    while path == _WRAPPED or path.startswith(f"{_WRAPPED}."):
        path = path.removeprefix(_WRAPPED).removeprefix(".")
    return path
