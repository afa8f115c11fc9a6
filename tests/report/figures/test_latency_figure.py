"""A benchmark drawn from plain data: every form, the same bytes for the same result, and names that do not touch."""

import copy
import itertools
import re
import sys

import pytest
from support import latency

pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[study]'")

from matplotlib.figure import Figure

from dpt_deploy.core.errors import MissingExtraError, ResourceError, UsageError
from dpt_deploy.report.figures import latency_figure as latency_plot
from dpt_deploy.report.figures.bench_plot import check_plot, plot_result
from dpt_deploy.report.figures.latency_figure import draw_latency

PANELS = {"latency": "Latency [ms]", "arithmetic": "Time for a unit of arithmetic", "memory": "Peak memory [MB]"}


def drawn(data, folder):
    """The words of the picture, in its SVG."""
    draw_latency(data, folder / "x.svg")
    return " ".join(re.findall(r"<text[^>]*>([^<]*)<", (folder / "x.svg").read_text()))


def without_memory(data):
    data = copy.deepcopy(data)
    for row in data["rows"]:
        row["memory"] = None
    return data


SHOWN = {
    "sizes": (latency.result(), {"latency", "arithmetic", "memory"}),
    "sizes, no memory": (without_memory(latency.result()), {"latency", "arithmetic"}),
    "one size": (latency.result(sizes=("64",)), {"latency", "memory"}),
    "one size, no memory": (without_memory(latency.result(sizes=("64",))), {"latency"}),
    "batches": (latency.result(batches=(1, 4)), {"latency", "arithmetic", "memory"}),
}


@pytest.mark.parametrize(("data", "panels"), SHOWN.values(), ids=SHOWN)
def test_the_picture_shows_what_was_measured(data, panels, tmp_path):
    words = drawn(data, tmp_path)
    long = max(row["p50_ms"] for row in data["rows"]) > 3000
    titles = {**PANELS, "latency": "Latency [s]"} if long else PANELS
    assert {name for name, title in titles.items() if title in words} == panels
    assert "dpt-deploy, ONNX Runtime" in words
    assert "some cpu, 2 cores, torch 2.99.0" in words
    assert "it has learned nothing" in words
    assert ("batch 4" in words) == any(row["batch"] == 4 for row in data["rows"])


def test_a_failed_measurement_of_memory_leaves_a_gap(tmp_path):
    data = latency.result()
    data["rows"][0]["memory"] = {"peak_bytes": None, "error": "killed"}
    for row in data["rows"]:
        if row["contender"] == "hf-ort":
            row["memory"] = {"peak_bytes": None, "error": "killed"}
    assert PANELS["memory"] in drawn(data, tmp_path)


def test_the_same_result_is_the_same_picture_and_another_is_not(tmp_path):
    changed = latency.result()
    changed["rows"][0]["p50_ms"] *= 1.05
    for name, data in (("a", latency.result()), ("b", latency.result()), ("c", changed)):
        draw_latency(data, tmp_path / f"{name}.svg")
    first, second, third = ((tmp_path / f"{name}.svg").read_bytes() for name in "abc")
    assert first == second
    assert first != third


@pytest.mark.parametrize(("suffix", "begins"), [(".png", b"\x89PNG"), (".pdf", b"%PDF"), (".SVG", b"<?xml")])
def test_the_suffix_names_the_form(suffix, begins, tmp_path):
    plot_result(latency.result(), tmp_path / "new" / f"x{suffix}")
    assert (tmp_path / "new" / f"x{suffix}").read_bytes().startswith(begins)
    assert len(list((tmp_path / "new").iterdir())) == 1


@pytest.mark.parametrize("name", ["x.jpg", "x", "folder.svg"])
def test_what_is_no_picture_is_refused(name, tmp_path):
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(UsageError, match="is not a picture file"):
        check_plot(tmp_path / name)


def test_a_folder_that_cannot_be_written_is_refused_before_drawing(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises((ResourceError, UsageError)):
        check_plot(tmp_path / "file" / "x.svg")


def test_without_matplotlib_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.delitem(sys.modules, "dpt_deploy.report.figures.latency_figure")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="drawing needs the module 'matplotlib'") as caught:
        check_plot(tmp_path / "x.svg")
    assert ".[study]" in caught.value.hint


@pytest.mark.parametrize(
    "places", [[0.1, 0.5, 0.9], [0.5, 0.5, 0.5], [0.98, 0.99, 1.0], [0.0, 0.0, 0.01], [0.3, 0.31, 0.99]], ids=str
)
def test_names_are_apart_and_within_the_panel(places):
    found = latency_plot._apart(places)
    gaps = [second - first for first, second in itertools.pairwise(found)]
    assert min(gaps) >= latency_plot._GAP - 1e-9
    assert 0 <= found[0] <= found[-1] <= 1


def test_names_that_do_not_touch_stay_where_they_belong():
    assert latency_plot._apart([0.1, 0.5, 0.9]) == [0.1, 0.5, 0.9]


@pytest.mark.parametrize("weights", ["tiny.safetensors", "random, seed 0: it has learned nothing, " * 3])
def test_the_subtitle_stays_inside_the_picture(weights, tmp_path, monkeypatch):
    right = []
    save = Figure.savefig

    def saved(figure, *args, **options):
        save(figure, *args, **options)
        right.extend(text.get_window_extent().x1 / figure.bbox.width for text in figure.texts)

    monkeypatch.setattr(Figure, "savefig", saved)
    draw_latency({**without_memory(latency.result(sizes=("64",))), "weights": weights}, tmp_path / "a.svg")
    assert max(right) <= 1.0
