"""Tensors from a checkpoint file or folder, without ever running code that the file carries.

PyTorch files are read by ``torch.load(weights_only=True)``, memory-mapped where the format allows it, so that a model
built from the result costs its weights once. The first bytes of a file decide its format: names mislead.
"""

from __future__ import annotations

import pickle
import re
import stat
import struct
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dpt_deploy.artifact.commit import recover
from dpt_deploy.core.documents import parse_json, read_regular
from dpt_deploy.core.errors import BadFileError, ResourceError
from dpt_deploy.core.files import atomic_path, check_text_path
from dpt_deploy.core.limits import JSON, PICKLE, UNPACKED
from dpt_deploy.core.names import check_file_name
from dpt_deploy.model.checkpoints.pickles import foreign_globals
from dpt_deploy.model.checkpoints.state_dicts import StateDict, find_state_dict

FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# One of these with a variant, such as model.fp16.safetensors; shards are named by an index.
_VARIANT = re.compile(
    r"(pytorch_)?model(\.\w+)?\.(safetensors|bin)|(pytorch_)?model\.(safetensors|bin)\.index\.(\w+\.)?json"
)
_RATIO = 4  # weights do not shrink to a quarter
_ENCRYPTED = 1  # flag of a member of a zip archive
STAGED = "huggingface"  # name of the private folder in which a Hugging Face folder is prepared
_WRITTEN = ("model.safetensors", "preprocessor_config.json", "config.json")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
_LEGACY = re.compile(rb"\x80[\x02-\x05](\x95.{8})?\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19", re.DOTALL)  # torch.save before 1.6

# What torch.load and the pickle machine raise on damaged input; a weights-only load runs nothing, whatever is inside.
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OSError,
    OverflowError,
    AssertionError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: tensors by the file's own keys, the files (for hashing), and the network's description.

    ``entry`` is the place of the network in a training checkpoint, ``others`` are those of further networks, and
    ``unused`` has everything that is not of the network, with the reason. ``config`` is Hugging Face's ``config.json``,
    ``metadata`` the text header of a safetensors file.
    """

    source: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    unused: tuple[tuple[str, str], ...]
    config: dict[str, Any] | None
    metadata: dict[str, str]
    entry: str = ""
    others: tuple[str, ...] = ()


def read_checkpoint(source: Path, entry: str = "") -> Checkpoint:
    """The tensors of a PyTorch or safetensors file, or of a Hugging Face folder (sharded or not).

    ``entry`` chooses one of several networks in a training checkpoint, such as ``model_ema``.

    Raises:
        BadFileError: missing, empty, truncated, not a checkpoint, a pickle that would run code, or without ``entry``.
        UsageError: the path is no UTF-8 text.
    """
    check_text_path(source)
    weights = _folder_file(source) if source.is_dir() else source
    files = _shards(weights) if weights.suffix == ".json" and _VARIANT.fullmatch(weights.name) else (weights,)
    entries: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for file in files:
        shard, metadata = _read_file(file)
        entries |= shard
    config = weights.with_name("config.json")
    described = _VARIANT.fullmatch(weights.name) and config.is_file()
    found = find_state_dict(entries, source, entry)
    tensors = _tensors(source, found, entries)
    unused = (*((key, "not a tensor") for key in found.values if key not in tensors), *found.unused)
    return Checkpoint(
        source, files, tensors, unused, read_json(config) if described else None, metadata, found.entry, found.others
    )


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; raise :class:`BadFileError` if it holds none."""
    raw = read_regular(path, JSON, what="description", hint="copy the file again from its source")
    try:
        value = parse_json(raw)
    except ValueError as exc:
        raise BadFileError(f"{path} is not valid JSON: {exc}", hint="copy the file again from its source") from exc
    if not isinstance(value, dict):
        raise BadFileError(f"{path} holds a {type(value).__name__}; expected an object", hint="copy the file again")
    return value


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        ResourceError: the folder is not writable, or the disk is full.
    """
    contiguous = {key: tensor.contiguous() for key, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(contiguous, temporary, metadata=metadata)
        except (SafetensorError, OSError) as exc:
            raise ResourceError(
                f"cannot write {path}: {exc}", hint="check that the folder is there, writable, and has space"
            ) from exc


def _folder_file(folder: Path) -> Path:
    """The weights in a Hugging Face folder, or the index of their shards; a variant only if there is nothing else."""
    recover(folder, STAGED, lambda name: name in _WRITTEN)
    name = next((name for name in FOLDER_FILES if (folder / name).is_file()), None)
    if name is not None:
        return folder / name
    try:
        variants = sorted(path for path in folder.iterdir() if _VARIANT.fullmatch(path.name) and path.is_file())
    except OSError as exc:
        raise BadFileError(f"folder {folder} cannot be read: {exc.strerror}", hint="check its permissions") from exc
    if len(variants) == 1:
        return variants[0]
    if variants:
        raise BadFileError(
            f"folder {folder} has weights in {len(variants)} variants: {', '.join(path.name for path in variants)}",
            hint=f"name one of them, for example {variants[0]}",
        )
    raise BadFileError(
        f"folder {folder} has no weights; expected one of {', '.join(FOLDER_FILES)}",
        hint="give a checkpoint file, or a folder as Hugging Face's save_pretrained writes it",
    )


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadFileError(f"{index} has no 'weight_map' of file names", hint="copy the folder again from its source")
    shards = sorted(set(names.values()))
    for shard in shards:
        try:
            check_file_name(shard)
        except ValueError as exc:
            raise BadFileError(f"{index} names {shard!r}: {exc}", hint="do not trust this folder") from exc
    return tuple(index.with_name(shard) for shard in shards)


def _tensors(source: Path, found: StateDict, entries: Mapping[str, Any]) -> dict[str, Tensor]:
    tensors = {key: value for key, value in found.values.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BadFileError(
            f"{source} holds no tensors (its entries: {', '.join(map(str, list(entries)[:4])) or 'none'})",
            hint="expected a state dict: names to tensors",
        )
    strange = next((key for key, value in tensors.items() if value.layout != torch.strided or value.is_quantized), None)
    if strange:
        raise BadFileError(f"{source}: {strange} is sparse or quantised", hint="expected dense floating-point weights")
    hollow = next((key for key, value in tensors.items() if value.device.type != "cpu"), None)
    if hollow:
        raise BadFileError(
            f"{source}: {hollow} has a shape but no values (device {tensors[hollow].device.type})",
            hint="save the weights again, from a model that has them",
        )
    return tensors


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise BadFileError(f"{path} is not a regular file", hint="give the path of a checkpoint file or folder")
        with path.open("rb") as file:
            head = file.read(512)
    except FileNotFoundError as exc:
        raise BadFileError(f"{path} does not exist", hint="give the path of a checkpoint file or folder") from exc
    except OSError as exc:
        raise BadFileError(f"{path} cannot be read: {exc.strerror}", hint="check the path and its permissions") from exc
    if head.startswith(b"PK\x03\x04"):
        return _read_zip(path), {}
    if _LEGACY.match(head):
        return _read_torch(path, mmap=False), {}
    if _PICKLE.match(head):
        _refuse_code(path)
        raise BadFileError(f"{path} is a pickle, but not one of torch.save", hint="torch.save(model.state_dict(), …)")
    if len(head) >= 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    raise BadFileError(
        f"{path} is not a checkpoint: it {_looks_like(head)}",
        hint="expected a file of torch.save or safetensors; download it again from the address in the documentation",
    )


_MAGICS = (
    (b"\x89PNG", "is a PNG image"),
    (b"\xff\xd8\xff", "is a JPEG image"),
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself (git lfs pull fetches it)"),
    (b"<", "is a web page"),
)


def _looks_like(head: bytes) -> str:
    if not head:
        return "is empty"
    for magic, what in _MAGICS:
        if head.lstrip().startswith(magic):
            return what
    text = all(byte in b"\t\n\r\f" or 32 <= byte < 127 for byte in head)
    return "is a text file" if text else f"starts with the bytes {head[:4].hex(' ')}"


def _read_zip(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = [member.filename for member in members]
            packing = {member.compress_type for member in members}
            locked = any(member.flag_bits & _ENCRYPTED for member in members)
    except _DAMAGE as exc:
        _fail_damaged(path, exc)
    if any(name.endswith("/constants.pkl") for name in names):
        raise BadFileError(
            f"{path} is a TorchScript archive: a program, not only weights", hint="give the state dict it was made from"
        )
    if not any(name.endswith("/data.pkl") for name in names):
        raise BadFileError(
            f"{path} is a zip archive, but not a checkpoint (it holds {names[0] if names else 'nothing'})",
            hint="unpack it, and give the checkpoint inside",
        )
    for member in members:
        if member.filename.endswith(".pkl"):
            PICKLE.check(f"{path}: {member.filename}", member.file_size)
    unpacked = sum(member.file_size for member in members)
    if unpacked > _RATIO * path.stat().st_size:
        UNPACKED.check(path, unpacked)
    if locked or packing - {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise BadFileError(
            f"{path} was packed again {'with a password' if locked else 'by a method that PyTorch does not read'}",
            hint="unpack it, and pack it without compression (zip -0), or save the weights again",
        )
    # PyTorch writes members as they are. An archive that was packed again may be compressed, and mapped memory would
    # then hold its compressed bytes.
    return _read_torch(path, mmap=packing <= {zipfile.ZIP_STORED})


def _read_torch(path: Path, *, mmap: bool) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the protocol of a pickle that is refused anyway
            loaded = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mmap)
    except _DAMAGE as exc:
        if isinstance(exc, pickle.UnpicklingError):
            _refuse_code(path, exc)
        _fail_damaged(path, exc)
    except MemoryError as exc:
        raise ResourceError(
            f"{path} needs more memory than is available", hint="free some; or the file is damaged: copy it again"
        ) from exc
    if not isinstance(loaded, dict):
        raise BadFileError(
            f"{path} holds a {type(loaded).__name__}; expected a state dict", hint="torch.save(model.state_dict(), …)"
        )
    return loaded


def _read_safetensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, *_DAMAGE) as exc:
        _fail_damaged(path, exc)


def _fail_damaged(path: Path, exc: BaseException) -> NoReturn:
    reason = " ".join(str(exc).split())[:120]
    raise BadFileError(
        f"{path} is damaged or cut short ({path.stat().st_size:,} bytes): {reason}",
        hint="compare its size with the source's, and copy or download it again",
    ) from exc


def _refuse_code(path: Path, cause: BaseException | None = None) -> None:
    """Raise when the pickle names anything but tensors and containers."""
    code = foreign_globals(path)
    if code:
        raise BadFileError(
            f"{path} is a pickle that would run code ({', '.join(code[:3])}); refused, and nothing of it was run",
            hint="do not trust it; if it is your own, save only its weights: torch.save(model.state_dict(), …)",
        ) from cause
