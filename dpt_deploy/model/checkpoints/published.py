"""Checkpoints by name: those shipped with the package, and the published ones, downloaded once and checked.

Standard library only. Only ``http`` and ``https`` are spoken; proxies are taken from the environment.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import re
import tomllib
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal, NoReturn
from urllib.parse import quote

from dpt_deploy.artifact.commit import stage_of
from dpt_deploy.core.disk.private import PrivateFolder, hold_folder, is_own_folder, open_own_file, own_folder
from dpt_deploy.core.errors import BadFileError, ResourceError, UsageError
from dpt_deploy.core.files import atomic_write_bytes, write_errors
from dpt_deploy.core.progress import TaskProgress, progress, say
from dpt_deploy.core.spec import ModelTask
from dpt_deploy.model.checkpoints.pins import mismatch, pin
from dpt_deploy.model.families.registry import licence_of

CommercialUse = Literal["yes", "no", "unclear"]

CACHE_VARIABLE = "DPT_DEPLOY_CACHE"
ADDRESS_VARIABLE = "DPT_DEPLOY_WEIGHTS_URL"
SHIPPED_SUFFIX = ".safetensors"

_CHUNK = 1 << 20
_MAX_MARK_BYTES = 1 << 10
_TIMEOUT_S = 30  # of silence
_WEB = ("http://", "https://")
_ATTEMPTS = 4  # an interrupted transfer resumes


@dataclass(frozen=True)
class PublishedWeights:
    """One entry of ``data/weights.toml``; ``address`` is empty, and ``size_bytes`` 0, where it is not known.

    ``sha256`` has all 64 digits, the first 8, or none. It is ``second_hand`` where only others than the authors state
    it: it recognises a file, but a download is not refused for it. ``commercial`` says whether the weights may be used
    commercially, and ``training_data`` why.
    """

    file: str
    address: str
    sha256: str
    size_bytes: int
    family: str
    recipe: str
    task: ModelTask
    default: bool
    licence: str
    commercial: CommercialUse
    training_data: str
    second_hand: bool = False

    @property
    def required_sha256(self) -> str:
        """The digits that a download must have; empty where the authors state none."""
        return "" if self.second_hand else self.sha256

    @property
    def checked(self) -> str:
        """The check that a download passes, as a sidecar states it."""
        return f"{len(self.required_sha256)} digits" if self.required_sha256 else "length"

    @property
    def name(self) -> str:
        """The file's name without its suffix, which ``--weights`` takes as well."""
        return str(PurePosixPath(self.file).with_suffix(""))


@cache
def published() -> tuple[PublishedWeights, ...]:
    """Every published checkpoint that the zoo can build."""
    table = tomllib.loads((files("dpt_deploy") / "data" / "weights.toml").read_text(encoding="utf-8"))
    return tuple(_entry(entry, table["training"]) for entry in table["weights"])


def _entry(entry: dict[str, Any], training: dict[str, Any]) -> PublishedWeights:
    found = {"licence": licence_of(entry["family"]), **entry}
    terms = training[found.pop("training")]
    return PublishedWeights(**found, commercial=terms["commercial"], training_data=terms["data"])


def default_for(recipe_name: str, task: ModelTask) -> PublishedWeights:
    """The checkpoint of a recipe when the user names none.

    Raises:
        UsageError: none was published, or those that were are taken by name only, because of their licence.
    """
    found = [entry for entry in published() if (entry.recipe, entry.task) == (recipe_name, task)]
    for entry in found:
        if entry.default:
            return entry
    if found:
        raise UsageError(
            f"the weights of {recipe_name!r} are under {found[0].licence} (commercial use: {found[0].commercial}), "
            "so they are taken by name only",
            hint=f"if your use is permitted, give --weights {found[0].file}; or --weights random for timing work",
        )
    have = sorted({entry.recipe for entry in published() if entry.task == task})
    raise UsageError(
        f"no {task} checkpoint of {recipe_name!r} was published",
        hint=f"give --weights FILE, or --weights random for timing work; published for {task}: {', '.join(have)}",
    )


def find(name: str) -> PublishedWeights | None:
    """The entry with this file name, with or without its suffix; None when there is none."""
    return next((entry for entry in published() if name in (entry.file, entry.name)), None)


def with_hash(sha256: str) -> PublishedWeights | None:
    """The published file with this full SHA-256, as far as its digits are known; None when there is none."""
    return next((entry for entry in published() if entry.sha256 and sha256.startswith(entry.sha256)), None)


def shipped_path(name: str) -> Path | None:
    """The file of a model whose weights ship with the package, by its name with or without suffix; else None."""
    known = {path.stem: path for path in shipped()}
    return known.get(name.removesuffix(SHIPPED_SUFFIX))


def shipped() -> list[Path]:
    """Every checkpoint that ships with the package; the stem is the recipe's name. Their licence is the package's."""
    folder = Path(str(files("dpt_deploy") / "data" / "weights"))
    return sorted(folder.glob(f"*{SHIPPED_SUFFIX}"))


def cache_folder() -> Path:
    """The folder of downloads: ``$DPT_DEPLOY_CACHE``, else ``$XDG_CACHE_HOME/dpt-deploy``, else ``~/.cache/…``."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own) / "weights"
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "dpt-deploy" / "weights"


def is_cached(entry: PublishedWeights) -> bool:
    """True if the cache has a copy of the file; :func:`fetch` checks its hash."""
    return (cache_folder() / entry.file).is_file()


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
        if held is None:
            say(f"waiting for another process that downloads {entry.file}")
            held = hold_folder(stage, wait=True)
    if held is None:
        raise ResourceError(f"{stage} cannot be locked", hint="run again")
    return held


def _fetch(entry: PublishedWeights, address: str, path: Path, part: Path) -> None:
    """Download to ``part``, which stays if the transfer is interrupted, and move it to ``path`` once it is checked."""
    with progress(f"downloading {entry.file}", unit="bytes") as transfer:
        _download(entry, address, part, transfer)
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


# --- the verified copy ------------------------------------------------------------------------------------------------


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


# --- the transfer -----------------------------------------------------------------------------------------------------


def _download(entry: PublishedWeights, address: str, part: Path, transfer: TaskProgress) -> None:
    """Bring ``part`` to its full length, from where an earlier attempt left it."""
    error: Exception | None = None
    for _ in range(_ATTEMPTS):
        if not entry.required_sha256:
            part.unlink(missing_ok=True)  # without a hash a resumed file could not be checked as a whole
        try:
            if _transfer(address, part, transfer):
                return
        except urllib.error.HTTPError as exc:
            exc.close()
            _fail(entry, address, f"the server answers {exc.code} {exc.reason}", exc)
        except (OSError, http.client.HTTPException, ValueError) as exc:  # errors of writing are not among these
            error = exc
            if not part.exists():  # nothing has arrived yet: no use in trying again at once
                break
    _fail(entry, address, _reason(error), error)


def _transfer(address: str, part: Path, transfer: TaskProgress) -> bool:
    """One request that appends to ``part``; whether the file is complete now."""
    start = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "dpt-deploy"})  # noqa: S310 - scheme is checked
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        response = _opener().open(request, timeout=_TIMEOUT_S)
    except urllib.error.HTTPError as exc:
        if exc.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE or not start:
            raise
        total = re.fullmatch(r"bytes \*/(\d+)", exc.headers.get("Content-Range", ""))
        exc.close()
        if total and int(total[1]) == start:
            return True
        part.unlink()
        return False
    with response:
        start = _resumed_at(response, start)
        length = response.headers.get("Content-Length")
        total_bytes = start + int(length) if length and length.isdecimal() else None
        done = _copy(response, part, start, total_bytes, transfer)
    return total_bytes is None or done == total_bytes


def _resumed_at(response: http.client.HTTPResponse, start: int) -> int:
    """The offset at which the body begins: ``start`` when the server honours the range, else 0."""
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    honoured = response.status == http.HTTPStatus.PARTIAL_CONTENT and found is not None and int(found[1]) == start
    return start if honoured else 0


def _copy(source: IO[bytes], part: Path, start: int, total: int | None, transfer: TaskProgress) -> int:
    done = start
    with write_errors(part):
        file = part.open("ab" if start else "wb")
    with file:
        while chunk := source.read(_CHUNK):
            with write_errors(part):
                file.write(chunk)
                file.flush()
            done += len(chunk)
            transfer.update(done=done, total=total)
    return done


@cache
def _opener() -> urllib.request.OpenerDirector:
    """The default URL handlers without those for files and FTP, so that no redirect leads there."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPRedirectHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.UnknownHandler,
    ):
        opener.add_handler(handler())
    return opener


def _reason(error: Exception | None) -> str:
    if error is None:
        return "the connection was interrupted several times"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return f"no connection ({cause})" if str(cause) else f"no connection ({type(cause).__name__})"


def _fail(entry: PublishedWeights, address: str, reason: str, error: Exception | None) -> NoReturn:
    raise ResourceError(
        f"cannot download {entry.file} from {address}: {reason}",
        hint="fetch that file elsewhere and give --weights FILE, or use --weights random for timing work",
    ) from error
