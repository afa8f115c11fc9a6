"""The C++ runtime's results on the page."""

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

NATIVE = {
    "kind": "native",
    "processor": "a processor",
    "threads": 1,
    "tools": {"onnxruntime": "1.99"},
    "start_to_first_result_s": {"python": 0.75, "cpp": 0.35},
    "models": [
        {
            "model": "tiny-fp32",
            "rounds": 7,
            "equal_in_every_bit": True,
            "end_to_end_python_over_cpp": [1.4, 1.39, 1.41],
            "model_cpp_over_python": [0.98, 0.97, 0.99],
            "cpp_share_around_the_model": 0.077,
        }
    ],
}


def parity(case):
    model = {"model": "m", "task": "depth", "weights": {"kind": "random"}, "photographs": [case, case]}
    return {"kind": "native-parity", "processor": "a processor", "threads": 1, "models": [model]}


def page(data):
    return render([Result("result.json", data)]).text


def test_speed_is_shown_as_throughput_and_start():
    shown = page(NATIVE)
    assert "tiny-fp32: full-HD throughput is 1.40 (1.39 to 1.41) times Python's." in shown
    assert "A cold start to the first written map takes 0.35 s (Python: 0.75 s) with tiny-fp32." in shown
    assert "| tiny-fp32 | 7 | 1.40 (1.39 to 1.41) | 0.98 (0.97 to 0.99) | 7.7 % | bit for bit equal |" in shown


@pytest.mark.parametrize(
    ("case", "shown"),
    [
        ({"max_of_range": 0.0, "equal_in_every_bit": True}, "none: equal bit for bit"),
        ({"max_of_range": 2e-7, "equal_in_every_bit": False}, "2.0e-07 of the range"),
        ({"equal_labels": 0.9999}, "99.99 % of labels equal"),
    ],
)
def test_parity_is_shown_by_model(case, shown):
    assert f"| m | depth | 2 | random | {shown} |" in page(parity(case))


def test_a_result_without_models_is_named():
    with pytest.raises(BadFileError, match="lacks a key of its kind"):
        page({**NATIVE, "models": []})
