"""No exception leaves a callback, and an interruption is raised after the library has returned."""

import signal
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from support.reporting import recording

from dpt_deploy.engine import callbacks
from dpt_deploy.engine.callbacks import Messages, progress_monitor
from dpt_deploy.engine.compat import Edition

pytestmark = pytest.mark.fast


class Logger:
    """The base of a logger, with the severities as the library orders them: the worst is the smallest."""

    ERROR, INFO = 1, 3


@pytest.fixture
def edition(monkeypatch):
    """An edition whose interfaces are plain classes."""
    module = SimpleNamespace(__version__="10.14.1.48", IProgressMonitor=object, ILogger=Logger)
    monkeypatch.setattr(callbacks, "import_module", lambda _library: module)
    callbacks._logger.cache_clear()
    yield Edition(module, "tensorrt", (10, 14))
    callbacks._logger.cache_clear()


def test_each_phase_is_a_task(edition):
    with recording() as reporter, Messages(edition) as messages:
        watched = progress_monitor(edition, messages)
        watched.phase_start("Building", None, 2)
        watched.phase_start("Tactics", "Building", 5)
        assert watched.step_complete("Building", 0)
        assert not any(phase.closed for phase in reporter.tasks)
        watched.phase_finish("Tactics")
        watched.phase_finish("Building")
    assert [(phase.name, phase.total, phase.done) for phase in reporter.tasks] == [
        ("Building", 2, 1),
        ("Tactics", 5, 0),
    ]
    assert all(phase.closed for phase in reporter.tasks)


def test_phases_are_reported_from_threads_of_the_library(edition):
    with recording() as reporter, Messages(edition) as messages:
        watched = progress_monitor(edition, messages)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(watched.phase_start, "Building", None, 2).result()
            assert pool.submit(watched.step_complete, "Building", 0).result()
    assert [(phase.name, phase.done) for phase in reporter.tasks] == [("Building", 1)]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("full")], ids=["interruption", "error"])
def test_an_exception_of_the_reporter_ends_the_build_and_does_not_pass_through_the_library(error, edition):
    def fail(_phase):
        raise error

    with recording(fail) as reporter, Messages(edition) as messages:
        watched = progress_monitor(edition, messages)
        watched.phase_start("Building", None, 2)
        assert not watched.step_complete("Building", 0)
        watched.phases.close()
    assert watched.phases.failure is error
    assert reporter.tasks[0].closed


def test_errors_are_kept_and_other_messages_are_not(edition):
    with Messages(edition) as messages:
        messages.logger.log(Logger.INFO, "a hint")
        messages.logger.log(Logger.ERROR, "out of   memory")
    assert messages.errors == ["out of memory"]
    assert messages.out_of_memory


CALLS = {
    "a message": lambda messages, _monitor: messages.logger.log(Logger.INFO, "a hint"),
    "the start of a phase": lambda _messages, monitor: monitor.phase_start("Building", None, 2),
    "a step": lambda _messages, monitor: monitor.step_complete("Building", 0),
    "the end of a phase": lambda _messages, monitor: monitor.phase_finish("Building"),
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_signal_in_any_callback_is_raised_after_the_library_has_returned(call, number, edition):
    going_on = []

    def build():
        with Messages(edition) as messages:
            monitor = progress_monitor(edition, messages)
            signal.raise_signal(number)  # Python runs the handler at its next instruction, as in a callback
            call(messages, monitor)
            going_on.append(monitor.step_complete("Building", 1))

    former = signal.signal(number, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build()
    finally:
        signal.signal(number, former)
    assert going_on == [False]
