"""Write tests/golden/scenes.npz, what the generator drew: ``python tests/support/make_scenes_golden.py``.

Trained weights and measured results belong to one generator. If a change of it is wanted, they are made anew with it.
"""

from pathlib import Path

import numpy as np

from dpt_deploy.scenes.render import render_scene

SEEDS = (0, 1, 2, 3)  # a room, a table, a landscape and a close-up
SIDE = 64


def main() -> None:
    scenes = [render_scene(seed, height=SIDE, width=SIDE) for seed in SEEDS]
    arrays = {name: np.stack([getattr(scene, name) for scene in scenes]) for name in ("image", "depth", "labels")}
    np.savez_compressed(Path(__file__).parents[1] / "golden" / "scenes.npz", seeds=SEEDS, **arrays)


if __name__ == "__main__":
    main()
