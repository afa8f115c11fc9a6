"""The command line: a thin, lazy shell over workflow.

A command's module is imported when the command is called, so that ``--help`` stays fast and a bare install can show it.
Results go to standard output, talk to standard error. Every error of the tree in :mod:`dpt_deploy.core.errors` becomes
one line, its hint another, and its exit code the program's.
"""

from __future__ import annotations

import os
import signal
import sys
from importlib import import_module
from typing import Any

import click

from dpt_deploy.core.errors import DptError, ResourceError
from dpt_deploy.core.progress import reporting

# name -> (module, one line for --help). The line stands here so that --help imports no command.
COMMANDS = {
    "export": ("export", "Turn a checkpoint into a verified ONNX model."),
    "build": ("build", "Build a TensorRT engine of an exported model."),
    "refit": ("refit", "Put a model's weights into an engine."),
    "verify": ("verify", "Compare an exported model with PyTorch over sizes and batches."),
    "run": ("run", "Apply an exported model to an image, a folder or a video."),
    "bench": ("bench", "Time an exported model beside PyTorch."),
    "study": ("study", "Measure accuracy against inference resolution (the paper's Figure 4)."),
    "sweep": ("sweep", "Compare precisions and sizes of a model: error against time."),
    "train": ("train", "Train a model on rendered scenes by the paper's recipe."),
    "inspect": ("inspect", "Show what an exported model is."),
    "diagnose": ("diagnose", "Show what a model of 16 or 8 bits suffers from, and what should be spared."),
    "doctor": ("doctor", "Show what works on this machine."),
    "convert": ("convert", "Save a checkpoint in another layout."),
    "demo": ("demo", "Do the whole job once, offline, on a photograph."),
}
INTERRUPTED = 130
CLOSED_PIPE = 141  # as the shell says of a program that was still writing when its reader left
_SHOWS_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # since click 8.2


class LazyGroup(click.Group):
    """A group whose commands are imported on use."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dpt_deploy.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        from dpt_deploy.cli._reporter import ConsoleReporter

        with reporting(ConsoleReporter()):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dpt-deploy", prog_name="dpt-deploy")
def cli() -> None:
    """Dense Prediction Transformers, from a checkpoint to a verified ONNX model.

    \b
    dpt-deploy export --backbone hybrid --weights dpt_hybrid-midas-501f0c75.pt -o out/
    dpt-deploy verify out/hybrid-fp32.onnx --res 384,256x640 --batch 1,3
    dpt-deploy run out/hybrid-fp32.onnx photo.jpg -o depth.png

    Exit codes: 0 fine, 1 internal, 2 usage, 3 missing extra, 4 bad input file, 5 parity or budget exceeded,
    6 incompatible engine or device, 7 environment (disk, network, memory), 130 interrupted.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code. A request to end counts as an interruption."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(call(argv))


def call(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code. (Not named ``run``: that is the module of a command.)"""
    try:
        return _result(argv)
    except (BrokenPipeError, SystemExit):  # click and rich turn the one into the other
        _let_go_of_output()
        return CLOSED_PIPE
    except OSError as exc:
        _let_go_of_output()
        what = exc.filename or "the results cannot be written"
        return _complain(f"{what}: {exc.strerror or exc}", "check the path and the disk", ResourceError.exit_code)


def _result(argv: list[str] | None) -> int:
    try:
        result: Any = cli.main(args=argv, prog_name="dpt-deploy", standalone_mode=False)
        _flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _complain("interrupted; nothing unfinished is taken for finished", "", INTERRUPTED)
    except click.ClickException as exc:
        return _wrong_call(exc)
    except DptError as exc:
        return _complain(str(exc), exc.hint, exc.exit_code)
    except MemoryError:
        return _complain("out of memory", "use a smaller size or batch", ResourceError.exit_code)
    return result if isinstance(result, int) else 0


def _wrong_call(exc: click.ClickException) -> int:
    if isinstance(exc, _SHOWS_HELP):
        exc.show()
        return int(exc.exit_code)
    context = getattr(exc, "ctx", None)
    command = context.command_path if context else "dpt-deploy"
    return _complain(exc.format_message(), f"see {command} --help", exc.exit_code)


def _flush() -> None:
    if sys.stdout is not None:  # closed from the start
        sys.stdout.flush()


def _let_go_of_output() -> None:
    """Where results can no longer be written the interpreter must not try once more when it ends."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, hint: str, code: int) -> int:
    click.echo(f"error: {' '.join(message.split())}", err=True)
    if hint:
        click.echo(f"       {' '.join(hint.split())}", err=True)
    return code
