"""Command line: a thin, lazy layer over the jobs.

The module of a command is imported when the command is called, so ``--help`` is fast and works in a bare install.
Results go to standard output, messages and progress to standard error. An error of :mod:`dpt_deploy.core.errors` is
printed as one line, its hint as another, and its exit code is returned.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import nullcontext
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from dpt_deploy.cli.shared.amount import amount_options, default_reporter, with_amount
from dpt_deploy.cli.shared.printable import printable
from dpt_deploy.cli.shared.stderr import tolerant
from dpt_deploy.core.errors import DptError, ResourceError
from dpt_deploy.core.files import name_error
from dpt_deploy.core.progress import current_reporter, reporting

# name -> (module, one line for --help). The line is kept here so that --help imports no command.
COMMANDS = {
    "export": ("export", "Turn a checkpoint into a verified ONNX model."),
    "build": ("build", "Build a TensorRT engine from an exported model."),
    "refit": ("refit", "Replace the weights of an engine (experimental: not yet run on a GPU)."),
    "verify": ("verify", "Compare an exported model with PyTorch at several sizes and batches."),
    "run": ("run", "Apply an exported model to an image, a folder, a video, or a ROS bag."),
    "batch": ("batch", "Apply an exported model to an archive of images, on the machines of a Ray cluster."),
    "bench": ("bench", "Time an exported model and compare it with PyTorch."),
    "serve-repo": ("serve_repo", "Write a model repository for the Triton inference server."),
    "web": ("pages.web", "Write a static page that runs exported models in the browser."),
    "gimp": ("pages.gimp", "Install the plug-in for GIMP, which adds the depth of a layer."),
    "study": ("study", "Measure accuracy against inference resolution (the paper's Figure 4)."),
    "sweep": ("sweep", "Compare precisions, sizes and numbers of tokens of a model: error against time."),
    "attack": ("robustness.attack", "Test a model of your own with attacked images, and the files that are deployed."),
    "train": ("train", "Train a model on rendered scenes with the paper's recipe."),
    "inspect": ("inspect", "Show what an exported model contains and how it was verified."),
    "sign": ("sign", "Sign an artefact with a private key, in the format of OpenSSF Model Signing."),
    "diagnose": (
        "diagnose",
        "Find precision problems in a 16- or 8-bit model and the nodes to keep in higher precision.",
    ),
    "repro": ("defects.repro", "Write a folder for a report of a defect to the makers of an engine."),
    "models": ("models", "List the networks: what each returns, its size, and the licence and place of its weights."),
    "doctor": ("doctor", "Show what works on this machine and what is missing."),
    "convert": ("convert", "Save a checkpoint in another layout."),
    "demo": ("demo", "Run the whole pipeline once, offline, on a photograph."),
}
_SYNONYMS = {
    "list": "models",
    "predict": "run",
    "infer": "run",
    "test": "verify",
    "info": "inspect",
}
INTERRUPTED = 130
CLOSED_PIPE = 141  # the shell's code for a program that writes into a pipe closed by its reader
_SHOWS_HELP: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())  # since click 8.2


class LazyGroup(click.Group):
    """Group whose commands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"dpt_deploy.cli.{COMMANDS[cmd_name][0]}")
        return with_amount(module.command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = [_SYNONYMS[args[0]]] if args[0] in _SYNONYMS else get_close_matches(args[0], COMMANDS, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"No such command {args[0]!r}.{meant}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        default = default_reporter(ctx)
        with nullcontext() if default is None else reporting(default):
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(cls=LazyGroup, params=amount_options(), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dpt-deploy", prog_name="dpt-deploy")
def cli() -> None:
    """Dense Prediction Transformers, from a checkpoint to a verified ONNX model.

    \b
    dpt-deploy run tiny photo.jpg
    dpt-deploy export --backbone hybrid --weights dpt_hybrid-midas-501f0c75.pt -o out/
    dpt-deploy verify out/hybrid-fp32.onnx --res 384,256x640 --batch 1,3
    dpt-deploy run out/hybrid-fp32.onnx photo.jpg -o depth.png

    Exit codes: 0 fine, 1 internal, 2 usage, 3 missing extra, 4 bad input file, 5 parity, budget or signature,
    6 incompatible engine or device, 7 environment (disk, network, memory), 130 interrupted.
    """


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with its code. SIGTERM counts as an interruption.

    Messages that cannot be written to standard error are lost; they do not change the code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a name that the terminal's encoding does not have is no failure
            stream.reconfigure(errors="backslashreplace")
    if sys.stderr is not None:  # None if it was closed before the start
        sys.stderr = tolerant(sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # OpenCV and FFmpeg report on their own next to our errors
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    sys.exit(call(argv))


def call(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code. (Not named ``run``: that is the module of a command.)"""
    try:
        return _result(argv)
    except (BrokenPipeError, SystemExit) as exc:  # click and rich turn a broken pipe into SystemExit
        if isinstance(exc, SystemExit) and not exc.code:  # a shell has asked for completions, and got them
            return 0
        _discard_output()
        return CLOSED_PIPE
    except OSError as exc:
        _discard_output()
        if unusable := name_error(exc.filename, exc):
            return _print_error(str(unusable), unusable.hint, unusable.exit_code)
        what = exc.filename or "the results cannot be written"
        return _print_error(f"{what}: {exc.strerror or exc}", "check the path and the disk", ResourceError.exit_code)


def _main(argv: list[str] | None) -> Any:
    try:
        return cli.main(args=argv, prog_name="dpt-deploy", standalone_mode=False)
    except click.UsageError as exc:
        if exc.ctx is not None:
            exc.ctx.close()  # else its reporter would give way when it is collected, in the midst of another call
        raise


def _result(argv: list[str] | None) -> int:
    try:
        with reporting(current_reporter()):  # a call that click refuses may have chosen another one
            result: Any = _main(argv)
        _flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _print_error("interrupted; no incomplete artefact was left behind", "", INTERRUPTED)
    except click.ClickException as exc:
        return _usage_error(exc)
    except DptError as exc:
        return _print_error(str(exc), exc.hint, exc.exit_code)
    except MemoryError:
        return _print_error("out of memory", "use a smaller size or batch", ResourceError.exit_code)
    return result if isinstance(result, int) else 0


def _usage_error(exc: click.ClickException) -> int:
    if isinstance(exc, _SHOWS_HELP):
        exc.show()
        return int(exc.exit_code)
    context = getattr(exc, "ctx", None)
    command = context.command_path if context else "dpt-deploy"
    return _print_error(exc.format_message(), f"see {command} --help", exc.exit_code)


def _flush() -> None:
    if sys.stdout is not None:  # None if it was closed before the start
        sys.stdout.flush()


def _discard_output() -> None:
    """Discard standard output that cannot be written, so that the interpreter does not fail on it again at exit."""
    try:
        _flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_error(message: str, hint: str, code: int) -> int:
    click.echo(f"error: {printable(' '.join(message.split()))}", err=True)
    if hint:
        click.echo(f"       {printable(' '.join(hint.split()))}", err=True)
    return code
