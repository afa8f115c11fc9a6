"""Check of this machine: what works, and what to install for the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from dpt_deploy.artifact import defects
from dpt_deploy.core.environment import INT8_UNITS, LIBRARIES, cpu_flags, fingerprint, installed
from dpt_deploy.core.recipe import load_recipe, zoo_names
from dpt_deploy.jobs.gimp.programs import find_gimps, state_of
from dpt_deploy.model.checkpoints import published
from dpt_deploy.runtime.registry import RUNTIMES

# Capability, the modules it needs, and the extra that installs them; the runtimes' own follow from their records.
_CAPABILITIES = (
    ("export and verify against PyTorch", ("torch", "timm", "onnx", "onnxscript", "safetensors"), "export"),
    ("read and write images and video", ("cv2", "PIL"), "images"),
    ("draw plots and reports", ("matplotlib", "h5py"), "study"),
    ("time the plain Hugging Face export", ("transformers",), "oracle"),
    ("run archives on a cluster", ("ray", "pyarrow"), "ray"),
    ("run bags of ROS 1 and ROS 2", ("rosbags",), "ros"),
    ("write folders for reports of defects", ("polygraphy",), "polygraphy"),
    ("sign artefacts and check signatures", ("model_signing",), "sign"),
    ("build engines without a GPU (TensorRT-RTX)", ("tensorrt_rtx",), "rtx"),
)
# Units of x86 processors by their flag in /proc/cpuinfo.
_BF16_UNITS = {"avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}


@dataclass(frozen=True)
class Check:
    """One check: passed or not, with details or the remedy."""

    name: str
    fine: bool
    detail: str


def diagnose_machine() -> tuple[list[Check], dict[str, Any]]:
    """Return the checks in the order a user needs them, and the full fingerprint."""
    found = fingerprint()
    abilities = [(each.ability, each.modules, each.extra) for each in RUNTIMES.values() if each.ability]
    checks = [_capability(*entry) for entry in (*_CAPABILITIES, *abilities)]
    more = (_torch_build(found), *_engine_libraries(), *_vector_units(), _gpu(found), *_gimps())
    checks += [check for check in more if check]
    return checks, found


def zoo_table() -> list[dict[str, str]]:
    """Return every network with its published checkpoints, or "ships with the package"."""
    rows = []
    for name in zoo_names():
        recipe = load_recipe(name)
        files = [entry.file for entry in published.published() if entry.recipe == name]
        found = "ships with the package" if published.shipped_path(name) else ", ".join(files) or "none published"
        rows.append({"name": name, "description": recipe.description, "checkpoints": found})
    return rows


def _capability(name: str, modules: tuple[str, ...], which: str) -> Check:
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        return Check(name, False, f"missing {', '.join(missing)}: pip install -e '.[{which}]'")
    return Check(name, True, "ready")


def _torch_build(machine: dict[str, object]) -> Check | None:
    """Check that torch and torchvision have the same build: others crash when timm is imported."""
    versions = machine["tools"]
    if not isinstance(versions, dict) or "torch" not in versions or "torchvision" not in versions:
        return None
    torch, vision = (str(versions[name]) for name in ("torch", "torchvision"))
    local = {text.partition("+")[2] or "default" for text in (torch, vision)}
    if len(local) > 1:
        return Check(
            "torch and torchvision match",
            False,
            f"torch {torch} and torchvision {vision} are different builds: install matching ones",
        )
    return Check("torch and torchvision match", True, f"{torch}, {vision}")


def _engine_libraries() -> list[Check]:
    """Return the known defects of the installed versions of TensorRT."""
    rows = []
    for library in LIBRARIES:
        package = library.replace("_", "-")
        version = installed(package)
        found = [str(row) for row in defects.known_bad() if version and row.names(library, version)]
        rows += [Check(f"{package} {version} computes correctly", False, line) for line in found]
    return rows


def _vector_units() -> list[Check]:
    """Return the units of the processor that decide which file and runtime are fast on it."""
    flags = cpu_flags()
    narrow, half = (_having(flags, units) for units in (INT8_UNITS, _BF16_UNITS))
    return [
        Check(
            "8-bit products on the CPU",
            bool(narrow),
            f"{narrow}: int8-cpu files are faster than FP32, and int8-openvino files in OpenVINO"
            if narrow
            else "neither VNNI nor AMX: prefer FP32 files; an export to int8-cpu measures whether it is faster",
        ),
        Check(
            "BF16 products on the CPU",
            bool(half),
            f"{half}: --runtime openvino-bf16 computes in BF16 what is not quantised"
            if half
            else "neither AVX-512 BF16 nor AMX: openvino-bf16 does not run; use ort or openvino",
        ),
    ]


def _having(flags: list[str], units: Mapping[str, str]) -> str:
    return ", ".join(dict.fromkeys(name for flag, name in units.items() if flag in flags))


def _gpu(machine: dict[str, object]) -> Check:
    found = machine["gpus"]
    names = found if isinstance(found, list) else []
    return Check(
        "NVIDIA GPU",
        bool(names),
        "; ".join(map(str, names)) or "none: everything but engines runs without one",
    )


def _gimps() -> list[Check]:
    """Return the versions of GIMP that were found, each with the state of its plug-in."""
    found = [Check(f"depth in GIMP {gimp.series}", *state_of(gimp)) for gimp in find_gimps()]
    return found or [Check("depth in GIMP", False, "GIMP was not found: install it, then dpt-deploy gimp --install")]
