"""Known defects of libraries, from the table ``data/known_bad.toml``, by the traits of the artefacts they concern."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import IncompatibleError


@dataclass(frozen=True)
class KnownBad:
    """Versions with a known defect. It concerns artefacts that have all the traits in ``when``.

    ``versions`` are prefixes; ``below`` stands for all versions before it. An artefact is not opened by a version that
    is ``refused``; the others are warned of.
    """

    library: str
    symptom: str
    thread: str
    remedy: str
    versions: tuple[str, ...] = ()
    below: str = ""
    when: tuple[str, ...] = ()
    refused: bool = False

    def concerns(self, library: str, version: str, traits: Collection[str]) -> bool:
        """True if the defect may affect an artefact of these ``traits`` in this version."""
        return self.names(library, version) and set(self.when) <= set(traits)

    def names(self, library: str, version: str) -> bool:
        """True if this version has the defect."""
        if library != self.library:
            return False
        earlier = bool(self.below) and _numbers(version) < _numbers(self.below)
        return earlier or any(f"{version}.".startswith(f"{prefix}.") for prefix in self.versions)

    def __str__(self) -> str:
        return f"{self.symptom} ({self.thread}): {self.remedy}"


def known_bad() -> tuple[KnownBad, ...]:
    """Read the table ``dpt_deploy/data/known_bad.toml``."""
    text = (files("dpt_deploy") / "data" / "known_bad.toml").read_text(encoding="utf-8")
    return tuple(decode(KnownBad, row, f"bad[{index}]") for index, row in enumerate(tomllib.loads(text)["bad"]))


def warnings_for(library: str, version: str, traits: Collection[str]) -> list[str]:
    """List the known defects that may affect an artefact of these traits in this version."""
    return [f"{library} {version}: {row}" for row in known_bad() if row.concerns(library, version, traits)]


def refuse_wrong(library: str, version: str, path: Path, sidecar: Sidecar) -> None:
    """Refuse to open the exported model at ``path`` in a version of ``library`` that computes it wrong.

    Raises:
        IncompatibleError: the table says so; the hint is its remedy.
    """
    traits = {sidecar.precision, f"opset {sidecar.opset}"}
    for row in known_bad():
        if row.refused and row.concerns(library, version, traits):
            raise IncompatibleError(
                f"{library} {version} cannot be used for {path.name}: {row.symptom} ({row.thread})", hint=row.remedy
            )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``1.24.0rc1`` gives (1, 24, 0)."""
    return tuple(map(int, re.findall(r"(?:^|(?<=\.))\d+", version)))
