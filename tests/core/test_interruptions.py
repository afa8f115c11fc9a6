"""Interruptions wait for the end of a block, and are not lost."""

import signal
import threading

import pytest

from dpt_deploy.core.interruptions import DeferredInterruptions

pytestmark = pytest.mark.fast


@pytest.fixture(params=[signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def number(request):
    """A signal that raises KeyboardInterrupt, as in the program."""
    former = signal.signal(request.param, signal.default_int_handler)
    yield request.param
    signal.signal(request.param, former)


def test_without_a_block_a_signal_interrupts_at_once(number):
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(number)


def test_a_signal_waits_for_the_end_of_the_block(number):
    arrived = []

    def work():
        with DeferredInterruptions() as interruptions:
            arrived.append(interruptions.arrived)
            signal.raise_signal(number)
            arrived.append(interruptions.arrived)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert arrived == [False, True]
    assert signal.getsignal(number) is signal.default_int_handler


def test_blocks_nest(number):
    arrived = []

    def work():
        with DeferredInterruptions() as outer:
            with DeferredInterruptions():
                signal.raise_signal(number)
            arrived.append(outer.arrived)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert arrived == [True]


def test_an_interruption_is_raised_even_if_the_block_fails(number):
    def work():
        with DeferredInterruptions():
            signal.raise_signal(number)
            raise ValueError("cancelled")

    with pytest.raises(KeyboardInterrupt) as caught:
        work()
    assert isinstance(caught.value.__context__, ValueError)


def test_without_a_signal_nothing_is_raised(number):
    with DeferredInterruptions() as interruptions:
        pass
    assert not interruptions.arrived
    assert signal.getsignal(number) is signal.default_int_handler


@pytest.mark.parametrize("handler", [signal.SIG_IGN, signal.SIG_DFL], ids=["ignored", "default"])
def test_ignored_signals_and_those_that_end_the_process_keep_their_handlers(handler):
    former = signal.signal(signal.SIGTERM, handler)
    try:
        with DeferredInterruptions():
            assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, former)


def test_other_threads_are_left_alone():
    found = []

    def work():
        with DeferredInterruptions() as interruptions:
            found.append(interruptions.arrived)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [False]
