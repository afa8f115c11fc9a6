"""The steps of one model: export, build, verify, and time it in several ways."""

from __future__ import annotations

from pathlib import Path

from work import NotPossibleError, Place, StepError, gpu, need_gpu

SIZES = "384,384x672,768"
FULL_HD = "384x672"  # the size that full HD frames are resized to for the network
BATCH = 16
QUICK_SIZES = "192"
QUICK_BATCH = 2
TRAINED = ("tiny",)  # its weights are in the package; the others get random ones, which does not change their timing


def export(place: Place, model: str, precision: str) -> None:
    """Export a checkpoint, or random weights, to a typed ONNX file."""
    weights = [] if model in TRAINED else ["--weights", "random"]
    # Random weights may be noisy in 8 bits; the twin of int8 for CPUs may be slow here, and is not used.
    force = ["--force"] if precision in ("int8", "fp8") else []
    place.deploy("export", "--backbone", model, *weights, "--precision", precision, *force, "-o", place.models)


def build(place: Place, model: str, precision: str) -> None:
    """Build an engine with the library that the probe chose."""
    _built(place, model, precision, "--no-measure", result=f"build-{model}-{precision}.json")


def profiles(place: Place, model: str, precision: str) -> None:
    """Measure each profile of the engine: first run, steady run, switch from another profile."""
    _plan(place, model, precision)
    need_gpu()
    _need_library(place, model, precision)
    name = f"profiles-{model}-{precision}.json"
    _built(place, model, precision, "--measure", result=name)
    if not all(row["measured"] for row in place.read(name)["profiles"]):
        raise StepError("profiles were not measured: the reason is in the log")


def _built(place: Place, model: str, precision: str, *more: str, result: str) -> None:
    """Build an engine, or add the measurements that an up-to-date one lacks."""
    library = place.read("probe.json").get("library")
    if not library:
        raise NotPossibleError("TensorRT not measured: no library that works was found; see probe.json")
    source = _exported(place, model, precision)
    sizes, batch = (QUICK_SIZES, QUICK_BATCH) if place.quick else (SIZES, BATCH)
    options = ["--res", sizes, "--batch", batch, "--library", library, "-o", place.models]
    place.deploy("build", source, *options, *more, "--json", result=result)


def _need_library(place: Place, model: str, precision: str) -> None:
    """Raise :class:`NotPossibleError` unless the engine can run here."""
    if not _runs(place, model, precision):
        raise NotPossibleError("TensorRT not measured: no library runs the engine; see probe.json")


def verify(place: Place, model: str, precision: str) -> None:
    """Compare the engine with PyTorch at every corner of its profiles, and with its golden tensors."""
    plan = _plan(place, model, precision)
    need_gpu()
    failed = []
    for what, arguments in (
        ("verify", ("verify", plan)),
        ("golden", ("verify", plan, "--golden")),
        ("audit", ("inspect", plan)),
    ):
        try:
            place.deploy(*arguments, "--json", result=f"{what}-{model}-{precision}.json")
        except StepError as exc:  # the others may show the cause
            failed.append(f"{what}: {exc}")
    if failed:
        raise StepError("; ".join(failed))


def verify_onnx(place: Place, model: str, precision: str) -> None:
    """Compare the ONNX file that the engine is built from with PyTorch, on this machine's CPU."""
    source = _exported(place, model, precision)
    quick = ["--res", QUICK_SIZES, "--batch", "1,2"] if place.quick else []
    place.deploy("verify", source, *quick, "--json", result=f"verify-onnx-{model}-{precision}.json")


def bench(place: Place, model: str, precision: str) -> None:
    """Time the engine, eager PyTorch and ONNX Runtime, interleaved; without an engine the others."""
    if not gpu():
        _timed(place, _exported(place, model, precision), "torch,ort", place.results)
        return
    # A candidate on the CPU would take the others' time; one that may lack kernels would end the run.
    ort = ",ort" if precision == "fp16" and _ort_on_gpu(place) else ""
    if _runs(place, model, precision):
        _timed(
            place,
            _plan(place, model, precision),
            f"trt,trt-device,trt-enqueue-device,torch,torch-device{ort}",
            place.results,
        )
    else:
        source = _exported(place, model, precision)
        _timed(place, source, f"torch,torch-device{ort}", place.results, "--device", "cuda")


def frames(place: Place, model: str, precision: str) -> None:
    """Time full HD frames through the engine, alone and overlapping, next to the network alone."""
    plan = _plan(place, model, precision)
    need_gpu()
    _need_library(place, model, precision)
    folder = place.results / "frames"
    folder.mkdir(exist_ok=True)
    sizes = ["--res", QUICK_SIZES if place.quick else FULL_HD, "--batch", "1"]
    limits = ["--seconds", "3", "--rounds", "10"] if place.quick else ["--seconds", "30", "--rounds", "200"]
    names = "trt-device,trt-frame,trt-frames"
    place.deploy("bench", plan, "--runtime", names, *sizes, *limits, "--no-photo", "--no-memory", "-o", folder)


def compiled(place: Place, model: str, precision: str) -> None:
    """Time torch.compile (max-autotune) next to the engine; a step of its own, because compiling takes minutes."""
    need_gpu()
    folder = place.results / "compiled"
    folder.mkdir(exist_ok=True)
    if _runs(place, model, precision):
        _timed(place, _plan(place, model, precision), "trt-device,torch-compile-device", folder)
    else:
        source = _exported(place, model, precision)
        _timed(place, source, "torch-compile-device", folder, "--device", "cuda")


def _timed(place: Place, artifact: Path, names: str, folder: Path, *more: str) -> None:
    sizes = ["--res", "384", "--batch", f"1,{BATCH}", "--seconds", "30", "--rounds", "500"]
    if place.quick:
        sizes = ["--res", QUICK_SIZES, "--batch", f"1,{QUICK_BATCH}", "--seconds", "3", "--rounds", "10"]
    place.deploy("bench", artifact, "--runtime", names, *more, *sizes, "--no-photo", "--no-memory", "-o", folder)


def _runs(place: Place, model: str, precision: str) -> bool:
    """True if there is an engine and a library that runs it."""
    return bool(place.read("probe.json").get("runs")) and (place.models / f"{model}-{precision}.plan").is_file()


def _ort_on_gpu(place: Place) -> bool:
    ask = "import onnxruntime; print('CUDAExecutionProvider' in onnxruntime.get_available_providers())"
    return "True" in place.call("-c", ask)


def _exported(place: Place, model: str, precision: str) -> Path:
    path = place.models / f"{model}-{precision}.onnx"
    if not path.is_file():
        raise NotPossibleError(f"{path.name} was not exported")
    return path


def _plan(place: Place, model: str, precision: str) -> Path:
    path = place.models / f"{model}-{precision}.plan"
    if not path.is_file():
        raise NotPossibleError(f"{path.name} was not built")
    return path
