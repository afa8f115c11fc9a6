"""``make setup`` runs once, notices changes, and starts again after an interruption.

A shell script replaces Python. It logs its arguments, and "makes" an environment that contains a copy of itself.
"""

import os
import shutil
import subprocess

import pytest

FAKE = """#!/bin/sh
echo "$*" >> "{log}"
case "$*" in
  *platform.machine*) exit {elsewhere} ;;
  *version_info*) exit {too_old} ;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
  *"install"*"-e "*) exit $(cat "{folder}/pip-fails" 2>/dev/null || echo 0) ;;
esac
"""


@pytest.fixture
def make(root, tmp_path):
    """Run make in a copy of the Makefile and requirements; return exit code, output, and the calls of Python."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    log = tmp_path / "log"
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "pylock.toml"):
        shutil.copy(root / name, tmp_path)

    def run(*arguments, too_old=0, elsewhere=0):
        script = FAKE.format(log=log, folder=tmp_path, too_old=too_old, elsewhere=elsewhere)
        (tmp_path / "fake").write_text(script)
        (tmp_path / "fake").chmod(0o755)
        log.write_text("")
        command = ["make", "--no-print-directory", f"PYTHON={tmp_path / 'fake'}", *arguments]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        done = subprocess.run(
            command, cwd=tmp_path, env=clean, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr, log.read_text()

    return run


def test_setup_installs_the_locked_set_with_everything(make):
    code, _, asked = make("setup")
    assert code == 0
    assert "-m venv .venv\n-m pip install --upgrade pip\n" in asked
    assert "-m pip install --no-compile -r pylock.toml\n-m pip install --no-deps --no-build-isolation -e .\n" in asked
    assert "constraints.txt" not in asked


@pytest.mark.parametrize("how", [{"elsewhere": 1}, {"lock": "LOCK="}], ids=["another platform", "without the lock"])
def test_where_the_lock_does_not_hold_the_tested_versions_are_installed(make, how):
    code, _, asked = make("setup", *filter(None, [how.get("lock")]), elsewhere=how.get("elsewhere", 0))
    assert code == 0
    extras = "all,openvino,oracle,rtx,ros,polygraphy"
    assert f"-m pip install --no-compile -e .[{extras}] --group dev -c constraints.txt" in asked
    assert "pylock" not in asked


def test_a_second_run_does_nothing(make):
    make("setup")
    assert make("setup") == (0, "", "")


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "pylock.toml"])
def test_a_change_of_requirements_is_noticed_and_the_environment_kept(make, tmp_path, name):
    make("setup")
    with (tmp_path / name).open("a") as stream:
        stream.write("# changed\n")
    code, _, asked = make("setup")
    assert code == 0
    assert "-e ." in asked
    assert "-m venv" not in asked


def test_a_touched_file_is_no_change(make, tmp_path):
    make("setup")
    (tmp_path / "pyproject.toml").touch()
    assert make("setup")[2] == ""


def test_an_environment_that_was_moved_is_made_anew(make, tmp_path):
    make("setup")
    stamp = tmp_path / ".venv/.prepared"
    stamp.write_text(stamp.read_text().replace(str(tmp_path), "/elsewhere"))
    assert "-m venv .venv" in make("setup")[2]


def test_an_interrupted_setup_is_not_done(make, tmp_path):
    (tmp_path / "pip-fails").write_text("1")
    assert make("setup")[0] != 0
    (tmp_path / "pip-fails").unlink()
    code, _, asked = make("setup")
    assert code == 0
    assert "-e ." in asked


def test_a_failed_change_is_not_done(make, tmp_path):
    make("setup")
    (tmp_path / "pip-fails").write_text("1")
    (tmp_path / "constraints.txt").write_text("")
    assert make("setup")[0] != 0
    assert make("test")[0] != 0


def test_an_old_python_is_one_clear_line(make, tmp_path):
    code, said, _ = make("demo", too_old=1)
    assert code != 0
    assert "is not Python 3.11 or later; name one: make PYTHON=python3.12 demo" in said.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        ("demo", "-m dpt_deploy demo -o out/demo"),
        ("test", "-m nox"),
        ("check", "-m nox -s check"),
        ("docs", "-m nox -s docs"),
        ("cpp", "-m nox -s cpp"),
        ("lock", "tools/lock.py"),
        ("gpu-kit", "tools/gpu_kit/pack.py"),
    ],
)
def test_the_commands_prepare_first(make, target, asked):
    assert make(target)[2].splitlines()[-1] == asked


def test_without_a_target_make_explains_itself(make):
    code, said, asked = make()
    assert (code, asked) == (0, "")
    assert all(f"make {target}" in said for target in ("setup", "demo", "check", "test", "docs", "gpu-kit", "clean"))
