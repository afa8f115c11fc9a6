"""Text of the site that is generated at build time: the reference, and files from the top of the repository.

A page asks for it with a line such as ``<!-- generated: commands -->`` or ``<!-- file: CHANGELOG.md -->``, which
:func:`fill` replaces while Sphinx reads the page.
"""

import dataclasses
import inspect
import re
import types
import typing
from pathlib import Path
from posixpath import dirname, join, normpath

import click

import dpt_deploy
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.cli import COMMANDS, cli
from dpt_deploy.core.errors import DptError
from dpt_deploy.jobs.models import list_networks

ROOT = Path(__file__).parents[1]
GENERATED = re.compile(r"^<!-- generated: (\w+) -->$", re.MULTILINE)
FILE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
# Pages in docs/project/ that show a file of the repository.
PAGES = {
    "ARCHITECTURE.md": "architecture.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "THIRD_PARTY.md": "third-party.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/REPORT.md": "report.md",
}
WIDTH = 100


def fill(_app, _page, source):
    """Replace each place in a page by the text that belongs there (Sphinx's ``source-read`` event)."""
    source[0] = GENERATED.sub(lambda match: TEXTS[match[1]](), source[0])
    source[0] = FILE.sub(lambda match: repository_file(match[1]), source[0])


def outdated(_app, env, *_changes):
    """Return the pages to read again in every build: what they show changes without them (``env-get-outdated``)."""
    texts = {page: Path(env.doc2path(page)).read_text() for page in env.found_docs}
    return [page for page, text in texts.items() if GENERATED.search(text) or FILE.search(text)]


def repository_file(name):
    """Return a Markdown file of the repository with its links rewritten for a page in ``docs/project/``."""
    return LINK.sub(lambda match: _link(dirname(name), *match.groups()), (ROOT / name).read_text())


def _link(folder, mark, text, target):
    if "://" in target or target.startswith("#"):
        return f"{mark}[{text}]({target})"
    path, hash_sign, anchor = target.partition("#")
    path = normpath(join(folder, path))
    if (ROOT / path).is_dir() or (path.endswith(".md") and path not in PAGES and not path.startswith("docs/")):
        return f"`{path}`"  # no page of the site
    if path in PAGES:
        path = PAGES[path]
    elif path.startswith("docs/"):
        path = "../" + path.removeprefix("docs/")
    else:
        path = "../../" + path
    return f"{mark}[{text}]({path}{hash_sign}{anchor})"


def commands():
    """Return the help of every command, in the order of ``dpt-deploy --help``."""
    parts = [_fenced(_help(cli, "dpt-deploy"))]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        parts.append(f"## {name}\n\n{_fenced(_help(command, f'dpt-deploy {name}'))}")
    return "\n\n".join(parts)


def _help(command, name):
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}
    return command.get_help(click.Context(command, info_name=name, **settings))


def _fenced(text):
    return f"```text\n{text}\n```"


def errors():
    """Return a table of the error tree with exit codes."""
    rows = [(f"`{kind.__name__}`", kind.exit_code, _first_paragraph(kind)) for kind in _tree(DptError)]
    return _table(("class", "exit code", "meaning"), rows)


def _tree(kind):
    """Yield a class of ``dpt_deploy.core.errors`` and those below it."""
    yield kind
    for below in kind.__subclasses__():
        if below.__module__ == DptError.__module__:
            yield from _tree(below)


def sidecar():
    """Return a section with a table of fields for each dataclass that a sidecar is built from."""
    return "\n\n".join(_dataclass_section(kind) for kind in _dataclasses(Sidecar, []))


def _dataclasses(kind, seen):
    """Collect a dataclass and those its fields mention, in order of first mention."""
    if kind in seen or not dataclasses.is_dataclass(kind):
        return seen
    seen.append(kind)
    for annotation in typing.get_type_hints(kind).values():
        for part in _parts(annotation):
            _dataclasses(part, seen)
    return seen


def _parts(annotation):
    yield annotation
    for argument in typing.get_args(annotation):
        yield from _parts(argument)


def _dataclass_section(kind):
    hints = typing.get_type_hints(kind)
    entries = dataclasses.fields(kind)
    rows = [(f"`{entry.name}`", f"`{_type_name(hints[entry.name])}`", _default(entry)) for entry in entries]
    return f"## {kind.__name__}\n\n{_markdown(kind)}\n\n{_table(('key', 'type', 'default'), rows)}"


def _type_name(annotation):
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation.__name__
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(map(repr, typing.get_args(annotation)))
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is typing.Union:
        return " or ".join(_type_name(part) for part in typing.get_args(annotation))
    if annotation is Ellipsis:
        return "…"
    arguments = ", ".join(_type_name(part) for part in typing.get_args(annotation))
    return f"{typing.get_origin(annotation).__name__}[{arguments}]" if arguments else str(annotation)


def _default(entry):
    if entry.default is not dataclasses.MISSING:
        return f"`{entry.default!r}`"
    return "empty" if entry.default_factory is not dataclasses.MISSING else "required"


def python():
    """Return an autodoc directive for each public name of the package."""
    names = [name for name in dpt_deploy.__all__ if not name.startswith("__")]
    lines = [f".. {_directive(getattr(dpt_deploy, name))}:: dpt_deploy.{name}" for name in names]
    return "```{eval-rst}\n" + "\n\n".join(lines) + "\n```"


def _directive(value):
    return "autoclass" if isinstance(value, type) else "autofunction"


def _markdown(kind):
    """Return a docstring with roles such as ``:class:`X``` reduced to ``X``, which is Markdown then."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", inspect.getdoc(kind) or "")


def _first_paragraph(kind):
    return " ".join(_markdown(kind).partition("\n\n")[0].split())


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def models():
    """Return a table of the networks, then one of their weights with licence and terms."""
    entries = list_networks()
    networks = [
        (
            f"`{each.name}`",
            each.task,
            each.quantity,
            f"{each.size}{' only' if each.fixed else ''}",
            each.stride,
            _engine(each.engine),
        )
        for each in entries
    ]
    weights = [
        (f"`{each.name}`", f"`{found.file}`", found.licence, found.commercial, _check(found), found.training_data)
        for each in entries
        for found in each.weights
    ]
    head = ("network", "file", "licence", "commercial use", "check", "training data")
    return "\n\n".join(
        (
            _table(("network", "task", "returns", "size", "stride", "engine, built without a GPU"), networks),
            "## Weights",
            _table(head, weights),
        )
    )


def _engine(found):
    return f"{found.short}: {found.library}, {found.size}" if found else "none recorded"


def _check(found):
    if found.place == "shipped":
        return "in the package"
    return f"{found.checked}; a hash is stated by {found.stated_by}" if found.stated_by else found.checked


TEXTS = {"commands": commands, "models": models, "errors": errors, "sidecar": sidecar, "python": python}
