#!/usr/bin/env python3
"""Pack what a GPU machine without a package registry lacks, into a folder that `run.sh` there works from.

    make gpu-kit
    python kit/pack.py --python 3.12 --cuda 13 --with-ort-gpu --have pip-list.txt -o build/gpu-kit

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

from parts import MANIFEST, Group, KitError, Manifest, complaints, read_manifest, sha256_of, write_group, write_manifest

ROOT = Path(__file__).resolve().parents[1]
RTX_VERSIONS = ("1.7.1.116", "1.6.1.120", "1.4.0.76")  # in the order in which a machine tries them
RTX = "tensorrt-rtx-"
SOURCE = "source"
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
_DRIVER = ("run.sh", "steps.py", "models.py", "work.py", "report.py", "probe.py", "parts.py")
_GLIBC = (17, 24, 26, 27, 28, 31, 34, 35)  # pip takes a platform by its very name
# What must be of the major version of CUDA that the driver supports, where that is not the version in constraints.txt.
_OF_CUDA = {"12": ("cuda-python==12.9.10", "cuda-bindings==12.9.10")}
_TEXT = f"""A kit of dpt-deploy for one GPU machine: see kit/README.md in the repository.

    bash run.sh             # everything, 25 minutes; run it again to go on where it stopped
    bash run.sh --help

For the packer's own use. It holds software of NVIDIA under the licence in {LICENCE} (TensorRT-RTX; accepted by who
packs and by who runs it), and of others under the licences in their *.dist-info folders. Do not publish or pass it on.
"""

Talk = Callable[[str], None]


@dataclass(frozen=True)
class Order:
    """What is to be packed. ``wheels`` is a folder to take distributions from instead of pip's index.

    ``extra`` names more wheels, by file or by requirement.
    """

    out: Path
    python: str = "3.12"
    cuda: str = "13"
    rtx: tuple[str, ...] = RTX_VERSIONS
    with_ort_gpu: bool = False
    have: frozenset[str] = frozenset()
    extra: tuple[str, ...] = ()
    wheels: Path | None = None
    requirements: Path = field(default=ROOT / "kit/wheels.txt")
    root: Path = ROOT
    preset: int | None = None

    @property
    def tag(self) -> str:
        return "cp" + self.python.replace(".", "")


def pack(order: Order, say: Talk = print) -> Manifest:
    """Fill ``order.out``; the manifest is written last. Raises :class:`KitError` for what cannot be had."""
    order.out.mkdir(parents=True, exist_ok=True)
    old = {group.name: group for name in (MANIFEST, DRAFT) for group in _groups_of(order.out, name)}
    (order.out / MANIFEST).unlink(missing_ok=True)  # until it is whole again, it is no kit
    manifest = Manifest(order.tag, _product(order.root)["version"], ())
    with tempfile.TemporaryDirectory(prefix="dpt-deploy-") as scratch:
        for name, content in _wanted(order, Path(scratch), say):
            old[name] = _group(order, name, content, old.get(name), say)
            manifest = replace(manifest, groups=(*manifest.groups, old[name]))
            write_manifest(order.out, replace(manifest, groups=tuple(old.values())), DRAFT)
    _sweep(order.out, manifest)
    for name in _DRIVER:
        shutil.copy(order.root / "kit" / name, order.out)
    (order.out / NOTICE).write_text(_TEXT)
    write_manifest(order.out, manifest)
    (order.out / DRAFT).unlink()
    return manifest


def _groups_of(folder: Path, name: str) -> tuple[Group, ...]:
    """What a former run has packed, a finished one or not."""
    try:
        return read_manifest(folder, name).groups
    except KitError:
        return ()


def _wanted(order: Order, scratch: Path, say: Talk) -> Iterator[tuple[str, Path]]:
    """Each group's name, and a folder with the folders of its archive."""
    _source(order.root, scratch / SOURCE / SOURCE)
    yield SOURCE, scratch / SOURCE
    say(f"fetching wheels for Python {order.python}")
    lines = [line.partition("#")[0].strip() for line in order.requirements.read_text().splitlines()]
    needed = [line for line in lines if line and _normal(line.partition("==")[0]) not in order.have]
    files = [Path(each) for each in order.extra if Path(each).is_file()]
    needed += [each for each in order.extra if not Path(each).is_file()]
    bound = [line for line in _OF_CUDA.get(order.cuda, ()) if _normal(line.partition("==")[0]) not in order.have]
    replaced = {_normal(line.partition("==")[0]) for line in _OF_CUDA.get(order.cuda, ())}
    needed = [line for line in needed if _normal(line.partition("==")[0]) not in replaced]
    yield WHEELS, _fetched(order, scratch / WHEELS, needed, files, bound=bound)
    for version in order.rtx:
        say(f"fetching TensorRT-RTX {version} for CUDA {order.cuda}")
        names = [f"tensorrt_rtx_cu{order.cuda}_{part}=={version}" for part in ("libs", "bindings")]
        yield rtx_group(version), _fetched(order, scratch / version, names, plain=[f"tensorrt_rtx=={version}"])
    fronts = [
        f"tensorrt_rtx_cu{order.cuda}=={version}" for version in order.rtx
    ]  # the modules with the name that counts
    yield FRONTS, _fetched(order, scratch / FRONTS, [], plain=fronts)
    if order.with_ort_gpu:
        say("fetching ONNX Runtime with CUDA")
        yield ORT_GPU, _fetched(order, scratch / ORT_GPU, [f"onnxruntime-gpu=={_pinned(order.root, 'onnxruntime')}"])


def rtx_group(version: str) -> str:
    """The group that holds one version of TensorRT-RTX."""
    return f"{RTX}{version}"


def _group(order: Order, name: str, content: Path, old: Group | None, say: Talk) -> Group:
    """One group of the kit: the one that lies there already where it was made of the same files."""
    folders = {path.name: path for path in sorted(content.iterdir())}
    inputs = {title: _digest(path) for title, path in folders.items()}
    if name.startswith(RTX):
        _keep_licence(content, order.out / LICENCE)
    if old and old.inputs == inputs and not complaints(old, order.out):
        say(f"{name}: unchanged")
        return old
    say(f"{name}: compressing")
    group = write_group(order.out, name, folders, inputs, preset=order.preset)
    say(f"{name}: {group.size_bytes / 1e6:.1f} MB in {len(group.parts)} part(s)")
    return group


def _source(root: Path, folder: Path) -> None:
    """The product and its GPU tests, with the metadata that tells its version as an installation would."""
    left = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _SOURCES:
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        copy(root / name, folder / name, **({"ignore": left} if copy is shutil.copytree else {}))
    about = _product(root)
    info = folder / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n")


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
    order: Order,
    folder: Path,
    requirements: Sequence[str],
    extra: Sequence[Path] = (),
    *,
    bound: Sequence[str] = (),
    plain: Sequence[str] = (),
) -> Path:
    """The distributions of ``requirements`` for the machine's Python, exactly these, each unpacked in ``folder``.

    ``extra`` are wheels that lie here; ``bound`` have versions of their own, whatever the product's are; ``plain`` are
    those that come as source and, once built, run everywhere.
    """
    fetched = folder.with_name(f"{folder.name}-wheels")
    fetched.mkdir(parents=True)
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in _GLIBC] + ["manylinux2014_x86_64", "manylinux1_x86_64"]
    chosen = [option for platform in platforms for option in ("--platform", platform)]
    target = ["--python-version", order.python, "--implementation", "cp", *chosen]
    if requirements:
        pins = ["-c", str(order.root / "constraints.txt")] if folder.name == WHEELS else []  # the others name versions
        _pip(order, "download", "--no-deps", "--only-binary=:all:", *target, *pins, "-d", str(fetched), *requirements)
    if bound:
        _pip(order, "download", "--no-deps", "--only-binary=:all:", *target, "-d", str(fetched), *bound)
    for requirement in plain:
        _pip(order, "wheel", "--no-deps", "-w", str(fetched), requirement)
    folder.mkdir()
    for wheel in [*sorted(fetched.glob("*.whl")), *extra]:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "-".join(wheel.name.split("-")[:2]))
    return folder


def _pip(order: Order, verb: str, *arguments: str) -> None:
    own = ["--no-index", "--find-links", str(order.wheels)] if order.wheels else []
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", verb, "-q", *own, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise KitError(f"pip {verb} failed: {' '.join(errors) or done.stderr.strip()[-500:]}")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _product(root: Path) -> dict[str, Any]:
    return tomllib.loads((root / "pyproject.toml").read_text())["project"]


def _pinned(root: Path, name: str) -> str:
    return re.search(rf"^{name}==(\S+)", (root / "constraints.txt").read_text(), re.MULTILINE)[1]


def names_in(text: str) -> frozenset[str]:
    """Names of distributions in the output of ``pip list``, ``pip freeze``, or a list by commas or lines."""
    found = (re.match(r"[A-Za-z0-9][\w.-]*", part.strip()) for part in re.split(r"[\n,]", text))
    return frozenset(_normal(match[0]) for match in found if match)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--python", default="3.12", help="the machine's Python (default 3.12)")
    parser.add_argument("--cuda", choices=["12", "13"], default="13", help="major version of CUDA its driver supports")
    parser.add_argument("--rtx", default=",".join(RTX_VERSIONS), help="versions of TensorRT-RTX, in the order to try")
    parser.add_argument("--with-ort-gpu", action="store_true", help="ONNX Runtime with its CUDA provider (large)")
    parser.add_argument("--have", type=Path, help="what the machine has already: its `pip list`, in a file")
    parser.add_argument("--extra", action="append", default=[], help="one more wheel: a file, or NAME==VERSION")
    parser.add_argument("-o", "--out", type=Path, default=ROOT / "build/gpu-kit", help="default build/gpu-kit")
    options = parser.parse_args(arguments)
    versions = tuple(part for part in options.rtx.split(",") if part)
    try:
        have = names_in(options.have.read_text()) if options.have else frozenset()
        order = Order(
            options.out, options.python, options.cuda, versions, options.with_ort_gpu, have, tuple(options.extra)
        )
        manifest = pack(order)
    except (KitError, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
        return 1
    total = sum(group.size_bytes for group in manifest.groups)
    print(f"{options.out}: {total / 1e6:.1f} MB. Copy the folder to the machine, and there: bash run.sh")
    return 0


if __name__ == "__main__":
    sys.exit(main())
