"""Versions of GIMP on the path, by programs that only print a version."""

from pathlib import Path

import pytest

from dpt_deploy.core.errors import MissingExtraError, UsageError
from dpt_deploy.jobs.doctor import diagnose_machine
from dpt_deploy.jobs.gimp.programs import Gimp, chosen_gimps, find_gimps, plug_in_folder

pytestmark = pytest.mark.fast


def program(folder, name, text, code=0):
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The only folder of programs; HOME is a folder next to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/nowhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("GIMP2_DIRECTORY", "GIMP3_DIRECTORY", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    return folder


def test_each_version_is_found_once_and_in_order(path, tmp_path):
    program(path, "gimp-console-3.0", "GNU Image Manipulation Program version 3.0.4")
    program(path, "gimp-console-2.10", "GNU Image Manipulation Program version 2.10.34")
    program(path, "gimp-2.10", "this has a window", code=1)
    program(path, "gimp-tool", "9.9.9")
    (path / "gimp-console").symlink_to(path / "gimp-console-2.10")
    places = [tmp_path / "home/.config/GIMP" / series / "plug-ins" for series in ("2.10", "3.0")]
    assert find_gimps() == [Gimp("2.10", places[0]), Gimp("3.0", places[1])]


@pytest.mark.parametrize(("text", "code"), [("no number", 0), ("GIMP 2.10.34", 1)])
def test_a_program_that_fails_or_prints_no_version_is_left_out(text, code, path):
    program(path, "gimp", text, code)
    assert find_gimps() == []


def test_a_gimp_that_makes_folders_at_home_makes_them_elsewhere(path, tmp_path):
    (tmp_path / "home").mkdir()
    shell = program(path, "gimp", "GIMP version 3.0.2")
    shell.write_text(shell.read_text().replace("echo", f'/bin/mkdir "$HOME/.local"; : > {tmp_path}/asked; echo', 1))
    assert [each.series for each in find_gimps()] == ["3.0"]
    assert (tmp_path / "asked").exists()
    assert list((tmp_path / "home").iterdir()) == []


def test_the_folder_follows_the_variables_of_gimp():
    named = {"HOME": "/people/me", "GIMP2_DIRECTORY": "mine", "XDG_CONFIG_HOME": "/settings"}
    assert plug_in_folder("2.10", named) == Path("/people/me/mine/plug-ins")
    assert plug_in_folder("3.0", named) == Path("/settings/GIMP/3.0/plug-ins")
    assert plug_in_folder("3.0", {"HOME": "/people/me", "GIMP3_DIRECTORY": "/own"}) == Path("/own/plug-ins")


def test_a_folder_needs_one_version(path, tmp_path):
    with pytest.raises(UsageError, match="0 versions of GIMP were found"):
        chosen_gimps(tmp_path)
    assert chosen_gimps(tmp_path, "2.10.34") == [Gimp("2.10", tmp_path)]
    program(path, "gimp", "GIMP version 3.0.2")
    assert chosen_gimps(tmp_path) == [Gimp("3.0", tmp_path)]


def test_a_gimp_that_is_not_there_is_named(path):
    with pytest.raises(MissingExtraError, match="GIMP was not found"):
        chosen_gimps()
    program(path, "gimp", "GIMP version 3.0.2")
    with pytest.raises(MissingExtraError, match=r"GIMP 2\.10 was not found"):
        chosen_gimps(series="2.10")
    with pytest.raises(UsageError, match="'new' is no version"):
        chosen_gimps(series="new")


def test_doctor_says_what_was_found(path):
    def found():
        return [(check.name, check.fine) for check in diagnose_machine()[0] if "GIMP" in check.name]

    assert found() == [("depth in GIMP", False)]
    program(path, "gimp", "GIMP version 2.10.34")
    assert found() == [("depth in GIMP 2.10", False)]
    place = find_gimps()[0].place
    place.mkdir(parents=True)
    (place / "dpt-deploy.json").write_text('{"dpt_deploy_gimp": 1, "version": "0.1.0"}')
    assert found() == [("depth in GIMP 2.10", True)]
