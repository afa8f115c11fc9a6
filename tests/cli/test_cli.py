"""The edge of the program: what a wrong call says, where, and with which exit code. Base install only."""

import gc
import json
import re
import signal
import subprocess
import sys
from types import SimpleNamespace

import click
import pytest
from support.reporting import recording

from dpt_deploy import cli
from dpt_deploy.core import errors
from dpt_deploy.core.progress import current_reporter, progress, say
from dpt_deploy.jobs.export import export as export_job

pytestmark = pytest.mark.fast

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DptError)]


def run(argv):
    """The exit code of one call."""
    with pytest.raises(SystemExit) as stopped:
        cli.main(argv)
    return stopped.value.code


@pytest.fixture(autouse=True)
def _signals_as_before():
    """The program answers to SIGTERM; the test run keeps its own answer."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def calling(monkeypatch):
    """Replace every command by one that does ``action``, and run it."""

    def call(action):
        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("doctor", callback=action))
        return run(["doctor"])

    return call


def raiser(error):
    def action():
        raise error

    return action


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["exprot"], "exprot"),
        (["doctor", "--jsno"], "--jsno"),
        (["export"], "--backbone"),
        (["export", "--backbone", "base", "--task", "flow"], "flow"),
        (["inspect"], "ARTIFACT"),
        (["verify", "x.onnx", "--res", "12by4"], "12by4"),
        (["verify", "x.onnx", "--batch", "0"], "'0'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_call_exits_2_and_names_what_is_wrong(argv, named, capsys):
    assert run(argv) == errors.UsageError.exit_code
    out, err = capsys.readouterr()
    assert named in err
    assert out == ""


@pytest.mark.parametrize(
    ("typed", "meant"), [("expor", "export"), ("exprot", "export"), ("list", "models"), ("predict", "run")]
)
def test_a_command_that_is_nearly_one_is_named(typed, meant, capsys):
    assert run([typed]) == 2
    assert f"Did you mean {meant!r}?" in capsys.readouterr().err


def test_a_command_that_is_like_none_is_not_guessed(capsys):
    assert run(["xyzzy"]) == 2
    assert "Did you mean" not in capsys.readouterr().err


def test_quiet_and_verbose_choose_what_is_reported(monkeypatch, capsys):
    def action():
        say("a note")
        say("a detail", detail=True)

    monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: click.Command("doctor", callback=action))
    for options, shown in ((["-q"], []), ([], ["a note"]), (["-v"], ["a note", "a detail"])):
        assert run([*options, "doctor"]) == 0
        assert [line.rpartition("  ")[2] for line in capsys.readouterr().err.splitlines()] == shown
    assert run(["-q", "-v", "doctor"]) == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_takes_quiet_and_verbose(name):
    command = cli.cli.get_command(click.Context(cli.cli), name)
    flags = [flag for option in command.params for flag in option.opts]
    assert [flags.count(flag) for flag in ("-q", "--quiet", "-v", "--verbose")] == [1, 1, 1, 1]


def test_quiet_and_verbose_after_the_command_do_the_same(capsys):
    assert run(["models", "--quiet", "--json"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["models", "--verbose", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    lines = err.splitlines()
    assert re.fullmatch(r" +\d+\.\d s  as-json: True", lines[0])
    assert re.fullmatch(r" +\d+\.\d s  finished after \d+\.\d s", lines[-1])
    for argv in (["models", "-q", "-v"], ["-q", "models", "-v"], ["-v", "models", "-q"]):
        assert run(argv) == 2
        assert "exclude each other" in capsys.readouterr().err
    assert run(["-q", "models", "-q", "--json"]) == 0


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_the_lines_that_it_evaluates(shell, capfd, monkeypatch):
    monkeypatch.setenv("_DPT_DEPLOY_COMPLETE", f"{shell}_source")
    assert run([]) == 0
    out = capfd.readouterr().out
    assert {"bash": "complete -o nosort -F", "zsh": "#compdef dpt-deploy", "fish": "complete --no-files"}[shell] in out
    assert f"_DPT_DEPLOY_COMPLETE={shell}_complete" in out


@pytest.mark.parametrize(
    ("shell", "typed", "index", "found"),
    [
        ("bash", "dpt-deploy ver", "1", "plain,verify"),
        ("zsh", "dpt-deploy ver", "1", "plain\nverify\n"),
        ("fish", "dpt-deploy ver", "ver", "plain,verify"),
        ("bash", "dpt-deploy verify --gol", "2", "plain,--golden"),
        ("zsh", "dpt-deploy xyzzy", "1", ""),
    ],
)
def test_a_shell_gets_commands_and_options(shell, typed, index, found, capfd, monkeypatch):
    for name, value in {"_DPT_DEPLOY_COMPLETE": f"{shell}_complete", "COMP_WORDS": typed, "COMP_CWORD": index}.items():
        monkeypatch.setenv(name, value)
    assert run([]) == 0
    out = capfd.readouterr().out
    assert out.startswith(found) if found else not out.strip()


def test_bash_itself_completes(tmp_path):
    program = tmp_path / "dpt-deploy"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m dpt_deploy "$@"\n')
    program.chmod(0o755)
    script = (
        f'eval "$(_DPT_DEPLOY_COMPLETE=bash_source {program})"; COMP_WORDS=(dpt-deploy ver); COMP_CWORD=1; '
        f"_dpt_deploy_completion {program}; echo ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["verify"]


@pytest.mark.parametrize("options", [["--res", "bad"], ["--nosuch"], ["-v"]])
def test_a_refused_call_leaves_the_reporter_of_its_caller(options):
    with recording() as reporter:
        assert cli.call(["verify", "-q", "x.onnx", *options]) == 2
        gc.collect()
        assert current_reporter() is reporter


def test_quiet_prints_errors(capsys):
    assert run(["inspect", "-q", "missing.onnx"]) == 4
    assert "missing.onnx" in capsys.readouterr().err


def test_an_unknown_backbone_exits_2_and_names_the_command_that_lists_them(tmp_path, capsys):
    assert run(["export", "--backbone", "hybird", "-o", str(tmp_path / "out")]) == 2
    out, err = capsys.readouterr()
    assert "'hybird'" in err
    assert "`dpt-deploy models`" in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Usage: dpt-deploy" in capsys.readouterr().out


def test_help_lists_every_command_with_its_line(capsys):
    assert run(["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert all(f"{name} {line}" in shown for name, (_, line) in cli.COMMANDS.items())


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_becomes_two_lines_and_its_exit_code(kind, calling, capsys):
    assert calling(raiser(kind("found this,\nexpected that", hint="do the\nother thing"))) == kind.exit_code
    out, err = capsys.readouterr()
    assert err.splitlines() == ["error: found this, expected that", "       do the other thing"]
    assert out == ""


def test_an_error_without_a_hint_is_one_line(calling, capsys):
    calling(raiser(errors.BadFileError("found this")))
    assert capsys.readouterr().err == "error: found this\n"


def test_exit_codes_are_distinct():
    codes = [kind.exit_code for kind in KINDS]
    assert sorted(codes) == list(range(1, 8))


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), click.Abort()], ids=["ctrl-c", "abort"])
def test_an_interruption_exits_130(interruption, calling, capsys):
    assert calling(raiser(interruption)) == cli.INTERRUPTED == 130
    assert capsys.readouterr().err.strip().startswith("error: interrupted")


def test_memory_used_up_is_an_error_of_the_machine(calling, capsys):
    assert calling(raiser(MemoryError())) == errors.ResourceError.exit_code
    assert "out of memory" in capsys.readouterr().err


def test_a_defect_stays_loud(calling):
    with pytest.raises(ZeroDivisionError):
        calling(raiser(ZeroDivisionError()))


def test_one_process_may_call_every_command_again_and_again():
    assert [run([name, "--help"]) for name in cli.COMMANDS] == [0] * len(cli.COMMANDS)


def test_success_exits_0(calling):
    assert calling(lambda: None) == 0


# --- results and talk -------------------------------------------------------------------------------------------------


def test_json_is_all_of_standard_output(capsys):
    assert run(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert set(json.loads(out)) == {"checks", "environment", "zoo"}
    assert err == ""


@pytest.fixture
def talkative_export(monkeypatch, tmp_path):
    """An export that says and downloads, but does not export."""

    def export_model(_request, _out, *, force):
        assert not force
        say("weights: such and such")
        with progress("downloading", unit="bytes") as transfer:
            transfer.update(done=1, total=2)
        sidecar = SimpleNamespace(weights="random", parity=None, quantisation=None, approximation=None)
        artifact = SimpleNamespace(path=tmp_path / "m.onnx", sidecar=sidecar)
        return SimpleNamespace(artifact=artifact, artifacts=(artifact,))

    monkeypatch.setattr(export_job, "export_model", export_model)
    return ["export", "--backbone", "base"]


def test_talk_goes_to_standard_error(talkative_export, tmp_path, capsys):
    assert run([*talkative_export, "--json"]) == 0
    out, err = capsys.readouterr()
    printed = json.loads(out)
    assert printed == {
        "artifact": str(tmp_path / "m.onnx"),
        "weights": "random",
        "parity": None,
        "worth": None,
        "approximation": None,
        "twin": None,
    }
    assert "weights: such and such" in err


def test_without_json_standard_output_ends_with_the_artefact(talkative_export, tmp_path, capsys):
    assert run(talkative_export) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1] == str(tmp_path / "m.onnx")
    assert "weights: such and such" in err
