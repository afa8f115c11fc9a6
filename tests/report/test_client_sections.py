"""The matrix of other software: errors, faults in bold, messages by number."""

import pytest

from dpt_deploy.report.client_sections import CLIENT_KINDS
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

RIGHT = {"client": "opencv", "version": "5.0", "file": "a-fp32", "verdict": "right", "mean": 1e-6, "max": 2e-6}
WRONG = {**RIGHT, "file": "a-int8", "verdict": "wrong", "mean": 0.25}
FAILS = {"client": "tract", "version": "0.23", "file": "a-int8", "verdict": "fails", "message": "no such thing"}
PIPELINE = {**RIGHT, "client": "transformers", "model": "a", "mean": 0.05, "max": 0.26}


def shown(*rows):
    data = {"processor": "Fake", "limits": {"int8": 0.03}, "rows": list(rows)}
    return CLIENT_KINDS["clients"].show(Result("clients.json", data), "results")


def test_a_fault_is_bold_and_a_failure_has_its_message():
    text = shown(RIGHT, WRONG, FAILS)
    assert "| a-fp32 | 1.0e-06 |  |" in text
    assert "| a-int8 | **2.5e-01** | fails (1) |" in text
    assert "1. `no such thing`" in text
    assert "above 0.03 in int8" in text


def test_the_pipeline_has_a_line_of_its_own():
    text = shown(RIGHT, PIPELINE)
    assert "a by 5.0e-02 in the mean and 2.6e-01 at most" in text
    assert "transformers" not in text.partition("| file |")[2].partition("\n")[0]
    assert "transformers" not in shown(RIGHT)


TOOL = {"tool": "a slimmer", "typed": "slim FILE", "version": "2", "file": "a-fp32", "verdict": "right", "mean": 1e-6}


def tools(*rows):
    data = {"processor": "Fake", "limits": {}, "rows": list(rows)}
    return CLIENT_KINDS["third-party"].show(Result("third-party.json", data), "results")


def test_tools_are_right_wrong_or_fail_with_their_message():
    checks = {**TOOL, "tool": "a lint", "typed": "lint FILE", "verdict": "works"}
    fails = {**checks, "file": "a-int8", "verdict": "fails", "message": "no such type"}
    text = tools(TOOL, {**TOOL, "file": "a-int8", "verdict": "wrong", "mean": 0.25}, checks, fails)
    assert "| a slimmer 2 | `slim FILE` | right | **wrong** (2.5e-01) |" in text
    assert "| a lint 2 | `lint FILE` | works | fails (1) |" in text
    assert "1. `no such type`" in text
    assert "fails" not in tools(TOOL)
