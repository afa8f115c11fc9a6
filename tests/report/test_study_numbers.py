"""Names in study.csv cannot be formulas."""

import pytest

from dpt_deploy.report.study_numbers import csv_cell

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_a_formula_becomes_text(start):
    assert csv_cell(f"{start}cmd|' /C calc'!A0").startswith("'")
    assert csv_cell(f"a{start}b") == f"a{start}b"
