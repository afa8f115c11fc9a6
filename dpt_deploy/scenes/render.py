"""Rendering of a layout to an image with exact depth and labels: cast, shade, expose (torch, CPU or GPU)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dpt_deploy.scenes.geometry import Box
from dpt_deploy.scenes.layouts import Camera, Layout, Light, compose
from dpt_deploy.scenes.texture import fractal
from dpt_deploy.scenes.things import CLASSES, Thing

_LIFT = 1e-3  # metres per metre of depth: a shadow ray starts this far off its surface


@dataclass(frozen=True)
class Scene:
    """A rendered image with its ground truth.

    ``image`` is (H, W, 3) uint8 RGB; ``depth`` (H, W) float32, metres along the optical axis, infinite in the sky;
    ``labels`` (H, W) uint8, positions in :data:`CLASSES`; ``kind`` the layout's: room, landscape, table or close-up.
    """

    image: np.ndarray
    depth: np.ndarray
    labels: np.ndarray
    kind: str


def render_scene(seed: int, *, height: int, width: int, device: str = "cpu") -> Scene:
    """Render the scene of ``seed`` at ``height`` x ``width`` pixels.

    A seed gives the same scene at every size and on every device (up to rounding).
    """
    return render_layout(compose(seed), seed, height=height, width=width, device=device)


def render_layout(layout: Layout, seed: int, *, height: int, width: int, device: str = "cpu") -> Scene:
    """Render a layout, such as one whose camera has moved; ``seed`` decides the exposure and the sensor's noise."""
    with torch.inference_mode():
        depth, labels, colour = _Renderer(layout, height, width, torch.device(device)).render()
        image = _expose(colour, seed)
    return Scene(image.cpu().numpy(), depth.cpu().numpy(), labels.cpu().numpy(), layout.kind)


class _Renderer:
    def __init__(self, layout: Layout, height: int, width: int, device: torch.device) -> None:
        self.layout = layout
        self.shape = (height, width)
        self.origin = _tensor(layout.camera.position, device)[:, None]
        self.rays = _rays(layout.camera, height, width, device)
        self.pixel = 2 * float(np.tan(layout.camera.view / 2)) / width  # of a surface at depth 1, seen head-on

    def render(self) -> tuple[Tensor, Tensor, Tensor]:
        """Depth (H, W), labels (H, W) and linear colour (H, W, 3)."""
        depth, nearest = _cast(self.layout, self.origin, self.rays)
        colour = self._sky()
        point = self.origin + self.rays * torch.where(depth.isfinite(), depth, 0.0)
        for index, thing in enumerate(self.layout.things):
            seen = (nearest == index).nonzero(as_tuple=True)[0]
            if len(seen):
                colour[:, seen] = self._shade(thing, point[:, seen], self.rays[:, seen], depth[seen])
        if self.layout.haze:
            clear = torch.exp(-depth / self.layout.haze)
            colour = clear * colour + (1 - clear) * self._haze_colour()
        labels = _labels(self.layout.things, nearest)
        return depth.reshape(self.shape), labels.reshape(self.shape), colour.T.reshape(*self.shape, 3)

    def _shade(self, thing: Thing, point: Tensor, ray: Tensor, depth: Tensor) -> Tensor:
        light, material = self.layout.light, thing.material
        normal, uv = thing.solid.surface(point)
        view = F.normalize(ray, dim=0)
        slant = (normal * view).sum(dim=0).abs().clamp_min(0.05)
        base = material.colour(uv, self.pixel * depth / slant)
        to_light, reach, fall = _towards(light, point)
        lit = _lit(self.layout, point + normal * (_LIFT * depth + _LIFT), to_light, reach)
        diffuse = (normal * to_light).sum(dim=0).clamp_min(0) * lit * fall * light.strength
        half = F.normalize(to_light - view, dim=0)
        highlight = material.gloss * lit * fall * (normal * half).sum(dim=0).clamp_min(0) ** 40
        # Surfaces that look up see more of the sky or ceiling than those that look down.
        ambient = light.ambient * (0.75 + 0.25 * normal[1])
        return base * (ambient + diffuse * _tensor(light.tint, point.device)[:, None]) + highlight

    def _sky(self) -> Tensor:
        sky = self.layout.sky
        if sky is None:
            return torch.zeros_like(self.rays)
        view = F.normalize(self.rays, dim=0)
        height = view[1].clamp_min(0.02)
        clouds = view[[0, 2]] / height * 0.5
        lattice = _tensor(sky.lattice, view.device)
        cover = (0.5 + 0.8 * fractal(clouds / sky.scale, self.pixel / height**2 / sky.scale, lattice)).clamp(0, 1)
        first, second = _tensor(sky.first, view.device)[:, None], _tensor(sky.second, view.device)[:, None]
        zenith = torch.lerp(first, second, cover)
        glow = torch.exp(-6 * height)
        return zenith * (1 - 0.5 * glow) + 0.5 * glow * self._haze_colour()

    def _haze_colour(self) -> Tensor:
        sky = self.layout.sky
        mixed = np.full(3, 0.7) if sky is None else 0.5 * sky.second + 0.5 * sky.first
        return _tensor(mixed, self.rays.device)[:, None]


def _rays(camera: Camera, height: int, width: int, device: torch.device) -> Tensor:
    """Directions through the pixels' centres (3, H * W), of length 1 along the optical axis."""
    reach = float(np.tan(camera.view / 2))
    x = (torch.arange(width, device=device) + 0.5) / width * 2 - 1
    y = 1 - (torch.arange(height, device=device) + 0.5) / height * 2
    rows, columns = torch.meshgrid(y * reach * height / width, x * reach, indexing="ij")
    local = torch.stack((columns, rows, torch.ones_like(rows))).reshape(3, -1)
    return _tensor(camera.rotation, device) @ local


def _cast(layout: Layout, origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Distance (N,) to the nearest thing and its index (N,), -1 for none."""
    depth = torch.full(direction.shape[1:], torch.inf, device=direction.device)
    nearest = torch.full(direction.shape[1:], -1, device=direction.device)
    for index, thing in enumerate(layout.things):
        t = thing.solid.distance(origin, direction)
        nearer = t < depth
        depth = torch.where(nearer, t, depth)
        nearest = torch.where(nearer, index, nearest)
    return depth, nearest


def _labels(things: list[Thing], nearest: Tensor) -> Tensor:
    """Classes (N,) of the things with these indices; -1 is sky."""
    table = torch.tensor([CLASSES.index("sky"), *(CLASSES.index(thing.kind) for thing in things)], dtype=torch.uint8)
    return table.to(nearest.device)[nearest + 1]


def _towards(light: Light, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Unit directions (3, N) to the light, its distance (N,), and the share of its strength that arrives (N,)."""
    if light.position is None:
        direction = _tensor(light.direction, point.device)[:, None].expand_as(point)
        far = torch.full(point.shape[1:], torch.inf, device=point.device)
        return direction, far, torch.ones_like(far)
    way = _tensor(light.position, point.device)[:, None] - point
    reach = way.norm(dim=0)
    return way / reach.clamp_min(1e-6), reach, 2.5 / (1 + 0.3 * reach * reach).clamp_min(1.0)


def _lit(layout: Layout, point: Tensor, to_light: Tensor, reach: Tensor) -> Tensor:
    """1 where nothing blocks the light at a point, else 0 (N,)."""
    free = torch.ones_like(reach)
    for thing in layout.things:
        if not (isinstance(thing.solid, Box) and thing.solid.room):  # the walls around a scene cast no shadow inside
            free = torch.where(thing.solid.distance(point, to_light) < reach, 0.0, free)
    return free


def _expose(colour: Tensor, seed: int) -> Tensor:
    """Convert linear light to an 8-bit photograph: exposure, white balance, vignette, gamma, sensor noise."""
    rng = np.random.default_rng([seed, 0xCA3])
    height, width, _ = colour.shape
    middle = colour.mean().clamp_min(1e-4)
    balance = _tensor(rng.uniform(0.88, 1.12, 3), colour.device)
    exposed = colour * (rng.uniform(0.14, 0.42) / middle) * balance
    y = torch.linspace(-1, 1, height, device=colour.device)[:, None]
    x = torch.linspace(-1, 1, width, device=colour.device)[None, :]
    exposed = exposed * (1 - rng.uniform(0, 0.35) * (x * x + y * y) / 2)[..., None]
    exposed = exposed / (1 + 0.18 * exposed * exposed)  # a shoulder instead of hard clipping
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(colour.shape, generator=generator).to(colour.device) * rng.uniform(0, 0.02)
    return ((exposed.clamp(0, 1) ** (1 / 2.2) + noise).clamp(0, 1) * 255).round().to(torch.uint8)


def _tensor(values: np.ndarray, device: torch.device) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
