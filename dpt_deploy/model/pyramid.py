"""Reassemble and fusion: features of an encoder to the map in front of a head (paper §3.1 and §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from dpt_deploy.core.encoders import Tap
from dpt_deploy.core.spec import ModelSpec
from dpt_deploy.model.decoders import form_of, fused_channels, head_stride, level_channels
from dpt_deploy.model.enlarge import Enlarge
from dpt_deploy.model.fusion import Fusion
from dpt_deploy.model.reassemble import KeepMap, Reassemble


class PyramidDecoder(nn.Module):
    """A network with a decoder, whose modules :meth:`_make_levels` registers.

    Index 0 of ``reassemble``, ``neck`` and ``fusion`` is the finest level (the original's ``layer1``, ``refinenet1``).
    """

    def _make_levels(self, spec: ModelSpec, *, batch_norm: bool) -> None:
        """Register the modules. A subclass chooses the moment, since the order is that of the state dict."""
        form = form_of(spec)
        levels = range(len(spec.encoder.strides))
        self.reassemble = nn.ModuleList(_make_reassemble(spec, level, spec.taps[level]) for level in levels)
        self.neck = nn.ModuleList(
            nn.Conv2d(channels, level_channels(spec, level), kernel_size=3, padding=1, bias=False)
            if form.neck
            else nn.Identity()
            for level, channels in enumerate(spec.reassemble_channels)
        )
        self.fusion = nn.ModuleList(
            Fusion(
                level_channels(spec, level),
                fused_channels(spec, level),
                form,
                batch_norm=batch_norm,
                has_skip=level < levels[-1] or form.refines_coarsest,
            )
            for level in levels
        )
        self.enlarge: nn.Module = Enlarge(spec.fusion_channels) if form.enlarges else nn.Identity()
        self.doubles = _doubling_steps(spec)

    def _fuse(
        self, features: Sequence[Tensor], pixel_values: Tensor, height: int, width: int
    ) -> tuple[Tensor, tuple[int, int] | None]:
        """Fuse the features of ``pixel_values``, whose tokens form a grid of ``height`` x ``width``.

        Returns:
            The map (B, C, h, w) in front of the head, and the size that the head resizes to; None: it doubles.
        """
        maps = [
            neck(reassemble(feature, height, width))
            for feature, reassemble, neck in zip(features, self.reassemble, self.neck, strict=True)
        ]
        targets = [pixel_values, *maps[:-1]]  # of step k, by size: step 0 is the head's, the others are fusion's
        sizes = [
            None if double else (target.shape[2], target.shape[3])
            for target, double in zip(targets, self.doubles, strict=True)
        ]
        path = self.fusion[-1](maps[-1], size=sizes[-1])
        for level in range(len(maps) - 2, 0, -1):
            path = self.fusion[level](path, maps[level], sizes[level])
        return self.enlarge(self.fusion[0](path, maps[0])), sizes[0]


def _make_reassemble(spec: ModelSpec, level: int, tap: Tap) -> nn.Module:
    tokens = spec.encoder.tokens
    if isinstance(tap, str) or tokens is None:
        return KeepMap()
    channels, stride = spec.reassemble_channels[level], spec.encoder.strides[level]
    kernel = form_of(spec).coarsens
    return Reassemble(spec.readout, tokens.prefix, tokens.width, channels, stride, tokens.patch, coarsens=kernel)


def _doubling_steps(spec: ModelSpec) -> tuple[bool, ...]:
    """For each upsampling step to a known size, whether it doubles every legal image's map.

    Step 0 is the head's, to the size of the image; step k > 0 is from the map of level k to that of level k - 1. Where
    a step doubles, the graph says so, which runtimes compute faster than a size they must look up. It does not where a
    coarse map is rounded up (37 rows become 19), or where the head's target is no power of two away (1.75 for patches
    of 14 pixels). Where the path leads, all of fusion's steps double, and the skips follow.
    """
    strides, legal = spec.encoder.strides, spec.stride
    if form_of(spec).path_leads:
        return (False, *(True for _ in strides[1:]))
    between = (coarse == 2 * fine and legal % coarse == 0 for fine, coarse in pairwise(strides))
    return (strides[0] == head_stride(spec), *between)
