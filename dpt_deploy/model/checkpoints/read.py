"""Tensors from a checkpoint file or folder, without ever running code that the file carries.

PyTorch files are read by ``torch.load(weights_only=True)``, memory-mapped where the format allows it, so that a model
built from the result costs its weights once. The first bytes of a file decide its format: names mislead.
"""

from __future__ import annotations

import json
import pickle
import re
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

from dpt_deploy.core.errors import BadFileError, ResourceError
from dpt_deploy.core.files import atomic_path
from dpt_deploy.model.checkpoints.pickles import foreign_globals

FOLDER_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_WRAPPERS = ("model", "state_dict", "model_state_dict")  # where training scripts keep the weights
_PREFIXES = ("module.", "_orig_mod.", "model.")  # of DistributedDataParallel, torch.compile and Lightning
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

    ``ignored`` are entries that are no tensors. ``config`` is Hugging Face's ``config.json``, ``metadata`` the text
    header of a safetensors file.
    """

    source: Path
    files: tuple[Path, ...]
    tensors: dict[str, Tensor]
    ignored: tuple[str, ...]
    config: dict[str, Any] | None
    metadata: dict[str, str]


def read_checkpoint(source: Path) -> Checkpoint:
    """The tensors of a PyTorch or safetensors file, or of a Hugging Face folder (sharded or not).

    Raises:
        BadFileError: missing, empty, truncated, not a checkpoint, or a pickle that would run code.
    """
    if source.is_dir():
        return _read_folder(source)
    entries, metadata = _read_file(source)
    config = source.with_name("config.json")
    in_folder = source.name in FOLDER_FILES and config.is_file()
    return _checkpoint(source, (source,), entries, read_json(config) if in_folder else None, metadata)


def read_json(path: Path) -> dict[str, Any]:
    """Read the object in a JSON file; raise :class:`BadFileError` if it holds none."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as exc:
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


def _read_folder(folder: Path) -> Checkpoint:
    name = next((name for name in FOLDER_FILES if (folder / name).is_file()), None)
    if name is None:
        raise BadFileError(
            f"folder {folder} has no weights; expected one of {', '.join(FOLDER_FILES)}",
            hint="give a checkpoint file, or a folder as Hugging Face's save_pretrained writes it",
        )
    files = _shards(folder / name) if name.endswith(".index.json") else (folder / name,)
    entries: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    for file in files:
        shard, metadata = _read_file(file)
        entries |= shard
    config = folder / "config.json"
    return _checkpoint(folder, files, entries, read_json(config) if config.is_file() else None, metadata)


def _shards(index: Path) -> tuple[Path, ...]:
    names = read_json(index).get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise BadFileError(f"{index} has no 'weight_map' of file names", hint="copy the folder again from its source")
    shards = sorted(set(names.values()))
    for shard in shards:
        if Path(shard).name != shard:
            raise BadFileError(f"{index} names {shard!r}, which is outside the folder", hint="do not trust this folder")
    return tuple(index.with_name(shard) for shard in shards)


def _checkpoint(
    source: Path, files: tuple[Path, ...], entries: dict[str, Any], config: dict[str, Any] | None, meta: dict[str, str]
) -> Checkpoint:
    weights = _strip_prefix(_unwrap(entries))
    tensors = {key: value for key, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise BadFileError(
            f"{source} holds no tensors (its entries: {', '.join(map(str, list(entries)[:4])) or 'none'})",
            hint="expected a state dict: names to tensors",
        )
    strange = next((key for key, value in tensors.items() if value.layout != torch.strided or value.is_quantized), None)
    if strange:
        raise BadFileError(f"{source}: {strange} is sparse or quantised", hint="expected dense floating-point weights")
    return Checkpoint(source, files, tensors, tuple(key for key in weights if key not in tensors), config, meta)


def _unwrap(entries: dict[str, Any]) -> dict[str, Any]:
    """The state dict inside a training checkpoint; the original's rule ("optimizer" next to "model") is one case."""
    for _ in range(3):  # bounded: a crafted file can hold itself
        inner = next((entries[name] for name in _WRAPPERS if isinstance(entries.get(name), dict)), None)
        if inner is None:
            break
        entries = inner
    return entries


def _strip_prefix(entries: dict[str, Any]) -> dict[str, Any]:
    for prefix in _PREFIXES:
        if entries and all(str(key).startswith(prefix) for key in entries):
            return _strip_prefix({key.removeprefix(prefix): value for key, value in entries.items()})
    return {str(key): value for key, value in entries.items()}


def _read_file(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
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
            names = archive.namelist()
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
    return _read_torch(path, mmap=True)


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
    except (SafetensorError, OSError) as exc:
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
