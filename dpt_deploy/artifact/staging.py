"""Make an artefact in a private folder next to its place, then move it there: whole, or not at all.

Everything that takes time or disk space happens in the private folder; the commit consists of renames only
(:mod:`dpt_deploy.artifact.commit`). The sidecar is the mark: it goes first and comes last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from dpt_deploy.artifact.commit import FileSet, commit_files, recover, staged_files
from dpt_deploy.artifact.sidecar import Sidecar
from dpt_deploy.artifact.store import Artifact, belongs, read_sidecar, sidecar_path
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import ensure_folder, write_errors


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """Make a private folder next to ``path`` for the artefact; it is removed however the block ends.

    A commit that a killed run has decided is finished first, and its leftovers are removed. Parent folders made for it
    are removed after a failure.

    Raises:
        UsageError: ``path`` is a folder, its folder is a file, or something else lies at the private folder's name.
        ResourceError: the folder cannot be written, or another process is exporting the same artefact.
    """
    for place in (path, sidecar_path(path)):
        if place.is_dir():
            raise UsageError(
                f"{place} is a folder; a file of the artefact belongs there", hint="remove it, or name another -o"
            )
    with staged_files(path.parent, path.name) as folder:
        yield folder


def settle(*paths: Path) -> None:
    """Finish decided commits of the artefacts at ``paths``, and remove what killed runs left: for "up to date"."""
    for path in paths:
        if path.parent.is_dir():
            ensure_folder(path.parent)
            recover(path.parent, path.name, belongs(path), clear=True)


def commit(path: Path, folder: Path, sidecar: Sidecar) -> Artifact:
    """Move the payloads from ``folder`` to their place next to ``path``, and then the sidecar.

    An earlier artefact is replaced. Payloads that the new artefact does not have are removed.
    """
    return commit_all({path: (folder, sidecar)})[0]


def commit_all(made: Mapping[Path, tuple[Path, Sidecar]]) -> list[Artifact]:
    """:func:`commit` several artefacts, each a folder and a sidecar by path; none if the disk is full."""
    sets = []
    for path, (folder, sidecar) in made.items():
        mark = sidecar_path(path).name
        names = [payload.name for payload in sidecar.payloads]
        with write_errors(path):
            (folder / mark).write_text(sidecar.to_json(), encoding="utf-8")
        sets.append(FileSet(folder, [*names, mark], sorted(_payload_names(path) - {*names, mark})))
    commit_files(*sets)
    return [Artifact(path, sidecar) for path, (_, sidecar) in made.items()]


def _payload_names(path: Path) -> set[str]:
    """The payloads of the artefact at ``path`` whose names are its own; a sidecar cannot make others go."""
    with suppress(BadFileError):
        return {payload.name for payload in read_sidecar(path).payloads if belongs(path)(payload.name)}
    return set()
