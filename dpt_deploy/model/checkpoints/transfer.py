"""The transfer of one file by HTTP, which goes on where it broke off. Proxies are taken from the environment."""

from __future__ import annotations

import http.client
import re
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import IO, NoReturn

from dpt_deploy.core.errors import ResourceError
from dpt_deploy.core.files import write_errors
from dpt_deploy.core.progress import TaskProgress

_CHUNK = 1 << 20
_TIMEOUT_S = 30  # of silence
_ATTEMPTS = 4  # an interrupted transfer resumes


def download(address: str, part: Path, transfer: TaskProgress, *, name: str, resumable: bool) -> None:
    """Bring ``part`` to its full length, from where an earlier attempt left it if the download is ``resumable``.

    Raises:
        ResourceError: no network, no such file at the address, disk full; the message has ``name`` and the address.
    """
    error: Exception | None = None
    for _ in range(_ATTEMPTS):
        if not resumable:
            part.unlink(missing_ok=True)  # without a hash a resumed file could not be checked as a whole
        try:
            if _transfer(address, part, transfer):
                return
        except urllib.error.HTTPError as exc:
            exc.close()
            _fail(name, address, f"the server answers {exc.code} {exc.reason}", exc)
        except (OSError, http.client.HTTPException, ValueError) as exc:  # errors of writing are not among these
            error = exc
            if not part.exists():  # nothing has arrived yet: no use in trying again at once
                break
    _fail(name, address, _reason(error), error)


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


def _fail(name: str, address: str, reason: str, error: Exception | None) -> NoReturn:
    raise ResourceError(
        f"cannot download {name} from {address}: {reason}",
        hint="fetch that file elsewhere and give --weights FILE, or use --weights random for timing work",
    ) from error
