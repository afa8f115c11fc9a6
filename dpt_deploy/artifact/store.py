"""An artefact: plain files that any tool can read, and a JSON sidecar that describes them and proves them complete.

``hybrid-fp32.onnx`` has the sidecar ``hybrid-fp32.onnx.json``. The sidecar is written last and atomically: it is the
commit mark, and a model without one is unfinished. Hashes prove integrity, not origin: never load a file from a source
you do not trust.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dpt_deploy.artifact.commit import recover
from dpt_deploy.artifact.external import external_files
from dpt_deploy.artifact.records import EngineRecord
from dpt_deploy.artifact.sidecar import ONNX, Payload, Sidecar
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.limits import JSON

EXTERNAL_DATA_BYTES = 1 << 30  # protobuf cannot hold 2 GiB, and a file of that size is awkward long before
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """A finished artefact on disk: the main file and its sidecar, already checked."""

    path: Path
    sidecar: Sidecar

    @property
    def golden_path(self) -> Path | None:
        return self.path.with_name(self.sidecar.golden) if self.sidecar.golden else None


def sidecar_path(path: Path) -> Path:
    """Path of the sidecar of ``path``."""
    return path.with_name(path.name + ".json")


def signature_path(path: Path) -> Path:
    """Path of the signature of ``path``, unless another one is given."""
    return path.with_name(path.name + ".sig")


def belongs(path: Path) -> Callable[[str], bool]:
    """A test for names of files that the artefact at ``path`` may have: its own, and those that start with it."""
    return lambda name: name == path.name or name.startswith(f"{path.name}.")


def finish_commit(path: Path) -> None:
    """Finish a commit of the artefact that a killed run has decided, if the folder can be written."""
    recover(path.parent, path.name, belongs(path))


def sha256_of(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def payload_of(path: Path) -> Payload:
    """The payload entry of an existing file."""
    return Payload(path.name, sha256_of(path), path.stat().st_size)


def open_artifact(path: Path | str, *, check_hashes: bool = True) -> Artifact:
    """Read the sidecar of ``path`` and check every payload, before anything is deserialised.

    The commit of a killed run that was decided is finished first, if the folder can be written.

    Raises:
        BadFileError: the file or its sidecar is missing, the sidecar is damaged or of another version, a payload is
            missing, of another size, or does not match its hash, or the graph names a file that is no payload.
    """
    path = Path(path)
    finish_commit(path)
    with _read_errors(path):
        _check_is_model(path)
    sidecar = read_sidecar(path)
    listed = {payload.name for payload in sidecar.payloads}
    if path.name not in listed:
        raise BadFileError(
            f"the sidecar of {path} describes {', '.join(sorted(listed))}, not this file",
            hint="files of an artefact keep their names: rename them back, or export again",
        )
    for payload in sidecar.payloads:
        _check_payload(path.with_name(payload.name), payload, check_hashes=check_hashes)
    if sidecar.kind == ONNX:
        _check_external(path, listed)
    return Artifact(path, sidecar)


def _check_external(path: Path, listed: set[str]) -> None:
    """Every file that the graph names is a payload, whose hash was checked, and lies in the artefact's folder."""
    with _read_errors(path):
        for name in external_files(path):
            if name not in listed:
                raise BadFileError(
                    f"{path} names external data {name[:200]!r}, which its sidecar does not list",
                    hint="do not trust it, or export again",
                )
            if path.with_name(name).resolve().parent != path.parent.resolve():
                raise BadFileError(
                    f"{path.with_name(name)} is a link out of the artefact's folder", hint="put the file itself there"
                )


def open_model(path: Path | str) -> Artifact:
    """Open an exported model, whose graph can be read; an engine is an error.

    Raises:
        BadFileError: as :func:`open_artifact`, or it is an engine.
    """
    path = Path(path)
    artifact = open_artifact(path)
    if artifact.sidecar.kind != ONNX:
        parents = ", ".join(payload.name for payload in artifact.sidecar.parents)
        raise BadFileError(
            f"{path} is an engine; expected an exported model, whose graph can be read",
            hint=f"give the file it was built from: {parents}",
        )
    return artifact


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of ``path``, without a look at the payloads."""
    where = sidecar_path(path)
    with _read_errors(where):
        if not where.is_file():
            raise BadFileError(
                f"{path} has no sidecar {where.name}: it is unfinished, or was moved without it",
                hint="copy the .json along with the model, or export again",
            )
        JSON.check(f"sidecar {where}", where.stat().st_size)
        try:
            return Sidecar.from_json(where.read_bytes())
        except ValueError as exc:
            raise BadFileError(f"sidecar {where} cannot be read: {exc}", hint="export again") from exc


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Turn an :class:`OSError` inside the block into the :class:`BadFileError` of reading ``path``."""
    try:
        yield
    except OSError as exc:
        raise BadFileError(
            f"cannot read {path}: {exc.strerror or exc}", hint="check the path and its permissions"
        ) from exc


def _check_is_model(path: Path) -> None:
    if path.is_dir():
        sidecars = [*path.glob("*.onnx.json"), *path.glob("*.plan.json")]
        found = sorted(entry.name.removesuffix(".json") for entry in sidecars)
        hint = f"name one of its models: {', '.join(found)}" if found else "it holds no exported model"
        raise BadFileError(f"{path} is a folder; expected the file of an exported model", hint=hint)
    if not path.is_file():
        raise BadFileError(
            f"{path} does not exist", hint="give the path of an exported model, for example out/base-fp32.onnx"
        )
    model = path.with_suffix("")
    if path.suffix == ".json" and model.is_file():
        raise BadFileError(f"{path} is the sidecar of a model, not the model", hint=f"give {model}")


def _check_payload(path: Path, payload: Payload, *, check_hashes: bool) -> None:
    with _read_errors(path):
        if not path.is_file():
            raise BadFileError(
                f"{path} is missing from the artefact", hint="copy every file of the artefact, or export again"
            )
        size = path.stat().st_size
        if size != payload.size_bytes:
            raise BadFileError(
                f"{path} has {size} bytes, its sidecar says {payload.size_bytes}",
                hint="the file was cut or changed: export again",
            )
        if check_hashes and (found := sha256_of(path)) != payload.sha256:
            raise BadFileError(
                f"{path} does not match its sidecar (sha256 {found[:12]}…, expected {payload.sha256[:12]}…)",
                hint="the file was changed or swapped: export again",
            )


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Commit: write the sidecar of ``path`` atomically."""
    atomic_write_bytes(sidecar_path(path), sidecar.to_json().encode())


def record(artifact: Artifact, sidecar: Sidecar) -> Artifact:
    """Replace the sidecar of an artefact that still is the one that was opened.

    Raises:
        BadFileError: it was exported again, or removed, since.
        ResourceError: the sidecar cannot be written; the one that is there stays.
    """
    if read_sidecar(artifact.path).payloads != artifact.sidecar.payloads:
        raise BadFileError(f"{artifact.path} was exported again meanwhile; nothing was recorded", hint="run it again")
    write_sidecar(artifact.path, sidecar)
    return Artifact(artifact.path, sidecar)


def engine_of(artifact: Artifact) -> EngineRecord:
    """The engine record of a plan.

    Raises:
        BadFileError: the artefact is no engine.
    """
    if artifact.sidecar.engine is None:
        raise BadFileError(f"{artifact.path} is no engine", hint="build one: dpt-deploy build MODEL.onnx")
    return artifact.sidecar.engine
