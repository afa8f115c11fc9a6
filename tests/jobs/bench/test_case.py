"""One size of a benchmark: what is open while something is timed, and in which order it was opened."""

import time
from contextlib import contextmanager

import pytest
from support.tiny import exported

from dpt_deploy.core.size import Size
from dpt_deploy.jobs.bench import case
from dpt_deploy.jobs.bench.case import BenchSetup, measure_case
from dpt_deploy.jobs.bench.request import BenchRequest
from dpt_deploy.measure import ceiling
from dpt_deploy.measure.timing import TimedCall

SIZE = Size(64, 64)
SLOW = 0.005  # seconds


@pytest.fixture
def log(monkeypatch):
    """Openings and closings in order; of the candidates that are open, the first is slow."""
    found, opened, alone = [], [], case.time_alone

    @contextmanager
    def enter(name, *_args):
        opened.append(name)
        found.append(f"open {name}")
        seconds = SLOW if len(opened) == 1 else 0.0
        yield TimedCall(lambda: time.sleep(seconds), lambda: None)
        found.append(f"close {name}")
        opened.remove(name)

    monkeypatch.setattr(ceiling, "SIDE", 16)
    monkeypatch.setattr(case.table, "enter", enter)
    monkeypatch.setattr(case, "time_alone", lambda calls: found.append("products") or alone(calls))
    return found


def measured(*names, device="cpu", rounds=8):
    artifact = exported("tiny-vit")
    request = BenchRequest((SIZE,), candidates=names, rounds=rounds)
    return measure_case(BenchSetup(artifact, artifact, request, None, device), SIZE, 1)


def test_candidates_are_opened_in_both_orders_and_none_before_the_products(log):
    found = measured("ort", "openvino")
    first, second = (["open ort", "open openvino"], ["open openvino", "open ort"])
    closed = [[each.replace("open ", "close ") for each in order[::-1]] for order in (first, second)]
    assert log == ["products", *first, *closed[0], *second, *closed[1]]
    assert found.session.rounds == 8


def test_the_one_that_is_opened_first_has_no_disadvantage(log):
    timings = [measured("ort", "openvino").candidate(name).seconds for name in ("ort", "openvino")]
    slow = [(seconds > SLOW).sum() for seconds in timings]
    assert slow == [4, 4]


def test_an_odd_number_of_rounds_is_halved_and_rounded_up(log):
    assert measured("ort", "openvino", rounds=9).session.rounds == 10


@pytest.mark.parametrize(
    ("names", "device"), [(("ort",), "cpu"), (("ort", "openvino"), "cuda")], ids=["a single candidate", "on a GPU"]
)
def test_there_is_one_order(names, device, log, monkeypatch):
    monkeypatch.setattr(case, "products", lambda *_args: contextmanager(lambda: iter([{}]))())
    assert measured(*names, device=device).session.rounds == 8
    assert log.count("open ort") == 1
