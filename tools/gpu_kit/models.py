"""The steps of one model: export, build, verify, and time it in several ways."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from work import NotPossibleError, Place, StepError, gpu, need_gpu

FULL_HD = "384x672"  # the size that full HD frames are resized to for a network of 384 pixels
QUICK_SIZES = "192"
QUICK_BATCH = 2
TRAINED = ("tiny",)  # its weights are in the package; the others get random ones, which does not change their timing


@dataclass(frozen=True)
class Case:
    """A model in a precision, the sizes and largest batch of its engine, and the size that is timed."""

    model: str
    precision: str
    sizes: str = f"384,{FULL_HD},768"
    timed: str = "384"
    batch: int = 16

    @property
    def name(self) -> str:
        return f"{self.model}-{self.precision}"


def export(place: Place, case: Case) -> None:
    """Export a checkpoint, or random weights, to a typed ONNX file."""
    weights = [] if case.model in TRAINED else ["--weights", "random"]
    # Random weights may be noisy in 8 bits; the twin of int8 for CPUs may be slow here, and is not used.
    force = ["--force"] if case.precision in ("int8", "fp8") else []
    options = ["--backbone", case.model, *weights, "--precision", case.precision, *force]
    place.deploy("export", *options, "-o", place.models)


def build(place: Place, case: Case) -> None:
    """Build an engine with the library that the probe chose."""
    _built(place, case, "--no-measure", result=f"build-{case.name}.json")


def profiles(place: Place, case: Case) -> None:
    """Measure each profile of the engine: first run, steady run, switch from another profile."""
    _plan(place, case)
    need_gpu()
    _need_library(place, case)
    name = f"profiles-{case.name}.json"
    _built(place, case, "--measure", result=name)
    if not all(row["measured"] for row in place.read(name)["profiles"]):
        raise StepError("profiles were not measured: the reason is in the log")


def _built(place: Place, case: Case, *more: str, result: str) -> None:
    """Build an engine, or add the measurements that an up-to-date one lacks."""
    library = place.read("probe.json").get("library")
    if not library:
        raise NotPossibleError("TensorRT not measured: no library that works was found; see probe.json")
    source = _exported(place, case)
    sizes, batch = (QUICK_SIZES, QUICK_BATCH) if place.quick else (case.sizes, case.batch)
    options = ["--res", sizes, "--batch", batch, "--library", library, "-o", place.models]
    place.deploy("build", source, *options, *more, "--json", result=result)


def _need_library(place: Place, case: Case) -> None:
    """Raise :class:`NotPossibleError` unless the engine can run here."""
    if not _runs(place, case):
        raise NotPossibleError("TensorRT not measured: no library runs the engine; see probe.json")


def verify(place: Place, case: Case) -> None:
    """Compare the engine with PyTorch at every corner of its profiles, and with its golden tensors."""
    plan = _plan(place, case)
    need_gpu()
    failed = []
    for what, arguments in (
        ("verify", ("verify", plan)),
        ("golden", ("verify", plan, "--golden")),
        ("audit", ("inspect", plan)),
    ):
        try:
            place.deploy(*arguments, "--json", result=f"{what}-{case.name}.json")
        except StepError as exc:  # the others may show the cause
            failed.append(f"{what}: {exc}")
    if failed:
        raise StepError("; ".join(failed))


def verify_onnx(place: Place, case: Case) -> None:
    """Compare the ONNX file that the engine is built from with PyTorch, on this machine's CPU."""
    source = _exported(place, case)
    quick = ["--res", QUICK_SIZES, "--batch", "1,2"] if place.quick else []
    place.deploy("verify", source, *quick, "--json", result=f"verify-onnx-{case.name}.json")


def native(place: Place, case: Case) -> None:
    """Run the engine in the C++ library: compare it with PyTorch, and time full HD images."""
    plan = _plan(place, case)
    need_gpu()
    _need_library(place, case)
    folder = place.native
    if not folder.is_dir():
        raise NotPossibleError("the C++ library is not here: pack the kit with --native FOLDER")
    place.deploy("verify", plan, "--runtime", "native", "--json", result=f"verify-native-{case.name}.json")
    limits = ["--res", case.timed, "--seconds", "5", "--json"]
    place.run([folder / "dpt_bench", plan, *limits], result=f"native-{case.name}.json")


def bench(place: Place, case: Case) -> None:
    """Time the engine, eager PyTorch and ONNX Runtime, interleaved; without an engine the others."""
    if not gpu():
        _timed(place, case, _exported(place, case), "torch,ort", place.results)
        return
    # A candidate on the CPU would take the others' time; one that may lack kernels would end the run.
    ort = ",ort" if case.precision == "fp16" and _ort_on_gpu(place) else ""
    if _runs(place, case):
        names = f"trt,trt-device,trt-enqueue-device,torch,torch-device{ort}"
        _timed(place, case, _plan(place, case), names, place.results)
    else:
        source = _exported(place, case)
        _timed(place, case, source, f"torch,torch-device{ort}", place.results, "--device", "cuda")


def frames(place: Place, case: Case) -> None:
    """Time full HD frames through the engine, alone and overlapping, next to the network alone."""
    plan = _plan(place, case)
    need_gpu()
    _need_library(place, case)
    folder = place.results / "frames"
    folder.mkdir(exist_ok=True)
    sizes = ["--res", QUICK_SIZES if place.quick else FULL_HD, "--batch", "1"]
    limits = ["--seconds", "3", "--rounds", "10"] if place.quick else ["--seconds", "30", "--rounds", "200"]
    names = "trt-device,trt-frame,trt-frames"
    place.deploy("bench", plan, "--runtime", names, *sizes, *limits, "--no-photo", "--no-memory", "-o", folder)


def compiled(place: Place, case: Case) -> None:
    """Time torch.compile (max-autotune) next to the engine; a step of its own, because compiling takes minutes."""
    need_gpu()
    folder = place.results / "compiled"
    folder.mkdir(exist_ok=True)
    if _runs(place, case):
        _timed(place, case, _plan(place, case), "trt-device,torch-compile-device", folder)
    else:
        source = _exported(place, case)
        _timed(place, case, source, "torch-compile-device", folder, "--device", "cuda")


def _timed(place: Place, case: Case, artifact: Path, names: str, folder: Path, *more: str) -> None:
    sizes = ["--res", case.timed, "--batch", f"1,{case.batch}", "--seconds", "30", "--rounds", "500"]
    if place.quick:
        sizes = ["--res", QUICK_SIZES, "--batch", f"1,{QUICK_BATCH}", "--seconds", "3", "--rounds", "10"]
    place.deploy("bench", artifact, "--runtime", names, *more, *sizes, "--no-photo", "--no-memory", "-o", folder)


def _runs(place: Place, case: Case) -> bool:
    """True if there is an engine and a library that runs it."""
    return bool(place.read("probe.json").get("runs")) and (place.models / f"{case.name}.plan").is_file()


def _ort_on_gpu(place: Place) -> bool:
    ask = "import onnxruntime; print('CUDAExecutionProvider' in onnxruntime.get_available_providers())"
    return "True" in place.call("-c", ask)


def _exported(place: Place, case: Case) -> Path:
    path = place.models / f"{case.name}.onnx"
    if not path.is_file():
        raise NotPossibleError(f"{path.name} was not exported")
    return path


def _plan(place: Place, case: Case) -> Path:
    path = place.models / f"{case.name}.plan"
    if not path.is_file():
        raise NotPossibleError(f"{path.name} was not built")
    return path
