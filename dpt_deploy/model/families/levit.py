"""MiDaS 3.1 with LeViT (isl-org/MiDaS, on timm 0.6): blocks in one list, three levels, transposed convolutions."""

from __future__ import annotations

from collections.abc import Iterator

from dpt_deploy.model.families.dpt import IMAGE, LICENCE
from dpt_deploy.model.families.family import Family, Rule
from dpt_deploy.model.families.shared import ORIGINAL_UNUSED, original_decoder

_STATISTICS = ("weight", "bias", "running_mean", "running_var")
_MODEL = "pretrained.model"


def _with_norm(theirs: str, ours: str, layer: str) -> Iterator[Rule]:
    """A layer without bias and the batch norm behind it."""
    yield Rule(f"{theirs}.c.weight", f"{ours}.{layer}.weight")
    for leaf in _STATISTICS:
        yield Rule(f"{theirs}.bn.{leaf}", f"{ours}.norm.{leaf}")


def _rules() -> Iterator[Rule]:
    block, ours = f"{_MODEL}.blocks.{{n}}", "encoder.blocks.{n}"
    yield from _with_norm(f"{_MODEL}.patch_embed.{{n}}", "encoder.stem.{n}", "conv")
    yield Rule(f"{block}.m.attention_biases", f"{ours}.branch.bias.table")
    yield Rule(f"{block}.attention_biases", f"{ours}.bias.table")
    yield from _with_norm(f"{block}.m.{{x}}", f"{ours}.branch.{{x}}", "linear")
    yield from _with_norm(f"{block}.q.1", f"{ours}.q", "linear")
    yield from _with_norm(f"{block}.{{x}}", f"{ours}.{{x}}", "linear")
    for place, name in (("0", "first"), ("2", "second")):
        yield from _with_norm(f"scratch.stem_transpose.{place}", f"enlarge.{name}", "conv")


FAMILIES = (
    Family(
        "isl-org/MiDaS 3.1 LeViT",
        "depth",
        marks=(f"{_MODEL}.blocks.{{n}}.m.{{x}}", "scratch.stem_transpose.{n}.{x}"),
        rules=(*_rules(), *original_decoder("depth", levels=3)),
        unused=(
            *ORIGINAL_UNUSED,
            ("scratch.refinenet3.resConfUnit1.{x}", "unit for a skip that the coarsest block does not have"),
            (f"{_MODEL}.blocks.{{n}}.attention_bias_idxs", "index of a table, computed here"),
            (f"{_MODEL}.blocks.{{n}}.m.attention_bias_idxs", "index of a table, computed here"),
        ),
        licence=LICENCE,
        image=IMAGE,
    ),
)
