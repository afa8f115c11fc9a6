"""Render in the background: ``python -m support.rendering FOLDER COUNT SIDE``.

Two workers do it; "ready" is said when the first scene is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from dpt_deploy.jobs.train.rendered import RenderedScenes


def main() -> None:
    _, folder, count, side = sys.argv
    said = []

    def advance() -> None:
        if not said:
            said.append(True)
            print("ready", flush=True)

    RenderedScenes(Path(folder), int(count), int(side)).render(workers=2, advance=advance)


if __name__ == "__main__":
    main()
