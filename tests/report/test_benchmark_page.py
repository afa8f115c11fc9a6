"""Recorded results become one page; what is not known is linked, what is damaged is named."""

from __future__ import annotations

import json

import pytest
from support import latency

from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.report import sections as report_sections
from dpt_deploy.report.benchmark_page import KINDS, kind_of, read_results, render, write_benchmark_page
from dpt_deploy.report.sections import Result, Section, markdown

pytestmark = pytest.mark.fast

EXPORT = {
    "model": "large-fp32",
    "weights_bytes": 1_000_000_000,
    "peak_bytes": 2_500_000_000,
    "peak_over_weights": 2.5,
    "seconds": 61.4,
    "tools": {"torch": "2.99.0"},
}


def shown(**results):
    return render([Result(name.replace("_", "-") + ".json", data) for name, data in results.items()]).text


def test_every_kind_has_its_section_and_every_result_its_file():
    page = shown(export_memory_large_20300102=EXPORT, latency_tiny=latency.result())
    assert page.index("## Latency") < page.index("## Memory of an export")
    assert "some cpu, 2 cores, torch 2.99.0, onnxruntime 1.99.0; 2030-01-02" in page
    assert "random, seed 0: it has learned nothing" in page
    assert "| 192 | ort | 1000 | 900 to 1100 | 1200 | 1300 | 40 | 1.00 | 500 MB | 50 % | - |" in page
    assert "| large-fp32 | 1.00 GB | 2.50 GB | 2.50 | 61 s | 2.99.0 | 2030-01-02 |" in page
    assert "(results/latency-tiny.json)" in page
    assert "(results/latency-tiny.svg)" in page


def test_a_changed_number_changes_the_page():
    changed = latency.result()
    changed["rows"][0]["p50_ms"] += 5
    assert shown(latency_tiny=changed) != shown(latency_tiny=latency.result())


def test_the_same_results_give_the_same_page_and_leave_no_kind_out():
    data = {"latency_a": latency.result(), "latency_b": latency.result(sizes=("64",))}
    assert shown(**data) == shown(**data)
    assert render([]).text.startswith("# Benchmark report")


def test_an_unknown_kind_is_linked_and_nothing_more():
    page = shown(latency_tiny=latency.result(), unheard_of={"kind": "unheard"}, notes={"secret": 1})
    assert "## Other results\n\n- [unheard-of.json](results/unheard-of.json)\n- [notes.json]" in page
    assert "secret" not in page


def test_a_new_kind_takes_one_entry(monkeypatch):
    section = Section("Training", "By the paper's recipe.", lambda result, folder: f"loss {result.data['loss']}\n")
    monkeypatch.setitem(KINDS, "secret", section)
    assert "## Training\n\nBy the paper's recipe.\n\nloss 3" in shown(secret_base={"loss": 3})


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("latency-x.json", {}, "latency"),
        ("export-memory-x.json", {}, "export-memory"),
        ("x.json", {"kind": "latency"}, "latency"),
        ("latency-x.json", {"kind": "dream"}, None),
        ("latencies.json", {}, None),
    ],
)
def test_the_kind_is_what_a_result_says_else_what_its_name_begins_with(name, data, kind):
    assert kind_of(Result(name, data)) == kind


BROKEN = {
    "no rows": lambda data: data.pop("rows"),
    "a row without time": lambda data: data["rows"][0].pop("p50_ms"),
    "a time of text": lambda data: data["rows"][0].update(p50_ms="fast"),
    "rows of text": lambda data: data.update(rows="none"),
    "no machine": lambda data: data.update(environment=[]),
    "no time at all": lambda data: data["end_to_end_ms"].update({"64": {"model": 0.0}}),
}


@pytest.mark.parametrize("spoil", BROKEN.values(), ids=BROKEN)
def test_a_result_that_lacks_something_is_named(spoil):
    data = latency.result()
    spoil(data)
    with pytest.raises(BadFileError, match=r"latency-tiny\.json lacks a key of its kind 'latency'"):
        shown(latency_tiny=data)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000, "7"], ids=["empty", "list", "cut", "deep", "number"])
def test_a_file_that_is_no_result_is_named(text, tmp_path):
    (tmp_path / "latency-x.json").write_text(text)
    with pytest.raises(BadFileError, match=r"latency-x\.json"):
        read_results(tmp_path)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(BadFileError, match="is not a folder of results"):
        read_results(tmp_path / "absent")


def test_a_bar_in_a_cell_does_not_cut_it():
    table = report_sections.TextTable(("a", "b"), (("x|y", "1"),))
    assert markdown(table) == "| a | b |\n| --- | ---: |\n| x/y | 1 |\n"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Results of a kind whose pictures cost nothing."""
    drawn = []

    def draw(data, path):
        drawn.append(path.name)
        path.write_text("picture")

    monkeypatch.setitem(KINDS, "latency", Section("Latency", "x", lambda _result, _folder: "shown\n", draw))
    (tmp_path / "results").mkdir()
    for name in ("latency-a", "latency-b", "other"):
        (tmp_path / "results" / f"{name}.json").write_text(json.dumps({}))
    (tmp_path / "results" / "latency-b.svg").write_text("old picture")
    return tmp_path, drawn


@pytest.mark.parametrize(
    ("redraw", "expected"), [(False, ["latency-a.svg"]), (True, ["latency-a.svg", "latency-b.svg"])]
)
def test_pictures_that_are_there_stay_unless_asked(redraw, expected, folder):
    where, drawn = folder
    written = write_benchmark_page(where / "results", where / "REPORT.md", redraw=redraw)
    assert drawn == expected
    assert [path.name for path in written] == [*expected, "REPORT.md"]
    assert (where / "REPORT.md").read_text() == render(read_results(where / "results")).text


def test_a_page_that_cannot_be_written_is_reported(folder):
    where, _ = folder
    with pytest.raises(ResourceError, match="cannot write"):
        write_benchmark_page(where / "results", where / "absent" / "REPORT.md")
    with pytest.raises(UsageError, match="not a regular file"):
        write_benchmark_page(where / "results", where)
