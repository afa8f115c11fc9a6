"""The versions of GIMP on this machine, their folders of plug-ins, and what lies there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.core.disk.private import scratch_folder
from dpt_deploy.core.errors import MissingExtraError, ResourceError, UsageError

PLUG_IN = "dpt-depth"  # the folder and the program in it, which must have one name
RECORD = "dpt-deploy.json"
KEY = "dpt_deploy_gimp"
_PROGRAM = re.compile(r"gimp(-console)?(?P<version>-\d+(\.\d+)?)?")
_VERSION = re.compile(r"\b(\d+\.\d+)(\.\d+)*")
_SECONDS = 30


@dataclass(frozen=True)
class Gimp:
    """One version of GIMP (``2.10``, ``3.0``) and the folder of the user's plug-ins for it."""

    series: str
    plug_ins: Path

    @property
    def place(self) -> Path:
        """The folder of our plug-in."""
        return self.plug_ins / PLUG_IN

    @property
    def is_third(self) -> bool:
        """True for GIMP 3 and later, whose plug-ins are written against another interface."""
        return int(self.series.partition(".")[0]) >= 3


def find_gimps(environment: Mapping[str, str] = os.environ) -> list[Gimp]:
    """The versions of GIMP whose programs are on the path, the oldest first."""
    found = {series for program in _programs(environment) if (series := _series(program, environment))}
    return [Gimp(series, plug_in_folder(series, environment)) for series in sorted(found, key=_numbers)]


def chosen_gimps(folder: Path | None = None, series: str | None = None) -> list[Gimp]:
    """The versions of GIMP that are meant: those found, only ``series``, or one whose plug-ins lie in ``folder``.

    Raises:
        UsageError: ``series`` is no version, or is missing for a ``folder``.
        MissingExtraError: no such GIMP was found.
    """
    version = _VERSION.fullmatch(series or "")
    if series is not None and not version:
        raise UsageError(f"{series!r} is no version of GIMP", hint="for example --for 2.10")
    found = find_gimps()
    if folder is not None:
        known = [version[1]] if version else [gimp.series for gimp in found]
        if len(known) != 1:
            raise UsageError(
                f"{len(known)} versions of GIMP were found; --to needs one", hint="name it, for example --for 2.10"
            )
        return [Gimp(known[0], folder)]
    meant = [gimp for gimp in found if version is None or gimp.series == version[1]]
    if not meant:
        raise MissingExtraError(
            f"GIMP {series or ''} was not found on the path".replace("  ", " "),
            hint="install it (Debian: apt-get install gimp), or name its folder of plug-ins: --to FOLDER --for 2.10",
        )
    return meant


def plug_in_folder(series: str, environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of the user's plug-ins: GIMP2_DIRECTORY or GIMP3_DIRECTORY, else the system's place for settings."""
    home = Path(environment.get("HOME", "~")).expanduser()
    if named := environment.get(f"GIMP{series.partition('.')[0]}_DIRECTORY"):
        return home / named / "plug-ins"
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "GIMP" / series / "plug-ins"
    return Path(environment.get("XDG_CONFIG_HOME") or home / ".config") / "GIMP" / series / "plug-ins"


def installed_version(folder: Path) -> str | None:
    """The version of our plug-in in its folder; None if something else lies there, or nothing."""
    try:
        record = json.loads((folder / RECORD).read_bytes())
        return str(record["version"]) if KEY in record else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def state_of(gimp: Gimp) -> tuple[bool, str]:
    """True and the place if the plug-in is installed; else False and what to do."""
    version = installed_version(gimp.place)
    if version is None:
        return False, "the plug-in is not installed: dpt-deploy gimp --install"
    return True, f"plug-in {version} in {gimp.place}"


def _programs(environment: Mapping[str, str]) -> list[Path]:
    """One program for each version in a name; a console needs no display, so it comes first."""
    found: dict[str, Path] = {}
    for folder in environment.get("PATH", os.defpath).split(os.pathsep):
        for program in sorted(Path(folder or ".").glob("gimp*"), key=lambda each: "-console" not in each.name):
            named = _PROGRAM.fullmatch(program.name)
            if named and os.access(program, os.X_OK):
                found.setdefault(named["version"] or "", program)
    return list({program.resolve(): program for program in found.values()}.values())


def _series(program: Path, environment: Mapping[str, str]) -> str | None:
    try:
        with scratch_folder() as home:  # GIMP makes folders in its user's home, even for this
            elsewhere = dict(environment) | dict.fromkeys(("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"), str(home))
            done = subprocess.run(  # noqa: S603  a program of that name on the user's path
                [str(program), "--version"],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
                env=elsewhere,
            )
    except (OSError, ResourceError, subprocess.TimeoutExpired):
        return None
    version = _VERSION.search(done.stdout)
    return version[1] if version and not done.returncode else None


def _numbers(series: str) -> tuple[int, ...]:
    return tuple(map(int, series.split(".")))
