"""Messages and progress go to one reporter, the one of the current context."""

import contextvars
import threading

import pytest
from support.reporting import RecordingReporter, recording

from dpt_deploy.core.progress import SILENT, LineReporter, current_reporter, progress, reporting, say

pytestmark = pytest.mark.fast


def test_reporting_is_silent_by_default(capfd):
    assert current_reporter() is SILENT
    say("nobody listens")
    with progress("work", 2) as work:
        work.advance()
        work.update(done=2, total=3, item="the last")
    assert capfd.readouterr() == ("", "")


def test_the_reporter_receives_lines_and_tasks():
    with recording() as found:
        say("begun")
        say("key by key", detail=True)
        with progress("images", unit="steps") as images:
            images.update(total=3)
            images.advance(item="a.jpg")
            images.advance(2)
    assert (found.lines, found.details) == (["begun"], ["key by key"])
    (task,) = found.tasks
    assert (task.name, task.unit, task.closed) == ("images", "steps", True)
    assert task.states == [(0, 3, None), (1, 3, "a.jpg"), (3, 3, "a.jpg")]


def test_the_inner_reporter_replaces_the_outer_one_and_gives_way_again():
    with recording() as outer:
        say("one")
        with recording() as inner:
            say("two")
        say("three")
    assert (outer.lines, inner.lines) == (["one", "three"], ["two"])
    assert current_reporter() is SILENT


def test_lines_go_to_standard_error(capsys):
    with reporting(LineReporter()), progress("work", 1) as work:
        say("begun")
        say("key by key", detail=True)
        work.advance()
    assert capsys.readouterr() == ("", "begun\n")


def test_an_inner_silence_hides_what_a_job_calls():
    with recording() as outer, reporting(SILENT):
        say("hidden")
    assert outer.lines == []


def test_the_previous_reporter_is_restored_after_an_exception():
    def fails():
        with reporting(RecordingReporter()):
            raise ValueError

    with recording() as outer:
        with pytest.raises(ValueError):  # noqa: PT011  raised above
            fails()
        say("still here")
    assert outer.lines == ["still here"]
    assert current_reporter() is SILENT


def test_a_task_is_closed_after_an_exception():
    with recording() as found, pytest.raises(KeyboardInterrupt), progress("work"):
        raise KeyboardInterrupt
    assert found.tasks[0].closed


def test_nested_tasks_are_closed_inside_out():
    closed = []
    with recording() as found, progress("outer"), progress("inner"):
        for task in found.tasks:
            task.close = lambda name=task.name: closed.append(name)
    assert closed == ["inner", "outer"]


def test_interleaved_contexts_keep_their_own_reporter():
    found = {}

    def job(name):
        with recording() as found[name]:
            for step in range(3):
                say(f"{name} {step}")
                yield

    contexts = [(contextvars.copy_context(), job(name)) for name in ("a", "b")]
    for _ in range(3):
        for context, steps in contexts:
            context.run(next, steps)
    for context, steps in contexts:
        context.run(next, steps, None)
    assert {name: reporter.lines for name, reporter in found.items()} == {
        name: [f"{name} {step}" for step in range(3)] for name in ("a", "b")
    }
    assert current_reporter() is SILENT


def test_a_thread_reports_only_through_a_reporter_that_was_taken_along():
    with recording() as found:
        mine = current_reporter()

        def other():
            say("lost")
            mine.say("kept")

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert found.lines == ["kept"]
