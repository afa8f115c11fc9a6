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


def recorded(name):
    return json.loads((RESULTS / f"attack-study-{name}.json").read_text("utf-8"))


def of_one_file(document):
    """The same study of the FP32 file alone, which has no other file to differ from."""
    return document | {"extras": [], **{key: document[key][:1] for key in ("subjects", "summary")}}


@pytest.mark.parametrize(
    ("document", "panels"),
    [(of_one_file(recorded("tiny-both-labels-20261130")), 1), (recorded("tiny-flip-20261129"), 2)],
    ids=["one file", "two files"],
)
def test_title_and_rows_are_inside(document, panels):
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
