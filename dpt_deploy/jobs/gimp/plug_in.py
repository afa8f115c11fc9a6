"""Install the plug-in of GIMP with the C++ library next to it, and remove both."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from dpt_deploy.artifact.folders import check_place, replaced_folder
from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import BadFileError, MissingExtraError, ResourceError, UsageError
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.gimp.programs import KEY, PLUG_IN, RECORD, Gimp, installed_version
from dpt_deploy.runtime.native.library import VARIABLE, find_native

_CHECKOUT = Path(__file__).parents[3]
_SOURCES, _HEADERS = _CHECKOUT / "tools" / "gimp", _CHECKOUT / "cpp" / "include"
_SONAME = "libdpt.so.0"  # the name by which the plug-in opens the library, first in its own folder
_SECONDS = 300
_TOOL, _DEBIAN = "gimptool-2.0", "apt-get install gimp libgimp2.0-dev"


def install_plug_in(gimp: Gimp, *, library: Path | None = None) -> Path:
    """Install the plug-in for one version of GIMP, whole or not at all; return its folder.

    ``library`` is ``libdpt.so``; without it, the one that ``DPT_DEPLOY_LIBRARY`` names, this checkout's build, or the
    system's. A file is copied next to the plug-in, which opens it there; the system's library stays where it is. An
    earlier plug-in of this program is replaced.

    Raises:
        UsageError: another version of GIMP, no sources, or a folder that holds something else.
        MissingExtraError: there is no library, compiler, or headers of GIMP.
        BadFileError: ``library`` is no file.
        ResourceError: the compiler fails, or the folder cannot be written.
    """
    if not (gimp.is_third or gimp.series == "2.10"):
        raise UsageError(f"there is no plug-in for GIMP {gimp.series}", hint="expected GIMP 2.10, 3.0 or later")
    found = _library(library)
    if not _SOURCES.is_dir():
        raise UsageError(
            "the sources of the plug-in are not part of the installed package",
            hint="call the command of a checkout: pip install -e .",
        )
    check_place(gimp.place, "our plug-in", is_kind=lambda folder: installed_version(folder) is not None, force=True)
    with replaced_folder(gimp.place) as new:
        if gimp.is_third:
            script = shutil.copyfile(_SOURCES / f"{PLUG_IN}.py", new / f"{PLUG_IN}.py")
            script.chmod(0o755)
        else:
            say(f"compiling the plug-in for GIMP {gimp.series}")
            _compile(new / PLUG_IN)
        if found is not None:
            shutil.copyfile(found, new / _SONAME)
        record = {KEY: 1, "version": version("dpt-deploy"), "gimp": gimp.series}
        (new / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return gimp.place


def remove_plug_ins(gimps: Sequence[Gimp]) -> list[Path]:
    """Remove the plug-in where it is installed; return the folders that were removed.

    Raises:
        UsageError: it is not installed anywhere.
        ResourceError: a folder cannot be written.
    """
    places = [gimp.place for gimp in gimps if installed_version(gimp.place) is not None]
    if not places:
        raise UsageError(
            f"there is no plug-in of this program in {' or '.join(str(gimp.plug_ins) for gimp in gimps)}",
            hint="name its folder of plug-ins: --to FOLDER --for 2.10",
        )
    for place in places:
        with write_errors(place), scratch_folder(place.parent) as scratch:
            place.rename(scratch / PLUG_IN)
    return places


def _library(given: Path | None) -> Path | None:
    """The file of the library that is copied; None if it is the system's."""
    if given is not None:
        if not given.is_file():
            raise BadFileError(f"{given} is no file; expected libdpt.so", hint="build it with `make cpp`")
        return given
    name = find_native()
    if name is None:
        raise MissingExtraError(
            "the plug-in needs the C++ library libdpt, which is not built",
            hint=f"run `make cpp` in the checkout, or name it with --library or {VARIABLE}",
        )
    return _library(Path(name)) if os.sep in name else None


def _compile(program: Path) -> None:
    """Compile the plug-in of GIMP 2.10; it looks for the library in its own folder first."""
    words = shlex.split(os.environ.get("CC", "cc"))
    for name, hint in ((words[0] if words else "cc", "apt-get install gcc, or set CC"), (_TOOL, _DEBIAN)):
        if shutil.which(name) is None:
            raise MissingExtraError(f"{name} was not found; it is needed to compile the plug-in", hint=hint)
    flags, libraries = (shlex.split(_output([_TOOL, option])) for option in ("--cflags", "--libs"))
    source, found_here = str(_SOURCES / f"{PLUG_IN}.c"), "-Wl,-rpath,$ORIGIN"
    _output([*words, "-O2", f"-I{_HEADERS}", *flags, source, "-o", str(program), found_here, *libraries, "-ldl"])


def _output(command: list[str]) -> str:
    try:
        done = subprocess.run(  # noqa: S603  no shell; the words are the user's compiler and GIMP's own flags
            command, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ResourceError(f"{command[0]} cannot be run: {exc}", hint=_DEBIAN) from exc
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        first = next((line for line in lines if "error" in line), lines[-1] if lines else "no message")
        raise ResourceError(f"{command[0]} failed: {first}", hint=f"check the headers of GIMP: {_DEBIAN}")
    return done.stdout
