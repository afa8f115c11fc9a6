"""The sidecar of an artefact: what its files are, where they came from, and what was measured of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path, PureWindowsPath
from typing import Self

from dpt_deploy.artifact.records import (
    ApproximationRecord,
    EngineRecord,
    OperationRecord,
    ParityRecord,
    QuantisationRecord,
    RangeRecord,
    Shapes,
    TypeLossRecord,
)
from dpt_deploy.core.decode import decode
from dpt_deploy.core.recipe import Tolerance, VerifyMatrix
from dpt_deploy.core.spec import ImageSpec, ModelSpec, TensorSpec

FORMAT = 1
ONNX, PLAN = "onnx", "plan"  # kinds of artefact


TYPE_LOSS_TIMES = 3.0  # one rounding order against another: errors of both are single draws, at one of many sizes


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
    approximation: ApproximationRecord | None = None
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
        for later in ("engine", "type_loss", "approximation"):  # sidecars from before there were any
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
