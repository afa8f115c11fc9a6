"""Exact rewrites of DINOv2: gains of blocks go into the layers in front of them, positions are stored as a grid.

rewrite                                            why it is exact
gain of a channel (LayerScale) in the layer before both are linear: g (W x + b) = (g W) x + g b
position table stored as a grid                    the same numbers, in the order in which they are resized
"""

from __future__ import annotations

from timm.models.vision_transformer import Block, LayerScale
from torch import Tensor, nn

from dpt_deploy.model.encoders.dinov2 import ProductPositions, resized
from dpt_deploy.model.rewrites.relative import constant, with_gain


class DeployedProductPositions(nn.Module):
    """:class:`ProductPositions` with its grid (g, g, D) and the position of the class token as tensors of their own."""

    def __init__(self, position: ProductPositions) -> None:
        super().__init__()
        self.offset = position.offset
        self.prefix = constant(position.table[:, :1])
        self.grid = constant(position.table[0, 1:].reshape(position.grid, position.grid, -1))

    def forward(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        return self.prefix, resized(self.grid, height, width, self.offset)


def with_folded_gains(block: Block) -> Block:
    """The block, whose gains, where it has any, are now in the last layers of its two parts."""
    if isinstance(block.ls1, LayerScale):
        block.attn.proj = with_gain(block.attn.proj, block.ls1.gamma)
        block.ls1 = nn.Identity()
    if isinstance(block.ls2, LayerScale):
        block.mlp.fc2 = with_gain(block.mlp.fc2, block.ls2.gamma)
        block.ls2 = nn.Identity()
    return block
