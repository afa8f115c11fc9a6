"""Measure how much a shipped model flickers on rendered camera moves, and how much of it `run --stable` removes.

Usage: python benchmarks/flicker.py [MODEL]    (default: tiny); writes results/flicker-MODEL.json

Each scene is seen by a camera whose exact depth is known. `whole` is the flicker with one scale and shift for the
video, `each` that with every frame aligned by the truth: about what is left if only scale and shift are steadied.
`frozen` shows the first map in every frame: no map flickers less, since the metric counts a map that stays behind its
scene as well. AbsRel and delta1 are those of the paper's zero-shot protocol, frame by frame.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

import dpt_deploy
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.imaging.steady import Steadier
from dpt_deploy.jobs.export.named import exported_by_name
from dpt_deploy.measure.flicker import flicker
from dpt_deploy.measure.metrics import OUTDOOR_CAP, depth_metrics, zero_shot_depth
from dpt_deploy.scenes.geometry import about_y
from dpt_deploy.scenes.layouts import compose
from dpt_deploy.scenes.render import render_layout

SEEDS = (9001, 9002, 9003, 9005, 9006, 9007)
FRAMES, HEIGHT, WIDTH = 16, 96, 128


class Move(NamedTuple):
    """A camera move: radians and metres over the whole of it, and what a camera that stays adds to its pictures."""

    turn: float = 0.0
    aside: float = 0.0
    ahead: float = 0.0
    noise: float = 0.0  # standard deviation, of 255
    exposure: float = 0.0  # standard deviation of the gain


MOVES = {
    "turn and walk": Move(0.12, 0.15, 0.2),
    "the same, slowly": Move(0.04, 0.05, 0.07),
    "turn": Move(turn=0.2),
    "aside": Move(aside=0.4),
    "ahead": Move(ahead=0.6),
    "still, noise and exposure": Move(noise=4.0, exposure=0.05),
}


def rendered(seed, move):
    """The scenes along a move, as (image, depth)."""
    layout, rng = compose(seed), np.random.default_rng(seed)
    shares = np.linspace(-0.5, 0.5, FRAMES) if move.turn or move.aside or move.ahead else np.zeros(1)
    found = []
    for share in shares:
        camera = layout.camera
        step = camera.rotation @ np.array([move.aside * share, 0, move.ahead * share])
        rotation = about_y(move.turn * share) @ camera.rotation
        placed = replace(layout, camera=replace(camera, position=camera.position + step, rotation=rotation))
        scene = render_layout(placed, seed, height=HEIGHT, width=WIDTH)
        found.append((scene.image, scene.depth))
    found *= FRAMES // len(found)
    gains = 1 + move.exposure * rng.standard_normal(FRAMES)
    noise = move.noise * rng.standard_normal((FRAMES, HEIGHT, WIDTH, 3))
    seen = [
        np.clip(np.rint(image * gain + each), 0, 255)
        for (image, _), gain, each in zip(found, gains, noise, strict=True)
    ]
    return [(image.astype(np.uint8), depth) for image, (_, depth) in zip(seen, found, strict=True)]


def scored(maps, depths):
    """Flicker and accuracy of the maps of a move."""
    truth = np.array([np.where(np.isfinite(depth), 1 / depth, 0) for depth in depths], np.float64)
    metrics = []
    for values, depth in zip(maps, depths, strict=True):
        valid = np.isfinite(depth) & (depth < OUTDOOR_CAP)
        metrics.append(depth_metrics(zero_shot_depth(values, depth, valid, OUTDOOR_CAP), depth, valid))
    return {
        "whole": flicker(maps, truth).change,
        "each": flicker(maps, truth, each_frame=True).change,
        "abs_rel": float(np.mean([each.abs_rel for each in metrics])),
        "delta1": float(np.mean([each.delta1 for each in metrics])),
    }


def measured(model, seed, name):
    """The scores of one move: of the model alone, with `--stable`, and of a map that never changes."""
    frames = rendered(seed, MOVES[name])
    depths, steadier = [depth for _, depth in frames], Steadier()
    maps = np.array([model(image).depth for image, _ in frames])
    steady = np.array([steadier(values, image) for values, (image, _) in zip(maps, frames, strict=True)])
    found = {"plain": maps, "stable": steady, "frozen": np.repeat(maps[:1], FRAMES, axis=0)}
    return {"seed": seed, "cuts": steadier.cuts} | {key: scored(values, depths) for key, values in found.items()}


def mean(rows):
    """The mean of every score over scenes."""
    return {
        key: {name: float(np.mean([row[key][name] for row in rows])) for name in rows[0][key]}
        for key in ("plain", "stable", "frozen")
    }


def main(name="tiny"):
    """Measure every scene and move, and write the result."""
    with dpt_deploy.load(exported_by_name(name)) as model:
        rows = {move: [measured(model, seed, move) for seed in SEEDS] for move in MOVES}
    found = {"kind": "flicker", "model": name, "frames": FRAMES, "size": f"{HEIGHT}x{WIDTH}"}
    found |= {"environment": fingerprint()}
    found["moves"] = [
        {"move": move, **MOVES[move]._asdict(), "mean": mean(scenes), "scenes": scenes} for move, scenes in rows.items()
    ]
    target = Path(__file__).parent / "results" / f"flicker-{name}.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    for each in found["moves"]:
        plain, stable = each["mean"]["plain"], each["mean"]["stable"]
        print(
            f"{each['move']}: flicker {plain['whole']:.2%} -> {stable['whole']:.2%} of the range, "
            f"AbsRel {plain['abs_rel']:.4f} -> {stable['abs_rel']:.4f}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
