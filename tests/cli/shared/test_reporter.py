"""Messages and progress of a command: lines on standard error, bars in a terminal only."""

import io

import pytest
from rich.console import Console

from dpt_deploy.cli.shared import reporter as console
from dpt_deploy.cli.shared.reporter import ConsoleReporter, checkpoint_keys
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.progress import SILENT, current_reporter, progress, reporting, say

pytestmark = pytest.mark.fast


@pytest.fixture
def terminal(monkeypatch):
    """A terminal that records what is drawn."""
    drawn = io.StringIO()
    monkeypatch.setattr(console, "talk", Console(file=drawn, force_terminal=True, width=100, highlight=False))
    return drawn


def test_messages_go_to_standard_error_and_details_are_hidden(capsys):
    with reporting(ConsoleReporter()):
        say("exporting")
        say("key by key", detail=True)
    assert capsys.readouterr() == ("", "exporting\n")


def test_details_are_shown_on_request(capsys):
    with reporting(ConsoleReporter(details=True)):
        say("key by key", detail=True)
    assert capsys.readouterr().err == "key by key\n"


def test_without_a_terminal_only_steps_are_reported_as_lines(capsys):
    with reporting(ConsoleReporter()):
        with progress("images", 3) as images:
            images.advance(item="a.jpg")
        with progress("training", 40, unit="steps") as steps:
            for done in range(1, 41):
                steps.update(done=done, item=f"loss {1 / done:.3f}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 2 of 40, loss 0.500"
    assert lines[-1] == "step 40 of 40, loss 0.025"
    assert len(lines) == 20


def test_steps_can_be_counted(capsys):
    with reporting(ConsoleReporter()), progress("training", unit="steps") as steps:
        steps.advance()  # how many there are is not known yet
        steps.update(total=2)
        steps.advance()
    assert capsys.readouterr().err == "step 2 of 2\n"


@pytest.mark.parametrize(
    ("unit", "done", "total", "shown"),
    [
        ("items", 3, 48, "3/48"),
        ("items", 3, None, "3/?"),
        ("bytes", 2_500_000, 5_000_000, "2.5 MB/5.0 MB"),
        ("share", 0.25, 1.0, "25%"),
    ],
)
def test_a_bar_shows_name_item_and_amount(unit, done, total, shown, terminal):
    reporter = ConsoleReporter()
    task = reporter.task("loading", total, unit=unit)
    task.update(done=done, item="[a].jpg")
    reporter._bars.refresh()
    task.close()
    text = terminal.getvalue()
    assert "loading" in text
    assert shown in text
    assert "[a].jpg" in text  # a bracket is no markup


def test_bars_nest_and_end_with_the_last_one(terminal):
    reporter = ConsoleReporter()
    outer = reporter.task("building", 2)
    inner = reporter.task("tactics", 5)
    assert reporter._bars.live.is_started
    inner.close()
    assert reporter._bars.live.is_started
    outer.close()
    assert not reporter._bars.live.is_started
    with reporting(reporter), progress("once more", 1) as again:
        again.advance()
        assert reporter._bars.live.is_started
    assert not reporter._bars.live.is_started


def test_a_bar_ends_after_an_exception(terminal):
    reporter = ConsoleReporter()
    with reporting(reporter), pytest.raises(KeyboardInterrupt), progress("building", 2):
        raise KeyboardInterrupt
    assert not reporter._bars.live.is_started


def test_the_keys_of_a_checkpoint_that_does_not_fit_are_reported(capsys):
    error = BadFileError("it does not fit", details=("head.weight: missing",))

    def load():
        say("head.bias: ok", detail=True)
        raise error

    with pytest.raises(BadFileError), checkpoint_keys(wanted=True):
        load()
    assert capsys.readouterr().err == "head.bias: ok\nhead.weight: missing\n"
    with pytest.raises(BadFileError), checkpoint_keys(wanted=False):
        load()
    assert capsys.readouterr().err == ""
    assert current_reporter() is SILENT
