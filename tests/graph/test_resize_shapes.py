"""A trace is the same with shapes of resizes that are known; only the way to them is shorter."""

from contextlib import suppress

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dpt_deploy.graph import resize_shapes

pytestmark = [pytest.mark.needs("torch")]


class Resizes(nn.Module):
    """Resizes to the size of another map, by a whole factor, and by another one."""

    def forward(self, x):
        wide = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=True)
        uneven = F.interpolate(wide, scale_factor=1.5, mode="bilinear", align_corners=False)
        return F.interpolate(uneven, size=x.shape[2:], mode="bilinear", align_corners=False), uneven


def traced():
    sides = {2: 8 * torch.export.Dim("h", min=1, max=64), 3: 8 * torch.export.Dim("w", min=1, max=64)}
    example = torch.zeros(2, 3, 16, 24)
    with torch.inference_mode():  # as the exporter does; PyTorch decomposes what may need a gradient
        return torch.export.export(Resizes(), (example,), dynamic_shapes=({0: torch.export.Dim("batch"), **sides},))


def shapes(program):
    return {node.name: getattr(node.meta["val"], "shape", "") for node in program.graph.nodes if "val" in node.meta}


def test_the_trace_is_the_same(monkeypatch):
    calls, shape_of = [], resize_shapes._resized
    monkeypatch.setattr(resize_shapes, "_resized", lambda *args: calls.append(args) or shape_of(*args))
    plain = traced()
    assert not calls
    with resize_shapes.known_resize_shapes():
        short = traced()
    assert len(calls) >= 3
    assert short.graph_module.code == plain.graph_module.code
    assert shapes(short) == shapes(plain)
    assert str(short.range_constraints) == str(plain.range_constraints)


def test_nothing_stays_behind():
    before = dict(resize_shapes.get_fast_op_impls())
    with suppress(KeyError), resize_shapes.known_resize_shapes():
        assert resize_shapes.get_fast_op_impls() != before
        raise KeyError
    assert resize_shapes.get_fast_op_impls() == before


def test_a_wrong_shape_shows_in_the_trace(monkeypatch):
    monkeypatch.setattr(resize_shapes, "_times", lambda side, factor: side * 3)
    plain = traced()
    with resize_shapes.known_resize_shapes():
        assert shapes(traced()) != shapes(plain)
