"""An artefact: plain files any tool can read, and a JSON sidecar that says what they are and proves they are whole.

``hybrid-fp32.onnx`` has the sidecar ``hybrid-fp32.onnx.json``. The sidecar is written last and atomically: it is the
commit mark, and a model without one is unfinished. Hashes prove integrity, not origin: never load a file from a source
you do not trust.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes, write_errors
from dpt_deploy.core.spec import ImageSpec, ModelSpec, TensorSpec

FORMAT = 1
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Payload:
    """One file of an artefact: its name beside the sidecar, and what it must hash to."""

    name: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class WeightsSource:
    """Where the weights came from: ``random`` with its seed, or a checkpoint with its hash."""

    kind: str
    path: str = ""
    sha256: str = ""
    seed: int = 0
    family: str = ""
    licence: str = ""

    @property
    def is_random(self) -> bool:
        return self.kind == "random"

    def __str__(self) -> str:
        return f"random, seed {self.seed}: it has learned nothing" if self.is_random else f"{Path(self.path).name}"


@dataclass(frozen=True)
class Sidecar:
    """Everything a reader needs before it touches the model. See ARCHITECTURE.md for the meaning of each key."""

    kind: str
    payloads: tuple[Payload, ...]
    parents: tuple[Payload, ...]
    tools: dict[str, str]
    model: ModelSpec
    image: ImageSpec
    weights: WeightsSource
    precision: str
    opset: int
    input_kind: str
    output_kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    shapes: dict[str, Any]
    tolerance: dict[str, float]
    verify: dict[str, Any]
    operations: dict[str, Any] = field(default_factory=dict)
    golden: str = ""
    parity: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Inverse of :meth:`to_json`; raises ``ValueError``, ``KeyError`` or ``TypeError`` for anything else."""
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, this program reads {FORMAT}")
        values = {entry.name: data[entry.name] for entry in fields(cls)}
        values["payloads"] = tuple(Payload(**entry) for entry in data["payloads"])
        values["parents"] = tuple(Payload(**entry) for entry in data["parents"])
        values["model"] = ModelSpec.from_dict(data["model"])
        image = data["image"]
        values["image"] = ImageSpec(**{**image, "mean": tuple(image["mean"]), "std": tuple(image["std"])})
        values["weights"] = WeightsSource(**data["weights"])
        for key in ("inputs", "outputs"):
            values[key] = tuple(TensorSpec(**{**entry, "shape": tuple(entry["shape"])}) for entry in data[key])
        return cls(**values)


@dataclass(frozen=True)
class Artifact:
    """A finished artefact on disk: the main file and its sidecar, already checked."""

    path: Path
    sidecar: Sidecar

    @property
    def golden_path(self) -> Path | None:
        return self.path.with_name(self.sidecar.golden) if self.sidecar.golden else None


def sidecar_path(path: Path) -> Path:
    """Where the sidecar of ``path`` stands."""
    return path.with_name(path.name + ".json")


def sha256_of(path: Path, progress: Callable[[int], None] | None = None) -> str:
    """Hex digest of a file; ``progress`` is called with the bytes read since the last call."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
            if progress:
                progress(len(chunk))
    return digest.hexdigest()


def payload_of(path: Path) -> Payload:
    """The payload entry of an existing file."""
    return Payload(path.name, sha256_of(path), path.stat().st_size)


def open_artifact(path: Path, *, check_hashes: bool = True) -> Artifact:
    """Read the sidecar of ``path`` and check every payload, before anything is deserialised.

    Raises:
        BadFileError: the file or its sidecar is missing, the sidecar is damaged or of another version, or a payload is
            missing, of another size, or does not match its hash.
    """
    if not path.is_file():
        raise BadFileError(
            f"{path} does not exist", hint="give the path of an exported model, for example out/base-fp32.onnx"
        )
    sidecar = read_sidecar(path)
    listed = {payload.name for payload in sidecar.payloads}
    if path.name not in listed:
        raise BadFileError(
            f"the sidecar of {path} describes {', '.join(sorted(listed))}, not this file",
            hint="files of an artefact keep their names: rename them back, or export again",
        )
    for payload in sidecar.payloads:
        _check_payload(path.with_name(payload.name), payload, check_hashes=check_hashes)
    return Artifact(path, sidecar)


def read_sidecar(path: Path) -> Sidecar:
    """The sidecar of ``path``, without a look at the payloads."""
    where = sidecar_path(path)
    if not where.is_file():
        raise BadFileError(
            f"{path} has no sidecar {where.name}: it is unfinished, or was moved without it",
            hint="copy the .json along with the model, or export again",
        )
    try:
        return Sidecar.from_json(where.read_text())
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadFileError(f"sidecar {where} cannot be read ({exc!r})", hint="export again") from exc


def _check_payload(path: Path, payload: Payload, *, check_hashes: bool) -> None:
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


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A private folder beside ``path`` in which an artefact is made; removed however the block ends.

    Folders left behind by a killed run of the same artefact are removed first.
    """
    folder = path.parent / f".{path.name}.partial"
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def commit(path: Path, folder: Path, sidecar: Sidecar) -> Artifact:
    """Move the payloads made in ``folder`` to their place beside ``path``, then write the sidecar.

    An artefact that stood there before is replaced: its sidecar goes first, so that no moment shows a mixture as whole.
    """
    with write_errors(path):
        sidecar_path(path).unlink(missing_ok=True)
        for payload in sidecar.payloads:
            (folder / payload.name).replace(path.with_name(payload.name))
    write_sidecar(path, sidecar)
    return Artifact(path, sidecar)
