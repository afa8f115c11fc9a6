"""The figure of a study of conditions: its words and its rows lie inside it, with one panel and with two."""

import json

import pytest
from support.paths import ROOT

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[study]'")

from matplotlib import rc_context

from dpt_deploy.report.figures import robustness_figure

RESULTS = ROOT / "benchmarks" / "results"


def title_ends(figure):
    """Left and right end of the title, as shares of the figure's width."""
    figure.canvas.draw()
    box = figure._suptitle.get_window_extent()
    return box.x0 / figure.bbox.width, box.x1 / figure.bbox.width


@pytest.mark.parametrize(("name", "panels"), [("tiny-both-labels", 1), ("tiny-flip", 2)])
def test_title_and_rows_are_inside(name, panels):
    document = json.loads((RESULTS / f"attack-study-{name}-20261129.json").read_text("utf-8"))
    with rc_context(robustness_figure._STYLE):
        figure = robustness_figure._figure(document)
        assert len(figure.axes) == panels
        left, right = title_ends(figure)
        assert 0 < left < right < 1
        for axes in figure.axes:
            low, high = axes.get_ylim()
            assert all(low + 0.4 < row < high - 0.4 for row in axes.get_yticks())
        if panels == 1:  # on one line it would be cut
            figure.suptitle(figure._suptitle.get_text().replace("\n", " "), x=0.01, ha="left", fontsize=11)
            assert title_ends(figure)[1] > 1
