"""Render in the background: ``python -m support.rendering FOLDER COUNT SIDE``.

Two workers do it; "ready" is said when the first scene is done.
"""

from __future__ import annotations

import sys
from pathlib import Path

from support.reporting import RecordedTask, recording

from dpt_deploy.jobs.train.rendered import RenderedScenes


def main() -> None:
    _, folder, count, side = sys.argv

    def ready(task: RecordedTask) -> None:
        if task.done == 1:
            print("ready", flush=True)

    with recording(ready):
        RenderedScenes(Path(folder), int(count), int(side)).render(workers=2)


if __name__ == "__main__":
    main()
