"""An artefact: plain files any tool can read, and a JSON sidecar that says what they are and proves they are whole.

``hybrid-fp32.onnx`` has the sidecar ``hybrid-fp32.onnx.json``. The sidecar is written last and atomically: it is the
commit mark, and a model without one is unfinished. Hashes prove integrity, not origin: never load a file from a source
you do not trust.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PureWindowsPath
from typing import Self

from dpt_deploy.core.decode import decode
from dpt_deploy.core.errors import BadFileError
from dpt_deploy.core.files import atomic_write_bytes
from dpt_deploy.core.recipe import Tolerance, VerifyMatrix
from dpt_deploy.core.record import (
    EngineRecord,
    OperationRecord,
    ParityRecord,
    QuantisationRecord,
    RangeRecord,
    Shapes,
    TypeLossRecord,
)
from dpt_deploy.core.spec import ImageSpec, ModelSpec, TensorSpec

FORMAT = 1
ONNX, PLAN = "onnx", "plan"  # kinds of artefact
TYPE_LOSS_TIMES = 3.0  # one rounding order against another: errors of both are single draws, at one of many sizes
EXTERNAL_DATA_BYTES = 1 << 30  # protobuf cannot hold 2 GiB, and a file of that size is awkward long before
_CHUNK = 1 << 20
_MAX_SIDECAR_BYTES = 1 << 24  # a real one has a few kilobytes


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
    shapes: Shapes
    tolerance: Tolerance
    verify: VerifyMatrix
    operations: OperationRecord | None = None
    islands: dict[str, str] = field(default_factory=dict)
    ranges: RangeRecord | None = None
    quantisation: QuantisationRecord | None = None
    golden: str = ""
    type_loss: TypeLossRecord | None = None
    parity: ParityRecord | None = None
    engine: EngineRecord | None = None
    format: int = FORMAT

    @property
    def allowed(self) -> Tolerance:
        """What the artefact is held to: the recipe's tolerance, or :data:`TYPE_LOSS_TIMES` what PyTorch itself loses in
        16 bits, whichever is more: networks differ in how much they amplify rounding, whoever rounds."""
        if self.type_loss is None:
            return self.tolerance
        return replace(
            self.tolerance,
            max=max(self.tolerance.max, TYPE_LOSS_TIMES * self.type_loss.max),
            mean=max(self.tolerance.mean, TYPE_LOSS_TIMES * self.type_loss.mean),
        )

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Inverse of :meth:`to_json`; raises ``ValueError`` for anything else."""
        try:
            data = json.loads(text)
        except RecursionError as exc:
            raise ValueError("it is nested too deeply") from exc
        except ValueError as exc:
            raise ValueError(f"it is not JSON ({exc})") from exc
        found = data.get("format") if isinstance(data, dict) else None
        if found != FORMAT:
            raise ValueError(f"its format is {found!r}; this program reads {FORMAT}")
        for later in ("engine", "type_loss"):  # sidecars from before there were any
            data.setdefault(later, None)
        if missing := {entry.name for entry in fields(cls)} - set(data):
            raise ValueError(f"{min(missing)} is missing")
        sidecar: Self = decode(cls, data)
        sidecar._check()
        return sidecar

    def _check(self) -> None:
        """Raise ``ValueError`` unless the values make sense beside one another."""
        for payload in (*self.payloads, *self.parents):
            if payload.name in ("", "..") or PureWindowsPath(payload.name).name != payload.name:
                raise ValueError(f"payload name {payload.name!r} is not the name of a file beside the sidecar")
        if self.golden and self.golden not in {payload.name for payload in self.payloads}:
            raise ValueError(f"golden {self.golden!r} is not among the payloads")
        if not (len(self.inputs) == len(self.outputs) == 1):
            raise ValueError(f"{len(self.inputs)} inputs and {len(self.outputs)} outputs; expected one of each")
        if min(self.shapes.stride, self.model.stride, *(self.shapes.static or ())) < 1:
            raise ValueError("a size or stride is not positive")
        if (self.kind == PLAN) != (self.engine is not None):
            raise ValueError(f"kind {self.kind!r} does not go with what it says of an engine")


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
    return Artifact(path, sidecar)


def open_model(path: Path) -> Artifact:
    """The same for what must be an exported model, because its graph is read.

    Raises:
        BadFileError: as :func:`open_artifact`, or it is an engine.
    """
    artifact = open_artifact(path)
    if artifact.sidecar.kind != ONNX:
        made_of = ", ".join(payload.name for payload in artifact.sidecar.parents)
        raise BadFileError(
            f"{path} is an engine; expected an exported model, whose graph can be read",
            hint=f"give the file it was built from: {made_of}",
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
        if where.stat().st_size > _MAX_SIDECAR_BYTES:
            raise BadFileError(
                f"sidecar {where} has {where.stat().st_size:,} bytes; expected a few thousand", hint="export again"
            )
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
