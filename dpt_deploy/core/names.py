"""Names that come out of a file and become file names: one rule for recipes, sidecars, indices and graphs."""

from __future__ import annotations

import re

LONGEST_NAME = 255  # bytes, of the usual file systems
LONGEST_STEM = 200  # bytes of a name that gets a suffix, such as "-fp16.onnx.golden.npz"
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)(\..*)?", re.IGNORECASE)
_FORBIDDEN = frozenset('/\\:*?"<>|')  # separators, drives and streams, and what Windows refuses


def check_file_name(name: str, *, longest: int = LONGEST_NAME) -> str:
    """Return ``name`` if it is the name of a file in a folder, on every system.

    Raises:
        ValueError: it is empty, a path, hidden, a device of Windows, too long, or has characters that no name may have.
    """
    if problem := _problem(name, longest):
        raise ValueError(f"it {problem}; expected the name of a file, without a folder")
    return name


def _problem(name: str, longest: int) -> str:
    size = len(name.encode(errors="replace"))
    found = {
        "is empty": not name,
        "has a separator, or a character that Windows refuses": not _FORBIDDEN.isdisjoint(name),
        "starts with a dot": name.startswith("."),
        "has a control character": not name.isprintable(),
        "starts or ends with a space, or ends with a dot": name != name.strip() or name.endswith("."),
        "is a device of Windows": bool(_DEVICES.fullmatch(name)),
        f"has {size} bytes, more than {longest}": size > longest,
    }
    return next((problem for problem, there in found.items() if there), "")
