"""The files in ``benchmarks/`` agree: the page with the results, the pictures with the page."""

import copy
from pathlib import Path

import pytest

from dpt_deploy.jobs.bench.baseline import read_baseline
from dpt_deploy.report.benchmark_page import kind_of, read_results, render
from dpt_deploy.report.sections import Result

ROOT = Path(__file__).parents[2] / "benchmarks"
RESULTS = read_results(ROOT / "results")
LATENCY = [result for result in RESULTS if kind_of(result) == "latency"]


def stale(page, results):
    """Return True if a page is not the one that these results make."""
    return page != render(results).text


def test_the_page_is_made_from_the_results_that_lie_there():
    assert not stale((ROOT / "REPORT.md").read_text(), RESULTS), "run: python benchmarks/report.py"


def test_every_picture_of_the_page_is_there_and_none_of_a_result_that_is_gone():
    there = {path.name for path in (ROOT / "results").glob("*.svg")}
    assert set(render(RESULTS).pictures) <= there
    assert {name for name in there if name.startswith("latency-")} <= {result.picture for result in LATENCY}


def tampered(change):
    """The results with one latency result changed."""
    data = copy.deepcopy(LATENCY[0].data)
    change(data)
    return [Result(result.name, data) if result is LATENCY[0] else result for result in RESULTS]


TAMPERED = {
    "a time": lambda data: data["rows"][0].update(dict.fromkeys(("p50_ms", "median_ms"), 1.0)),
    "a ratio": lambda data: next(row for row in data["rows"] if row["times_slower_than_ort"]).update(
        times_slower_than_ort=[9.0, 8.0, 10.0]
    ),
    "the weights": lambda data: data.update(weights="trained.pt"),
    "the machine": lambda data: data["environment"].update(cores=512),
    "a row less": lambda data: data["rows"].pop(),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_a_tampered_result_makes_the_page_stale(change):
    assert stale((ROOT / "REPORT.md").read_text(), tampered(change))


def test_a_result_more_or_less_makes_the_page_stale():
    page = (ROOT / "REPORT.md").read_text()
    assert stale(page, RESULTS[1:])
    assert stale(page, [*RESULTS, Result("secret-x.json", {})])


@pytest.mark.parametrize("result", LATENCY, ids=lambda result: result.name)
def test_a_committed_run_serves_as_a_baseline(result):
    baseline = read_baseline(ROOT / "results" / result.name)
    assert baseline.model == result.data["model"]
    assert baseline.ratios
