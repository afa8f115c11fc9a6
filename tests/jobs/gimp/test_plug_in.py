"""The plug-in of GIMP is installed and removed, with a fake compiler; tests/tools/gimp runs it in a real GIMP."""

import pytest
from jobs.gimp.test_programs import program

from dpt_deploy import cli
from dpt_deploy.core.errors import BadFileError, MissingExtraError, ResourceError, UsageError
from dpt_deploy.jobs.gimp import plug_in
from dpt_deploy.jobs.gimp.plug_in import install_plug_in, remove_plug_ins
from dpt_deploy.jobs.gimp.programs import Gimp, installed_version

pytestmark = pytest.mark.fast
COMPILER = """#!/bin/sh
while [ "$1" != -o ]; do echo "$1" >> "$0.words"; shift; done
echo "$@" >> "$0.words"
echo program > "$2"
chmod 755 "$2"
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """A folder of programs with a GIMP, its tool and a compiler, none of which does anything."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program(folder, "gimp-console", "GIMP version 2.10.34")
    program(folder, "gimptool-2.0", "-pthread")
    (folder / "cc").write_text(COMPILER)
    (folder / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setenv("CC", str(folder / "cc"))
    monkeypatch.setenv("GIMP2_DIRECTORY", str(tmp_path / "profile"))
    return folder


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "libdpt.so"
    path.write_bytes(b"library")
    return path


@pytest.fixture
def gimp(tmp_path):
    return Gimp("2.10", tmp_path / "profile/plug-ins")


def test_the_program_and_its_library_are_installed_and_removed(tools, library, gimp, capsys):
    assert cli.call(["gimp", "--install", "--for", "2.10", "--library", str(library)]) == 0
    assert {path.name for path in gimp.place.iterdir()} == {"dpt-depth", "libdpt.so.0", "dpt-deploy.json"}
    assert (gimp.place / "libdpt.so.0").read_bytes() == b"library"
    assert (gimp.place / "dpt-depth").stat().st_mode & 0o100
    assert "-Wl,-rpath,$ORIGIN -pthread -ldl" in (tools / "cc.words").read_text()
    assert f"plug-in {installed_version(gimp.place)} in" in capsys.readouterr().out.replace("\n", "")
    assert cli.call(["gimp", "--uninstall", "--for", "2.10"]) == 0
    assert list(gimp.plug_ins.iterdir()) == []


def test_an_earlier_plug_in_is_replaced_and_another_folder_is_not(tools, library, gimp):
    install_plug_in(gimp, library=library)
    library.write_bytes(b"newer")
    install_plug_in(gimp, library=library)
    assert (gimp.place / "libdpt.so.0").read_bytes() == b"newer"
    (gimp.place / "dpt-deploy.json").write_text("{}")
    with pytest.raises(UsageError, match="holds other files"):
        install_plug_in(gimp, library=library)
    with pytest.raises(UsageError, match="there is no plug-in of this program in"):
        remove_plug_ins([gimp])
    assert (gimp.place / "dpt-depth").is_file()


@pytest.mark.parametrize(
    ("missing", "message"), [("cc", "cc was not found"), ("gimptool-2.0", r"gimptool-2\.0 was not found")]
)
def test_a_missing_tool_is_named_and_nothing_is_left(missing, message, tools, library, gimp, monkeypatch):
    (tools / missing).unlink()
    monkeypatch.setenv("PATH", str(tools))
    with pytest.raises(MissingExtraError, match=message):
        install_plug_in(gimp, library=library)
    assert not gimp.plug_ins.exists()


def test_a_compiler_that_fails_is_reported_with_its_error(tools, library, gimp):
    (tools / "cc").write_text("#!/bin/sh\necho 'a.c: note' >&2\necho 'a.c:1: error: no gimp.h' >&2\nexit 1\n")
    with pytest.raises(ResourceError, match=r"cc failed: a\.c:1: error: no gimp\.h"):
        install_plug_in(gimp, library=library)
    assert not gimp.plug_ins.exists()


def test_a_missing_library_is_named(tools, gimp, tmp_path, monkeypatch):
    monkeypatch.setattr(plug_in, "find_native", lambda: None)
    with pytest.raises(MissingExtraError, match="libdpt, which is not built") as caught:
        install_plug_in(gimp)
    assert "make cpp" in caught.value.hint
    with pytest.raises(BadFileError, match="is no file; expected"):
        install_plug_in(gimp, library=tmp_path / "nothing.so")


def test_the_library_of_the_system_is_not_copied(tools, gimp, monkeypatch):
    monkeypatch.setattr(plug_in, "find_native", lambda: "libdpt.so.0")
    install_plug_in(gimp)
    assert {path.name for path in gimp.place.iterdir()} == {"dpt-depth", "dpt-deploy.json"}


def test_a_third_gimp_gets_the_script_and_needs_no_compiler(tools, library, tmp_path):
    (tools / "gimptool-2.0").unlink()
    third = Gimp("3.2", tmp_path / "third")
    install_plug_in(third, library=library)
    assert {path.name for path in third.place.iterdir()} == {"dpt-depth.py", "libdpt.so.0", "dpt-deploy.json"}
    assert (third.place / "dpt-depth.py").stat().st_mode & 0o111 == 0o111


def test_without_sources_or_for_another_gimp_it_is_refused(tools, library, gimp, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"no plug-in for GIMP 2\.8"):
        install_plug_in(Gimp("2.8", tmp_path), library=library)
    monkeypatch.setattr(plug_in, "_SOURCES", tmp_path / "nothing")
    with pytest.raises(UsageError, match="sources of the plug-in"):
        install_plug_in(gimp, library=library)


def test_two_wishes_at_once_are_refused(tools, capsys):
    assert cli.call(["gimp", "--install", "--uninstall"]) == 2
    assert "exclude each other" in capsys.readouterr().err
