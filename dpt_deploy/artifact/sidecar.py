"""The sidecar of an artefact: its files, their origin, and what was measured of them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Self

from dpt_deploy.artifact.records import (
    ApproximationRecord,
    EngineRecord,
    OperationRecord,
    OutputRecord,
    ParityRecord,
    QuantisationRecord,
    RangeRecord,
    Shapes,
)
from dpt_deploy.artifact.upgrade import FORMAT, upgraded
from dpt_deploy.core.decode import decode
from dpt_deploy.core.documents import parse_json
from dpt_deploy.core.ranges import FileName, Natural, OptionalFileName, Range
from dpt_deploy.core.recipe import VerifyMatrix
from dpt_deploy.core.spec import ImageSpec, ModelSpec, TensorSpec

ONNX, PLAN = "onnx", "plan"  # kinds of artefact
_DTYPES = ("float32", "float16", "uint8", "int8", "int32", "int64")  # of inputs and outputs


@dataclass(frozen=True)
class Payload:
    """One file of an artefact: its name in the folder of the sidecar, its hash and size."""

    name: FileName
    sha256: str
    size_bytes: Natural


@dataclass(frozen=True)
class WeightsSource:
    """Origin of the weights: ``random`` with its seed, or a checkpoint with its hash.

    ``entry`` is the place that was asked for in a training checkpoint, such as ``model_ema``. ``commercial`` is
    ``yes``, ``no`` or ``unclear``, and ``training_data`` the reason. ``checked`` is the check of a download: ``64
    digits`` or ``8 digits`` of its SHA-256, or its ``length``. They are empty in older sidecars.
    """

    kind: str
    path: str = ""
    sha256: str = ""
    seed: Natural = 0
    family: str = ""
    licence: str = ""
    entry: str = ""
    commercial: str = ""
    training_data: str = ""
    checked: str = ""

    @property
    def is_random(self) -> bool:
        return self.kind == "random"

    def __str__(self) -> str:
        return f"random, seed {self.seed}: it has learned nothing" if self.is_random else f"{Path(self.path).name}"


@dataclass(frozen=True)
class Sidecar:
    """Everything a reader needs before it touches the model; docs/reference/sidecar.md explains each key."""

    kind: str
    payloads: tuple[Payload, ...]
    parents: tuple[Payload, ...]
    tools: dict[str, str]
    model: ModelSpec
    image: ImageSpec
    weights: WeightsSource
    precision: str
    opset: Annotated[int, Range(1, 1000)]
    input_kind: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[OutputRecord, ...]
    shapes: Shapes
    verify: VerifyMatrix
    operations: OperationRecord | None = None
    islands: dict[str, str] = field(default_factory=dict)
    ranges: RangeRecord | None = None
    quantisation: QuantisationRecord | None = None
    approximation: ApproximationRecord | None = None
    golden: OptionalFileName = ""
    parity: ParityRecord | None = None
    engine: EngineRecord | None = None
    format: int = FORMAT

    def output(self, name: str) -> OutputRecord:
        """The output of that name; raises ``KeyError`` if there is none."""
        return {output.name: output for output in self.outputs}[name]

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Inverse of :meth:`to_json`; sidecars of older formats are upgraded.

        Raises:
            ValueError: it is damaged, or of another format.
        """
        try:
            data = parse_json(text)
        except ValueError as exc:
            raise ValueError(f"it is not JSON ({exc})") from exc
        data = upgraded(data)
        if missing := {entry.name for entry in fields(cls)} - set(data):
            raise ValueError(f"{min(missing)} is missing")
        sidecar: Self = decode(cls, data)
        sidecar._check()
        return sidecar

    def _check(self) -> None:
        """Raise ``ValueError`` unless the values are consistent."""
        if self.golden and self.golden not in {payload.name for payload in self.payloads}:
            raise ValueError(f"golden {self.golden!r} is not among the payloads")
        self._check_ends()
        if (self.kind == PLAN) != (self.engine is not None):
            raise ValueError(f"kind {self.kind!r} contradicts its engine record")

    def _check_ends(self) -> None:
        names = [output.name for output in self.outputs]
        if len(self.inputs) != 1 or not names or len(set(names)) != len(names):
            raise ValueError(
                f"inputs {[each.name for each in self.inputs]} and outputs {names}; "
                "expected one input, and one or more outputs of different names"
            )
        for end in (*self.inputs, *self.outputs):
            if end.dtype not in _DTYPES:
                raise ValueError(f"dtype of {end.name!r} is {end.dtype[:20]!r}; expected one of {', '.join(_DTYPES)}")
        for output in self.outputs:
            if len(output.shape) != len(output.kind.shape):
                raise ValueError(
                    f"output {output.name!r} has {len(output.shape)} dimensions; task {output.task!r} has "
                    f"{len(output.kind.shape)}"
                )
