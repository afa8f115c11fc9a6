"""onnxruntime-web of a pinned version: fetched by npm and checked, or taken from a folder."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

from dpt_deploy.core.errors import BadFileError, ResourceError

VERSION = "1.30.0"
# The registry's integrity value of that version.
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
FILES = (
    "ort.wasm.min.mjs",
    "ort-wasm-simd-threaded.mjs",
    "ort-wasm-simd-threaded.wasm",
    "ort.webgpu.min.mjs",
    "ort-wasm-simd-threaded.asyncify.mjs",
    "ort-wasm-simd-threaded.asyncify.wasm",
)
_NPM_SECONDS = 300


def copy_runtime(source: Path, out: Path) -> None:
    """Copy the files of the package in the folder ``source`` (that of its package.json) to the new folder ``out``.

    Raises:
        BadFileError: the folder is not the package in the pinned version.
    """
    manifest = source / "package.json"
    try:
        found = json.loads(manifest.read_bytes())
        name = f"{found['name']} {found['version']}"
    except (OSError, ValueError, KeyError, TypeError) as exc:
        raise BadFileError(f"{manifest} cannot be read: {exc}", hint=_hint()) from exc
    if name != f"onnxruntime-web {VERSION}":
        raise BadFileError(f"{source} is {name}; expected onnxruntime-web {VERSION}", hint=_hint())
    out.mkdir()
    for file in FILES:
        if not (source / "dist" / file).is_file():
            raise BadFileError(f"{source} has no dist/{file}", hint=_hint())
        shutil.copyfile(source / "dist" / file, out / file)


def fetch_runtime(scratch: Path) -> Path:
    """Fetch the package by npm into the folder ``scratch``, check its hash, and return its unpacked folder.

    Raises:
        ResourceError: npm is not installed, or cannot fetch it.
        BadFileError: the archive has another hash.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise ResourceError("npm is not installed; it fetches onnxruntime-web", hint=_hint())
    command = [npm, "pack", "--silent", "--ignore-scripts", f"onnxruntime-web@{VERSION}"]
    try:
        done = subprocess.run(  # noqa: S603  no shell, and nothing from outside in the command
            command, cwd=scratch, capture_output=True, text=True, timeout=_NPM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise ResourceError(f"npm did not answer within {_NPM_SECONDS} s", hint=_hint()) from exc
    archive = scratch / f"onnxruntime-web-{VERSION}.tgz"
    if done.returncode or not archive.is_file():
        lines = done.stderr.strip().splitlines()
        raise ResourceError(f"npm cannot fetch onnxruntime-web: {lines[0] if lines else 'no message'}", hint=_hint())
    check_integrity(archive)
    with tarfile.open(archive) as packed:
        packed.extractall(scratch, filter="data")
    return scratch / "package"


def check_integrity(archive: Path) -> None:
    """Compare the SHA-512 of ``archive`` with the pinned one.

    Raises:
        BadFileError: it differs.
    """
    found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if found != INTEGRITY:
        raise BadFileError(f"{archive.name} has the hash {found}; expected {INTEGRITY}", hint="fetch it again")


def _hint() -> str:
    return (
        f"on a machine with a network: npm pack onnxruntime-web@{VERSION}; unpack it and give --onnxruntime-web FOLDER"
    )
