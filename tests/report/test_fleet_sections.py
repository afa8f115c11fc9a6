"""A server under load and archives on the page."""

import pytest

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.report.benchmark_page import render
from dpt_deploy.report.sections import Result

pytestmark = pytest.mark.fast

MACHINE = {"processor": "a processor", "cores": 2, "gpus": [], "tools": {}}
LEVEL = {"concurrency": 8, "requests": 90, "wrong": 1, "failed": 2, "requests_per_second": 9.5, "p50_ms": 80.4}
SERVING = {
    "kind": "serving",
    "recorded": "2026-01-01T00:00:00",
    "protocol": "closed loop",
    "sizes": ["64"],
    "environment": MACHINE,
    "one_instance": [LEVEL | {"p99_ms": 2600.0}],
    "two_instances": [],
    "one_instance_bounded_queue": [],
    "private_memory_bytes": [3e8, 3.1e8],
    "shared_memory_files": [3, 3],
}
RUN = {"start_s": 2.04, "images_per_second": 50.0, "times_run": 1.0, "times_run_range": [1.0, 1.0]}
RAY = {"start_s": 9.0, "images_per_second": 25.0, "times_run": 2.5, "times_run_range": [2.25, 2.75]}
ARCHIVES = {
    "kind": "archives",
    "recorded": "2026-01-01T00:00:00",
    "environment": MACHINE,
    "ray": "2.99",
    "load_average_before": [0.1, 0.2, 0.3],
    "turns": 3,
    "names": ["run", "ray"],
    "models": {"tiny-fp32": {"images": 120, "commands": {"run": RUN, "ray": RAY}}},
}


def page(data):
    return render([Result("result.json", data)]).text


def test_a_server_has_a_line_for_each_number_of_clients():
    text = page(SERVING)
    assert "| one instance | 8 | 9.5 | 80 ms | 2600 ms | 90 | 3 |" in text
    assert "300 MB before, 310 MB after; regions of shared memory: 3 and 3" in text


def test_an_archive_has_a_line_for_each_command():
    text = page(ARCHIVES)
    assert "| tiny-fp32 | 120 | run | 2.0 s | 50.0 | - |" in text
    assert "| tiny-fp32 | 120 | ray | 9.0 s | 25.0 | 2.50 (2.25 to 2.75) |" in text


def test_a_result_without_a_key_of_its_kind_is_an_error():
    with pytest.raises(BadFileError, match="one_instance"):
        page({key: value for key, value in SERVING.items() if key != "one_instance"})
