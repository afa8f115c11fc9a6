"""Figure of the loss of a training over its steps (matplotlib, no display)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from dpt_deploy.core.files import atomic_path, write_errors
from dpt_deploy.report.style import STYLE

_SMOOTH = 15  # points of the curve in the running mean


def draw_training(data: Mapping[str, Any], path: Path) -> None:
    """Draw the ``loss`` of a training record, with its running mean, to ``path`` (.svg, .png, …).

    Raises:
        ResourceError: the file cannot be written.
    """
    steps, loss = np.array(data["loss"], dtype=float).T
    width = min(_SMOOTH, len(loss))
    mean = np.convolve(loss, np.ones(width) / width, mode="valid")
    settings: Any = STYLE
    with rc_context(settings):
        figure = Figure(figsize=(6.4, 2.6), layout="constrained")
        axis = figure.subplots()
        axis.plot(steps, loss, color="#0072b2", alpha=0.25, linewidth=0.8)
        axis.plot(steps[width - 1 :], mean, color="#0072b2", linewidth=1.8)
        axis.set(xlabel="step", ylabel="loss", xlim=(0, steps[-1]), ylim=(0, np.percentile(loss, 99.5)))
        axis.set_title(str(data["model"]), loc="left")
        with write_errors(path), atomic_path(path) as temporary:
            figure.savefig(
                temporary, format=path.suffix[1:], metadata={"Date": None} if path.suffix == ".svg" else None
            )
