"""Published checkpoints, downloaded once into the cache and checked.

Standard library only. Only ``http`` and ``https`` are spoken.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from dpt_deploy.artifact.commit import stage_of
from dpt_deploy.core.disk.private import PrivateFolder, hold_folder, is_own_folder, open_own_file, own_folder
from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, write_errors
from dpt_deploy.core.progress import progress, say
from dpt_deploy.model.checkpoints.pins import mismatch, pin
from dpt_deploy.model.checkpoints.published import PublishedWeights, cache_folder
from dpt_deploy.model.checkpoints.transfer import download

ADDRESS_VARIABLE = "DPT_DEPLOY_WEIGHTS_URL"

_MAX_MARK_BYTES = 1 << 10
_WEB = ("http://", "https://")


def fetch(entry: PublishedWeights) -> Path:
    """The file of ``entry`` in the cache, downloaded when it is not there, with its hash checked.

    An interrupted download resumes at the next call. ``$DPT_DEPLOY_WEIGHTS_URL``, the address of a folder,
    replaces the published source. Where not all digits of the hash are known, the first copy's hash is pinned in the
    cache, and a later copy must have it.

    Raises:
        ResourceError: no network, no such file at the source, disk full; the message names file and address.
        BadFileError: what arrived has another hash than the published or the pinned one (it is removed).
        UsageError: no address is known for the file, or it is not http(s).
    """
    path = cache_folder() / entry.file
    if _is_verified(path, entry):
        return path
    address = _address(entry)
    with write_errors(path):
        _make_cache(path.parent)
    stage = stage_of(path.parent, path.name)
    with _held(stage, entry) as held:
        try:
            if not _is_verified(path, entry):  # it may have come while this process waited
                path.unlink(missing_ok=True)  # damaged since
                _fetch(entry, address, path, stage / path.name)
        finally:
            if not (stage / path.name).exists():
                held.remove()  # else a part, with which the next run goes on
    return path


def _held(stage: Path, entry: PublishedWeights) -> PrivateFolder:
    """Lock the private folder of a download; wait while another process has it."""
    with write_errors(stage):
        held = hold_folder(stage)
        if held is not None:
            return held
        say(f"waiting for another process that downloads {entry.file}")
        return hold_folder(stage, wait=True)


def _fetch(entry: PublishedWeights, address: str, path: Path, part: Path) -> None:
    """Download to ``part``, which stays if the transfer is interrupted, and move it to ``path`` once it is checked."""
    with progress(f"downloading {entry.file}", unit="bytes") as transfer:
        download(address, part, transfer, name=entry.file, resumable=bool(entry.required_sha256))
    if entry.size_bytes and (found := part.stat().st_size) != entry.size_bytes:
        part.unlink()
        raise BadFileError(
            f"{entry.file} from {address} has {found:,} bytes; expected {entry.size_bytes:,}: it was removed",
            hint="run again; if it happens again, the source is not the published file",
        )
    digest = _hash(part)
    if (problem := mismatch(path, digest, entry.required_sha256)) is not None:
        part.unlink()
        raise BadFileError(f"{entry.file} from {address} {problem.found}: it was removed", hint=problem.hint)
    with write_errors(path):
        part.replace(path)
    _remember(path, digest)
    pin(path, digest, entry.required_sha256)
    if entry.second_hand:
        agrees = "the same as" if digest == entry.sha256 else f"{digest[:8]}…, not {entry.sha256[:8]}… as in"
        say(f"{entry.file}: its SHA-256 is {agrees} copies of others; its authors state none")


def _make_cache(folder: Path) -> None:
    """Create the folder of downloads, which others may read; one that exists is taken as it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        own_folder(folder)


def _address(entry: PublishedWeights) -> str:
    folder = os.environ.get(ADDRESS_VARIABLE)
    address = f"{folder.rstrip('/')}/{quote(entry.file)}" if folder else entry.address
    if not address and "/" in entry.file:
        raise UsageError(
            f"{entry.file} is read with the config.json next to it, so one file alone is not fetched",
            hint="fetch that folder of Hugging Face by hand, then give --weights FOLDER",
        )
    if not address:
        raise UsageError(
            f"{entry.file} has no address that a program can fetch: its authors link a web drive",
            hint=f"fetch it by hand (see {entry.family}), then give --weights FILE",
        )
    if not address.startswith(_WEB):
        raise UsageError(
            f"the address {address} is not http or https", hint=f"set {ADDRESS_VARIABLE} to the address of a folder"
        )
    return address


def _is_verified(path: Path, entry: PublishedWeights) -> bool:
    """Return True if a good copy is there. Its hash is computed once for each size and time of change.

    In a folder that others may write to it is computed each time, for they could write the mark as well.
    """
    if not path.is_file():
        return False
    with write_errors(path):
        remembered = _read_mark(path)
        digest = remembered[2] if remembered[:2] == _state(path) and len(remembered) == 3 else _hash(path)
        if mismatch(path, digest, entry.required_sha256) is None:
            _remember(path, digest)
            pin(path, digest, entry.required_sha256)
            return True
    return False


def _mark(path: Path) -> Path:
    return path.with_name(f"{path.name}.verified")


def _read_mark(path: Path) -> list[str]:
    """The words of the mark, if only this user can have written it; else none."""
    if not is_own_folder(path.parent):
        return []
    try:
        with os.fdopen(open_own_file(_mark(path), os.O_RDONLY), "rb") as stream:
            return stream.read(_MAX_MARK_BYTES).decode("ascii", "replace").split()
    except (FileNotFoundError, UsageError):
        return []


def _state(path: Path) -> list[str]:
    status = path.stat()
    return [str(status.st_size), str(status.st_mtime_ns)]


def _remember(path: Path, digest: str) -> None:
    if is_own_folder(path.parent):
        mark = " ".join((*_state(path), digest)).encode("ascii")
        atomic_write_bytes(_mark(path), mark, mode=0o644)


def _hash(path: Path) -> str:
    with write_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
