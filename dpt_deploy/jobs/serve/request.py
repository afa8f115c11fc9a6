"""Request for a model repository, and what follows from an artefact and a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from dpt_deploy.artifact.sidecar import PLAN, Sidecar
from dpt_deploy.artifact.store import Artifact
from dpt_deploy.core.errors import IncompatibleError, UsageError
from dpt_deploy.core.profile import Profile
from dpt_deploy.core.ranges import MAX_BATCH, Natural, Range
from dpt_deploy.core.size import Size

Device = Literal["cpu", "gpu"]
TENSORRT = "tensorrt"  # the library whose plans Triton's back end of that name loads
IMAGE_SUFFIX = "_image"


@dataclass(frozen=True)
class ServeOptions:
    """Options of a repository, which is written from them and checked by them.

    ``max_batch`` bounds the batches of an ONNX file (a plan has its own bound). ``device`` is where the server
    computes; empty: ``gpu`` for a plan, ``cpu`` for an ONNX file. ``instances`` of a model compute at once (0: 2 on a
    CPU, where they gain throughput, else 1), each with ``threads`` CPU threads per operator (0: ONNX Runtime's choice).
    ``queue`` requests wait at most and more are refused at once (0: no bound). ``image`` adds a model that takes image
    files.
    ``tensorrt`` is the version on the server (empty: not checked).
    """

    max_batch: Annotated[int, Range(1, MAX_BATCH)] = 8
    device: Literal["", "cpu", "gpu"] = ""
    instances: Natural = 0
    threads: Natural = 0
    queue: Natural = 0
    image: bool = True
    tensorrt: str = ""


@dataclass(frozen=True)
class ServedModel:
    """One network of a repository: its name there, the facts of its artefact, and the options."""

    name: str
    file: str
    sidecar: Sidecar
    options: ServeOptions

    @property
    def image_name(self) -> str:
        """Name of the model that takes image files."""
        return f"{self.name}{IMAGE_SUFFIX}"

    @property
    def device(self) -> Device:
        """The place where the server computes."""
        return self.options.device or ("gpu" if self.sidecar.kind == PLAN else "cpu")

    @property
    def instances(self) -> int:
        """Number of copies of the model that compute at once."""
        return self.options.instances or (2 if self.device == "cpu" else 1)

    @property
    def profiles(self) -> tuple[Profile, ...]:
        """Profiles of a plan; none for an ONNX file."""
        return self.sidecar.engine.profiles if self.sidecar.engine else ()

    @property
    def batched(self) -> bool:
        """True if the file has a batch dimension of its own choice."""
        return not self.sidecar.shapes.single

    @property
    def max_batch(self) -> int:
        """Largest batch; 1 for a file of one image."""
        if not self.batched:
            return 1
        return max((profile.high[0] for profile in self.profiles), default=self.options.max_batch)

    @property
    def warm_shapes(self) -> tuple[tuple[int, Size], ...]:
        """Batches and sizes to run at the start: each built size of a plan, the size of training of an ONNX file."""
        image, static = self.sidecar.image, self.sidecar.shapes.static_size
        sizes = [Size(*profile.high[1:]) for profile in self.profiles] or [static or Size(image.height, image.width)]
        batches = (1, self.max_batch) if self.device == "gpu" else (1,)
        return tuple(dict.fromkeys((batch, size) for size in sizes for batch in batches))


def served_models(artifacts: Sequence[Artifact], options: ServeOptions) -> tuple[ServedModel, ...]:
    """The models of a repository, one for each artefact, named by the files.

    Raises:
        UsageError: two artefacts have one name, or there is none.
        IncompatibleError: a plan that Triton cannot serve (:func:`check_plan`).
    """
    models = tuple(ServedModel(each.path.stem, each.path.name, each.sidecar, options) for each in artifacts)
    names = [name for model in models for name in ([model.name, model.image_name] if options.image else [model.name])]
    if not names:
        raise UsageError("no artefact is given", hint="dpt-deploy serve-repo MODEL.onnx -o models/")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UsageError(
            f"two models of the repository would have the name {twice[0]}", hint="rename one file with its sidecar"
        )
    for model in models:
        check_plan(model)
    return models


def check_plan(model: ServedModel) -> None:
    """Refuse a plan that Triton's back end does not load, or whose batches it would form wrong.

    Raises:
        IncompatibleError: it is not TensorRT's own, of another version than the server's, its profiles overlap, or
            they do not take the same batches at every size.
    """
    engine = model.sidecar.engine
    if engine is None:
        return
    if engine.library != TENSORRT:
        raise IncompatibleError(
            f"{model.file} was built by {engine.library}; Triton's back end loads plans of {TENSORRT} only",
            hint="build it with TensorRT on the GPU of the server, or serve the .onnx file",
        )
    wanted = model.options.tensorrt
    if wanted and not engine.options.version_compatible and not _same_release(engine.version, wanted):
        raise IncompatibleError(
            f"{model.file} was built by TensorRT {engine.version}; the server has {wanted}",
            hint="build it with the server's version",
        )
    if fault := profile_fault(model.profiles):
        raise IncompatibleError(f"{model.file}: {fault}", hint="build it again: dpt-deploy build --res … --batch …")


def _same_release(first: str, second: str) -> bool:
    """True if two versions agree in the numbers that the shorter one has, of the first three."""
    return all(one == other for one, other in zip(first.split(".")[:3], second.split(".")[:3], strict=False))


def profile_fault(profiles: Sequence[Profile]) -> str:
    """The reason why a batcher cannot serve ``profiles``, which it knows nothing of; empty if it can."""
    for index, first in enumerate(profiles):
        for second in profiles[index + 1 :]:
            if _overlap(first, second):
                return f"profiles {first} and {second} overlap, so which of them runs is the back end's choice"
    batches: dict[tuple[tuple[int, ...], tuple[int, ...]], list[tuple[int, int]]] = {}
    for profile in profiles:
        batches.setdefault((profile.low[1:], profile.high[1:]), []).append((profile.low[0], profile.high[0]))
    ranges = {_joined(sorted(found)) for found in batches.values()}
    if len(ranges) > 1 or ranges == {None}:
        return "its sizes do not take the same batches from 1 on; the server would form batches that a size refuses"
    return ""


def _overlap(first: Profile, second: Profile) -> bool:
    pairs = zip(first.low, first.high, second.low, second.high, strict=True)
    return all(low <= other_high and other_low <= high for low, high, other_low, other_high in pairs)


def _joined(batches: Sequence[tuple[int, int]]) -> int | None:
    """The largest batch, if ``batches`` run from 1 to it without a gap; else None."""
    last = 0
    for low, high in batches:
        if low != last + 1:
            return None
        last = high
    return last


def model_path(folder: Path, name: str, file: str) -> Path:
    """Path of a file of a model in a repository: this program writes one version of each."""
    return folder / name / "1" / file
