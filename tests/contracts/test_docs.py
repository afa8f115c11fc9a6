"""Documents name only commands, options, targets, extras, links and source files that exist."""

import inspect
import re
import shlex
import tomllib

import click
import pytest
from support.paths import ROOT

from dpt_deploy.cli import COMMANDS, INTERRUPTED, cli
from dpt_deploy.core import errors
from dpt_deploy.core.optional import EXTRA_OF

pytestmark = pytest.mark.fast

DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.md", "export/*.md", "benchmarks/*.md", "tools/*/*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)
CODE = re.compile(r"^```.*?\n(.*?)^```|`([^`\n]+)`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
MARGIN = 132
SOURCE = re.compile(r"`([\w-]+(?:/[\w.-]+)+\.(?:py|toml|cpp|hpp|h|cu|cfg|sh))`")


def code_lines(text):
    """Lines of code blocks and of inline code, without prompts and comments, continued lines joined."""
    for block, inline in CODE.findall(text):
        for line in (block or inline).replace("\\\n", " ").splitlines():
            yield line.partition("  #")[0].strip().removeprefix("$ ")


def command_named(name):
    return cli.get_command(click.Context(cli), name)


def options_of(command):
    return {flag for parameter in command.params for flag in parameter.opts} | {"--help", "-h"}


def drift_of_call(line):
    """Return the fault of one ``dpt-deploy …`` line of a document; empty if there is none."""
    words = shlex.split(line)[1:]
    if not words or words[0].startswith("-"):
        known = options_of(cli) | {"--version"}
    elif words[0] not in COMMANDS:
        return f"{line}: no command {words[0]!r}"
    else:
        known = options_of(command_named(words[0]))
    unknown = [word for word in words if word.startswith("-") and word.partition("=")[0] not in known]
    return f"{line}: no option {unknown[0]}" if unknown else ""


def drift_of(text, *, targets, extras):
    """Everything in a document that names a command, option, target or extra which is not there."""
    found = []
    for line in code_lines(text):
        if line.startswith("dpt-deploy "):
            found.append(drift_of_call(line))
        if line.startswith("make ") and (target := line.split()[1]) not in targets and "=" not in target:
            found.append(f"{line}: no target {target!r}")
        for group in re.findall(r"\.\[([\w,-]+)\]", line):
            found += [f"{line}: no extra {name!r}" for name in group.split(",") if name not in extras]
    return [entry for entry in found if entry]


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def extras(project):
    return set(project["project"]["optional-dependencies"])


@pytest.fixture(scope="module")
def targets(root):
    return set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))


# --- documents --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_only_what_there_is(name, root, targets, extras):
    assert drift_of((root / name).read_text(), targets=targets, extras=extras) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name, root):
    document = root / name
    links = [link for link in LINK.findall(document.read_text()) if "://" not in link]
    assert [link for link in links if not (document.parent / link).exists()] == []


def missing_sources(text):
    """Source files that a document names and that do not exist; names may leave out ``dpt_deploy/``."""
    homes = (ROOT, ROOT / "dpt_deploy", ROOT / "cpp")
    return [name for name in SOURCE.findall(text) if not any((home / name).exists() for home in homes)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_source_files_that_a_document_names_exist(name, root):
    assert missing_sources((root / name).read_text()) == []


def test_a_source_file_that_is_gone_is_noticed():
    assert missing_sources("see `core/errors.py` and `workflow/export.py`") == ["workflow/export.py"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("`dpt-deploy exprot x`", "no command 'exprot'"),
        ("```\ndpt-deploy export --backbone base \\\n  --precison fp32\n```", "no option --precison"),
        ("`dpt-deploy --verison`", "no option --verison"),
        ("`make tset`", "no target 'tset'"),
        ("`pip install -e '.[exports]'`", "no extra 'exports'"),
    ],
)
def test_drift_is_noticed(text, complaint, targets, extras):
    (found,) = drift_of(text, targets=targets, extras=extras)
    assert found.endswith(complaint)


def test_the_first_commands_of_the_readme_are_demo_and_test(root):
    first = [line.split()[:2] for line in code_lines((root / "README.md").read_text()) if line][:3]
    assert ["make", "demo"] in first
    assert ["make", "test"] in first


@pytest.mark.parametrize(("name", "most"), [("README.md", 7000), ("ARCHITECTURE.md", 8000)])
def test_the_first_pages_stay_short(name, most, root):
    assert len((root / name).read_bytes()) <= most


def wide_lines(text):
    """Numbers of the lines of prose that are wider than the margin; tables, addresses and code cannot be wrapped."""
    fenced = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    lines = enumerate(fenced.splitlines(), 1)
    return [number for number, line in lines if len(line) > MARGIN and "://" not in line and not line.startswith("|")]


@pytest.mark.parametrize("name", [name for name in DOCUMENTS if name != "benchmarks/REPORT.md"])
def test_prose_is_wrapped(name, root):
    assert wide_lines((root / name).read_text()) == []


def test_a_line_that_is_not_wrapped_is_noticed():
    wide = "word " * 30
    assert wide_lines(f"{wide}\n```\n{wide}\n```\n| {wide} |\n\n{wide}") == [1, 7]


# --- help -------------------------------------------------------------------------------------------------------------


def short_helps():
    return [(name, line, command_named(name).help or "") for name, (_, line) in COMMANDS.items()]


@pytest.mark.parametrize(("name", "line", "text"), short_helps(), ids=list(COMMANDS))
def test_the_table_of_commands_says_what_the_commands_say(name, line, text):
    assert " ".join(text.split()).startswith(line.removesuffix(".")), f"{name}: {text.splitlines()[0]}"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_example_in_a_help_text_is_a_call(name):
    examples = [line.strip() for line in inspect.cleandoc(command_named(name).help or "").splitlines()]
    calls = [line.partition("  #")[0] for line in examples if line.startswith("dpt-deploy ")]
    assert [drift for line in calls if (drift := drift_of_call(line))] == []


def unexplained(command):
    """Options without help, unless their values or default explain them."""
    options = [each for each in command.params if isinstance(each, click.Option)]
    return [
        each.name for each in options if not (each.help or each.show_default or isinstance(each.type, click.Choice))
    ]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    assert unexplained(command_named(name)) == []


def test_an_unexplained_option_is_noticed():
    assert unexplained(click.Command("x", params=[click.Option(["--puzzle"])])) == ["puzzle"]


# --- exit codes and extras --------------------------------------------------------------------------------------------


def tree():
    """Return the exit code of every drawn class; a subclass elsewhere keeps that of its parent."""
    found = {errors.DptError}
    found |= {kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.DptError)}
    return {kind.__name__: kind.exit_code for kind in found}


def test_the_exit_codes_of_help_are_those_of_the_error_tree():
    sentence = " ".join((cli.help or "").split()).partition("Exit codes: ")[2]
    shown = {int(number) for number in re.findall(r"(?:^|, )(\d+) ", sentence)}
    assert shown == {0, *tree().values(), INTERRUPTED}


def test_the_drawing_of_the_error_tree_is_the_tree():
    drawn = dict(re.findall(r"^[\s│├└─]*(\w+Error)\s+(\d)", errors.__doc__ or "", re.MULTILINE))
    assert {name: int(code) for name, code in drawn.items()} == tree()


def test_hints_name_extras_that_exist(extras):
    assert set(EXTRA_OF.values()) <= extras


def requirement_names(requirements):
    return {re.match(r"[\w-]+", text)[0].lower() for text in requirements if isinstance(text, str)}


def test_every_requirement_has_a_tested_version(project, root):
    extras, groups = project["project"]["optional-dependencies"], project["dependency-groups"]
    lists = [project["project"]["dependencies"], *extras.values(), *groups.values()]
    wanted = set().union(*map(requirement_names, lists)) - {"dpt-deploy", "onnxruntime-gpu", "tensorrt", "ray"}
    pinned = re.findall(r"^([\w-]+)==", (root / "constraints.txt").read_text(), re.MULTILINE)
    assert sorted(wanted) == sorted(pinned)


def misnumbered(folder):
    """Names of records whose numbers are taken, left out, or not those of their titles."""
    records = sorted(folder.glob("0*.md"))
    return [
        path.name
        for number, path in enumerate(records, 1)
        if not (path.name.startswith(f"{number:04}-") and path.read_text().startswith(f"# {number}. "))
    ]


def test_decisions_are_numbered_without_a_gap(tmp_path):
    assert misnumbered(ROOT / "docs/decisions") == []
    for name, title in (("0001-a.md", "# 1. A"), ("0001-b.md", "# 1. B"), ("0003-c.md", "# 4. C")):
        (tmp_path / name).write_text(title)
    assert misnumbered(tmp_path) == ["0001-b.md", "0003-c.md"]
