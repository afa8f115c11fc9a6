"""Exports at full size: numbers in their cells, refusals with their message."""

import pytest
from support import latency

from dpt_deploy.report.full_size_sections import FULL_SIZE_KINDS
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

SECTION = FULL_SIZE_KINDS["full-sizes"]
DONE = {"done": True, "seconds": 300.0, "processor_seconds": 61.4, "peak_bytes": 2_500_000_000}
REFUSED = {"done": False, "seconds": 1.0, "peak_bytes": 1, "message": "error: two outputs", "size": "504"}
ROW = {
    "network": "da2-base",
    "account": "written down",
    "keys": 234,
    "checkpoint_bytes": 390_000_000,
    "export": DONE,
    "exported": {"max": 2e-6, "mean": 1e-7},
    "verify": DONE,
    "size": "28",
    "engine": {**DONE, "size": "518"},
}


def result(*rows):
    data = {"environment": latency.result()["environment"], "recorded": "2030-01-02T00:00:00", "rows": list(rows)}
    return Result("full-sizes.json", data)


def test_numbers_are_in_their_cells():
    text = SECTION.show(result(ROW), "results")
    cells = "234 tensors, 0.39 GB | the authors' code | 61 s | 2.50 GB | 2.0e-06 | passes at 28 | built at 518"
    assert f"| da2-base | {cells} |" in text
    assert "have learned nothing" in text


def test_a_refusal_has_its_message_once():
    rows = [{**ROW, "engine": REFUSED}, {**ROW, "network": "other", "export": REFUSED}]
    text = SECTION.show(result(*rows), "results")
    assert "passes at 28 | refused (1) |" in text
    assert "| other | 234 tensors, 0.39 GB | the authors' code | refused (1) |" in text
    assert text.count("two outputs") == 1
    assert SECTION.compare([result(ROW, *rows)]) == "TensorRT-RTX, without a GPU, built 2 of 3: da2-base, other.\n"


def test_a_row_says_whose_keys_it_has():
    old = {key: value for key, value in ROW.items() if key != "account"}
    assert "our key map" not in SECTION.show(result(ROW), "results")
    text = SECTION.show(result(ROW, old, {**ROW, "account": "transformers"}), "results")
    assert text.count("| the authors' code |") == text.count("| our key map |") == text.count("| transformers |") == 1
    assert "nothing about the map" in text


def test_a_network_without_a_checkpoint_says_so():
    text = SECTION.show(result({**ROW, "account": "random", "keys": 0, "checkpoint_bytes": 0}), "results")
    assert "| da2-base | none | no file | 61 s |" in text


def test_the_only_size_is_not_called_another_one():
    text = SECTION.show(result({**ROW, "size": "224", "only_size": True}), "results")
    assert "| none: 224 is the only one, passes with a batch of 2 |" in text
    assert "| the same, 518, passes with a batch of 2 |" in SECTION.show(result({**ROW, "size": "518"}), "results")
