#!/usr/bin/env python3
"""Pack what a GPU machine without a package registry lacks, into a folder that `run.sh` there works from.

    make gpu-kit
    python tools/gpu_kit/pack.py --python 3.12 --cuda 13 --with-ort-gpu --have pip-list.txt -o build/gpu-kit

Needs pip and its index. A group that was packed of the same files is kept as it is, so that a second run is short.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from archives import (
    MANIFEST,
    Group,
    KitError,
    Manifest,
    complaints,
    read_manifest,
    sha256_of,
    write_group,
    write_manifest,
)

KIT = Path("tools/gpu_kit")  # in the repository
ROOT = Path(__file__).resolve().parents[2]
RTX_VERSIONS = ("1.7.1.116", "1.6.1.120", "1.4.0.76")  # in the order in which a machine tries them
RTX = "tensorrt-rtx-"
SOURCE = "source"
NATIVE = "native"
WHEELS = "wheels"
FRONTS = "rtx-fronts"
DRAFT = "manifest.draft.json"
ORT_GPU = "onnxruntime-gpu"
NOTICE = "README.txt"
LICENCE = "NVIDIA-LICENSE.txt"
_SOURCES = (
    "dpt_deploy",
    "tests/gpu",
    "tests/support",
    "tests/golden",
    "tests/conftest.py",
    "pyproject.toml",
    "LICENSE",
)
_DRIVER = ("run.sh", "steps.py", "models.py", "work.py", "report.py", "probe.py", "archives.py")
_GLIBC = (17, 24, 26, 27, 28, 31, 34, 35)  # pip takes a platform by its very name
# What must be of the major version of CUDA that the driver supports, where that is not the version in constraints.txt.
_OF_CUDA = {"12": ("cuda-python==12.9.10", "cuda-bindings==12.9.10")}
_TEXT = f"""A kit of dpt-deploy for one GPU machine: see tools/gpu_kit/README.md in the repository.

    bash run.sh             # everything, 25 minutes; run it again to go on where it stopped
    bash run.sh --help

For the packer's own use. It holds software of NVIDIA under the licence in {LICENCE} (TensorRT-RTX; accepted by who
packs and by who runs it), and of others under the licences in their *.dist-info folders. Do not publish or pass it on.
"""

Talk = Callable[[str], None]


@dataclass(frozen=True)
class PackOptions:
    """Contents of the kit. ``wheels`` is a folder to take distributions from instead of pip's index.

    ``have`` names the distributions that the machine has already; ``extra`` names more wheels, by file or by
    requirement. ``native`` is a folder with the C++ library, built for TensorRT-RTX, and its ``dpt_bench``.
    """

    out: Path
    python: str = "3.12"
    cuda: str = "13"
    rtx: tuple[str, ...] = RTX_VERSIONS
    with_ort_gpu: bool = False
    have: frozenset[str] = frozenset()
    extra: tuple[str, ...] = ()
    wheels: Path | None = None
    native: Path | None = None
    requirements: Path = field(default=ROOT / KIT / "wheels.txt")
    root: Path = ROOT
    preset: int | None = None

    @property
    def tag(self) -> str:
        return "cp" + self.python.replace(".", "")


def pack(options: PackOptions, say: Talk = print) -> Manifest:
    """Fill ``options.out``; the manifest is written last. Raises :class:`KitError` for what cannot be had."""
    options.out.mkdir(parents=True, exist_ok=True)
    old = {group.name: group for name in (MANIFEST, DRAFT) for group in _groups_of(options.out, name)}
    (options.out / MANIFEST).unlink(missing_ok=True)  # until it is whole again, it is no kit
    manifest = Manifest(options.tag, _product(options.root)["version"], ())
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as scratch:
        for name, content in _wanted(options, Path(scratch), say):
            old[name] = _group(options, name, content, old.get(name), say)
            manifest = replace(manifest, groups=(*manifest.groups, old[name]))
            write_manifest(options.out, replace(manifest, groups=tuple(old.values())), DRAFT)
    _sweep(options.out, manifest)
    for name in _DRIVER:
        shutil.copy(options.root / KIT / name, options.out)
    (options.out / NOTICE).write_text(_TEXT)
    write_manifest(options.out, manifest)
    (options.out / DRAFT).unlink()
    return manifest


def _groups_of(folder: Path, name: str) -> tuple[Group, ...]:
    """Groups that an earlier run has packed, finished or not."""
    try:
        return read_manifest(folder, name).groups
    except KitError:
        return ()


def _wanted(options: PackOptions, scratch: Path, say: Talk) -> Iterator[tuple[str, Path]]:
    """Yield the name of each group, and a folder with the folders of its archive."""
    _source(options.root, scratch / SOURCE / SOURCE)
    yield SOURCE, scratch / SOURCE
    if options.native:
        _native(options.native, scratch / NATIVE / NATIVE)
        yield NATIVE, scratch / NATIVE
    say(f"fetching wheels for Python {options.python}")
    lines = [line.partition("#")[0].strip() for line in options.requirements.read_text().splitlines()]
    needed = [line for line in lines if line and _normal(line.partition("==")[0]) not in options.have]
    files = [Path(each) for each in options.extra if Path(each).is_file()]
    needed += [each for each in options.extra if not Path(each).is_file()]
    bound = [line for line in _OF_CUDA.get(options.cuda, ()) if _normal(line.partition("==")[0]) not in options.have]
    replaced = {_normal(line.partition("==")[0]) for line in _OF_CUDA.get(options.cuda, ())}
    needed = [line for line in needed if _normal(line.partition("==")[0]) not in replaced]
    yield WHEELS, _fetched(options, scratch / WHEELS, needed, files, bound=bound)
    for version in options.rtx:
        say(f"fetching TensorRT-RTX {version} for CUDA {options.cuda}")
        names = [f"tensorrt_rtx_cu{options.cuda}_{part}=={version}" for part in ("libs", "bindings")]
        yield rtx_group(version), _fetched(options, scratch / version, names, plain=[f"tensorrt_rtx=={version}"])
    fronts = [
        f"tensorrt_rtx_cu{options.cuda}=={version}" for version in options.rtx
    ]  # the modules with the name that counts
    yield FRONTS, _fetched(options, scratch / FRONTS, [], plain=fronts)
    if options.with_ort_gpu:
        say("fetching ONNX Runtime with CUDA")
        yield (
            ORT_GPU,
            _fetched(options, scratch / ORT_GPU, [f"onnxruntime-gpu=={_pinned(options.root, 'onnxruntime')}"]),
        )


def rtx_group(version: str) -> str:
    """Name of the group that holds one version of TensorRT-RTX."""
    return f"{RTX}{version}"


def _group(options: PackOptions, name: str, content: Path, old: Group | None, say: Talk) -> Group:
    """Pack one group, unless it is there already, packed from the same files."""
    folders = {path.name: path for path in sorted(content.iterdir())}
    inputs = {title: _digest(path) for title, path in folders.items()}
    if name.startswith(RTX):
        _keep_licence(content, options.out / LICENCE)
    if old and old.inputs == inputs and not complaints(old, [options.out]):
        say(f"{name}: unchanged")
        return old
    say(f"{name}: compressing")
    group = write_group(options.out, name, folders, inputs, preset=options.preset)
    say(f"{name}: {group.size_bytes / 1e6:.1f} MB in {len(group.parts)} part(s)")
    return group


def _source(root: Path, folder: Path) -> None:
    """Copy the product and its GPU tests, with the metadata that holds its version, as an installation has it."""
    left = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / name, ignore=left)
        else:
            shutil.copy(root / name, folder / name)
    about = _product(root)
    info = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")


def _native(built: Path, folder: Path) -> None:
    """Copy the C++ library by the names that loaders use, and its benchmark."""
    folder.mkdir(parents=True)
    for source, target in (("libdpt.so", "libdpt.so"), ("libdpt.so", "libdpt.so.0"), ("dpt_bench", "dpt_bench")):
        if not (built / source).is_file():
            raise KitError(f"{built} has no {source}: build cpp/ there first, with TENSORRT_ROOT set")
        shutil.copy(built / source, folder / target)


def _digest(folder: Path) -> str:
    found = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        found.update(f"{path.relative_to(folder)} {sha256_of(path)}\n".encode())
    return found.hexdigest()


def _keep_licence(content: Path, target: Path) -> None:
    texts = sorted(content.rglob("LICENSE.txt"))
    if not texts:
        raise KitError("the wheels of TensorRT-RTX hold no LICENSE.txt: a kit goes with NVIDIA's licence or not at all")
    shutil.copy(texts[0], target)


def _sweep(folder: Path, manifest: Manifest) -> None:
    """Remove parts of groups that are no longer packed."""
    named = {part.name for group in manifest.groups for part in group.parts}
    for path in folder.glob("*.tar.xz.*"):
        if path.name not in named:
            path.unlink()


# --- pip --------------------------------------------------------------------------------------------------------------


def _fetched(
    options: PackOptions,
    folder: Path,
    requirements: Sequence[str],
    extra: Sequence[Path] = (),
    *,
    bound: Sequence[str] = (),
    plain: Sequence[str] = (),
) -> Path:
    """Download ``requirements`` for the machine's Python, without dependencies; unpack each into ``folder``.

    ``extra`` are local wheel files. ``bound`` are requirements with versions of their own, not those of the product.
    ``plain`` are source distributions whose wheels run everywhere.
    """
    fetched = folder.with_name(f"{folder.name}-wheels")
    fetched.mkdir(parents=True)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    chosen = [option for platform in platforms for option in ("--platform", platform)]
    target = ["--python-version", options.python, "--implementation", "cp", *chosen]
    if requirements:
        pins = (
            ["-c", str(options.root / "constraints.txt")] if folder.name == WHEELS else []
        )  # the others name versions
        _pip(options, "download", "--no-deps", "--only-binary=:all:", *target, *pins, "-d", str(fetched), *requirements)
    if bound:
        _pip(options, "download", "--no-deps", "--only-binary=:all:", *target, "-d", str(fetched), *bound)
    for requirement in plain:
        _pip(options, "wheel", "--no-deps", "-w", str(fetched), requirement)
    folder.mkdir()
    for wheel in [*sorted(fetched.glob("*.whl")), *extra]:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "-".join(wheel.name.split("-")[:2]))
    return folder


def _pip(options: PackOptions, verb: str, *arguments: str) -> None:
    own = ["--no-index", "--find-links", str(options.wheels)] if options.wheels else []
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "-q", *own, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise KitError(f"pip {verb} failed: {' '.join(errors) or done.stderr.strip()[-500:]}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _product(root: Path) -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return project


def _pinned(root: Path, name: str) -> str:
    found = re.search(rf"^{name}==(\S+)", (root / "constraints.txt").read_text(), re.MULTILINE)
    if found is None:
        raise KitError(f"{root / 'constraints.txt'} pins no {name}: add a line {name}==VERSION")
    return found[1]


def names_in(text: str) -> frozenset[str]:
    """Read names of distributions from ``pip list``, ``pip freeze``, or a list separated by commas or lines."""
    found = (re.match(r"[A-Za-z0-9][\w.-]*", part.strip()) for part in re.split(r"[\n,]", text))
    return frozenset(_normal(match[0]) for match in found if match)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--python", default="3.12", help="the machine's Python (default 3.12)")
    parser.add_argument("--cuda", choices=["12", "13"], default="13", help="major version of CUDA its driver supports")
    parser.add_argument("--rtx", default=",".join(RTX_VERSIONS), help="versions of TensorRT-RTX, in the order to try")
    parser.add_argument("--with-ort-gpu", action="store_true", help="ONNX Runtime with its CUDA provider (large)")
    parser.add_argument("--native", type=Path, help="folder of a C++ build with the TensorRT-RTX back end")
    parser.add_argument("--have", type=Path, help="what the machine has already: its `pip list`, in a file")
    parser.add_argument("--extra", action="append", default=[], help="one more wheel: a file, or NAME==VERSION")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build/gpu-kit", help="default build/gpu-kit")
    given = parser.parse_args(arguments)
    versions = tuple(part for part in given.rtx.split(",") if part)
    try:
        have = names_in(given.have.read_text()) if given.have else frozenset()
        options = PackOptions(
            given.out,
            given.python,
            given.cuda,
            versions,
            given.with_ort_gpu,
            have,
            tuple(given.extra),
            native=given.native,
        )
        manifest = pack(options)
    except (KitError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    total = sum(group.size_bytes for group in manifest.groups)
    print(f"{given.out}: {total / 1e6:.1f} MB. Copy the folder to the machine, and there: bash run.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
