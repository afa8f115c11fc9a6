"""Peak memory comes from a process of its own, and what becomes of that process is said."""

from __future__ import annotations

import sys

import pytest

from dpt_deploy.measure import memory
from dpt_deploy.measure.memory import ChildError, Gauge, ask

pytestmark = pytest.mark.fast

CHILD = "support.faults.measuring"
FATES = {
    "killed": "was killed (SIGKILL): out of memory?",
    "crashed": "was ended by signal 11",
    "failed": "failed with MemoryError: no room for the weights",
    "left": "failed with exit code 3",
    "no object": "printed no result",
}


def test_a_process_answers_what_it_was_asked():
    assert ask(CHILD, {"fate": "fine", "size": "64x96"}) == {"fate": "fine", "size": "64x96"}


@pytest.mark.parametrize(("fate", "said"), FATES.items(), ids=FATES)
def test_a_process_that_comes_to_grief_is_reported(fate, said):
    with pytest.raises(ChildError) as caught:
        ask(CHILD, {"fate": fate})
    assert said in str(caught.value)


def test_a_module_that_is_not_there_is_reported():
    with pytest.raises(ChildError, match="No module named 'absent'"):
        ask("absent", {})


def test_an_interpreter_that_is_not_there_is_reported(monkeypatch):
    monkeypatch.setattr(memory.sys, "executable", "/absent/python")
    with pytest.raises(ChildError, match="cannot be started: No such file"):
        ask(CHILD, {"fate": "fine"})


@pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
def test_the_gauge_counts_the_peak_after_it_was_set_and_nothing_from_before():
    found = ask(CHILD, {"fate": "gauged", "megabytes": 60})
    assert found["exact"] is True
    assert 59 << 20 < found["bytes"] < 80 << 20  # not the 200 from before


def test_a_mark_that_cannot_be_reset_makes_a_lower_bound(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CLEAR", tmp_path / "absent" / "clear_refs")
    gauge = Gauge()
    assert gauge.exact is False
    assert gauge.read() >= 0


def test_without_proc_the_system_is_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", tmp_path / "absent")
    assert memory._peak_bytes() > 10 << 20  # Python alone takes that
