"""Measure how much a shipped model flickers on rendered camera moves; writes results/flicker-MODEL.json.

Usage: python benchmarks/flicker.py [MODEL]    (default: tiny)

Each scene is seen by a camera that moves and turns slowly, and its exact depth is known. `whole` is the flicker with
one scale and shift for the video, `each` that with every frame aligned by the truth. To steady scale and shift, however
well, leaves about `each`: that part is in the shape of the maps.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import dpt_deploy
from dpt_deploy.core.environment import fingerprint
from dpt_deploy.jobs.export.named import exported_by_name
from dpt_deploy.measure.flicker import flicker
from dpt_deploy.scenes.geometry import about_y
from dpt_deploy.scenes.layouts import compose
from dpt_deploy.scenes.render import render_layout

SEEDS = (9001, 9002, 9003, 9005, 9006, 9007)
FRAMES, HEIGHT, WIDTH = 16, 96, 128
TURN, ASIDE, AHEAD = 0.12, 0.15, 0.2  # radians and metres, over the whole move


def moved(layout, share):
    """The layout seen from a place on the way, ``share`` from -0.5 to 0.5."""
    camera = layout.camera
    step = camera.rotation @ np.array([ASIDE * share, 0, AHEAD * share])
    rotation = about_y(TURN * share) @ camera.rotation
    return replace(layout, camera=replace(camera, position=camera.position + step, rotation=rotation))


def measured(model, seed):
    """The flicker of one move, over the range of its exact inverse depth."""
    layout = compose(seed)
    shares = np.linspace(-0.5, 0.5, FRAMES)
    scenes = [render_layout(moved(layout, share), seed, height=HEIGHT, width=WIDTH) for share in shares]
    truth = np.array([np.where(np.isfinite(scene.depth), 1 / scene.depth, 0) for scene in scenes], np.float64)
    maps = np.array([model(scene.image).depth for scene in scenes])
    whole, each = flicker(maps, truth), flicker(maps, truth, each_frame=True)
    return {"seed": seed, "kind": layout.kind, "whole": whole._asdict(), "each": each._asdict()}


def main(name="tiny"):
    """Measure every scene, and write the result."""
    with dpt_deploy.load(exported_by_name(name)) as model:
        rows = [measured(model, seed) for seed in SEEDS]
    means = {part: float(np.mean([row[part]["change"] for row in rows])) for part in ("whole", "each")}
    share = 1 - means["each"] / means["whole"]
    found = {"model": name, "frames": FRAMES, "size": f"{HEIGHT}x{WIDTH}", "environment": fingerprint(), "scenes": rows}
    found |= {"flicker": means, "removed_by_perfect_scale_and_shift": share}
    target = Path(__file__).parent / "results" / f"flicker-{name}.json"
    target.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{name}: flicker {means['whole']:.2%} of the range; {share:.0%} less with every frame aligned by the truth")


if __name__ == "__main__":
    main(*sys.argv[1:])
