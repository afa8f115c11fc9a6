"""``pylock.toml``: what ``make setup`` installs, by hash, and in step with the requirements."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support.paths import ROOT

pytestmark = pytest.mark.fast

LOCK = tomllib.loads((ROOT / "pylock.toml").read_text())
LOCKED = {package["name"]: package["version"] for package in LOCK["packages"]}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HINT = "run `make lock`"


def wanted():
    """The requirements of ``make setup``, without those for other systems."""
    extras = PROJECT["project"]["optional-dependencies"]
    parts = [*PROJECT["project"]["dependencies"], *extras["oracle"], *extras["rtx"]]
    for name in re.search(r"\[(.*)\]", extras["all"][0])[1].split(","):
        parts += extras[name]
    for group in ("docs", "dev"):
        parts += [text for text in PROJECT["dependency-groups"][group] if isinstance(text, str)]
    requirements = [Requirement(text) for text in parts]
    here = {"sys_platform": "linux", "platform_machine": "x86_64", "python_version": "3.11"}
    return [each for each in requirements if not each.marker or each.marker.evaluate(here)]


def test_every_requirement_is_locked_at_a_version_that_it_admits():
    for requirement in wanted():
        name = canonicalize_name(requirement.name)
        assert name in LOCKED, f"{name}: {HINT}"
        assert requirement.specifier.contains(LOCKED[name]), f"{requirement}: {HINT}"


def test_the_lock_and_the_constraints_agree():
    pins = re.findall(r"^([\w-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    found = {canonicalize_name(name): version for name, version in pins if canonicalize_name(name) in LOCKED}
    assert len(found) > 30
    assert found == {name: LOCKED[name] for name in found}, HINT


def test_every_file_has_a_hash_and_comes_from_pypi():
    for package in LOCK["packages"]:
        files = [*package.get("wheels", []), *filter(None, [package.get("sdist")])]
        assert files, package["name"]
        for file in files:
            assert re.fullmatch(r"[0-9a-f]{64}", file["hashes"]["sha256"])
            assert file["url"].startswith("https://files.pythonhosted.org/packages/")


def test_the_lock_says_what_it_is_for_and_leaves_the_project_out():
    assert LOCK["requires-python"] == "==3.11.*"
    assert LOCK["environments"] == ["sys_platform == 'linux' and platform_machine == 'x86_64'"]
    assert "dpt-deploy" not in LOCKED
