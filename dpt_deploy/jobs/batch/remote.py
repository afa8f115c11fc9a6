"""Archives behind a URL: what pyarrow reads itself (S3, Google Cloud, HDFS), and what fsspec reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from dpt_deploy.core.errors import BadFileError, UsageError
from dpt_deploy.core.optional import extra
from dpt_deploy.core.progress import say
from dpt_deploy.jobs.predict.archive.listing import ArchiveEntry

with extra("ray", purpose="reading archives behind a URL"):
    import fsspec
    import pyarrow as pa
    from pyarrow import fs


@dataclass(frozen=True)
class RemoteFolder:
    """Images behind a URL. Each process connects on its own."""

    url: str

    def entries(self, suffixes: frozenset[str], *, recursive: bool) -> list[ArchiveEntry]:
        """The images in order of their paths; hidden files and folders are left out.

        Raises:
            BadFileError: the folder is missing, cannot be read, or holds no image.
            UsageError: nothing reads such a URL.
        """
        system, base = _opened(self.url)
        with _read_errors(self.url):
            listed = system.get_file_info(fs.FileSelector(base, recursive=recursive))
        found, left_out = [], 0
        for info in listed:
            path = info.path.removeprefix(base).lstrip("/")
            if info.type != fs.FileType.File or any(part.startswith(".") for part in path.split("/")):
                continue
            if PurePosixPath(path).suffix.lower() in suffixes:
                found.append(ArchiveEntry(path, info.size or 0, info.mtime_ns or 0))
            else:
                left_out += 1
        if left_out:
            say(f"left out of {self.url}: {left_out} files that are not images")
        if not found:
            raise BadFileError(f"{self.url} holds no image", hint=f"known suffixes: {', '.join(sorted(suffixes))}")
        return sorted(found, key=lambda entry: entry.path)

    def read(self, path: str) -> bytes:
        system, base = _opened(self.url)
        name = f"{base.rstrip('/')}/{path}"
        with _read_errors(name), system.open_input_stream(name) as stream:
            data: bytes = stream.read()
            return data


@cache
def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it."""
    try:
        system, base = fs.FileSystem.from_uri(url)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return _by_fsspec(url)
    except OSError as exc:
        raise _unreadable(url, exc) from exc
    return system, base


def _by_fsspec(url: str) -> tuple[Any, str]:
    try:
        system, base = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as exc:
        raise UsageError(
            f"{url}: {exc}", hint="use a URL that pyarrow or fsspec reads, and install what it asks for"
        ) from exc
    except OSError as exc:
        raise _unreadable(url, exc) from exc
    return fs.PyFileSystem(fs.FSSpecHandler(system)), base


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as exc:
        raise _unreadable(name, exc) from exc


def _unreadable(name: str, error: Exception) -> BadFileError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return BadFileError(f"cannot read {name}: {reason}", hint="check the address, and the rights of this user there")
