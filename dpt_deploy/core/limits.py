"""Limits on what a file may make this program read or allocate, checked before memory is taken.

A small file can ask for much: a compressed member, a declared shape, a nested table. Each limit lies far above honest
files. Its environment variable raises it for a file that the user trusts.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from dpt_deploy.core.errors import BadFileError, UsageError

MAX_NESTING = 64  # levels of tables and lists in a TOML or JSON file
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_BYTES = re.compile(r"(\d{1,15})([KMGT]?)")


@dataclass(frozen=True)
class Limit:
    """Largest number of bytes that one kind of data may have.

    Attributes:
        variable: environment variable that replaces the default: bytes, or a number with K, M, G or T.
        default: bytes.
        what: the data, for messages.
    """

    variable: str
    default: int
    what: str

    @property
    def bytes(self) -> int:
        """The limit in force.

        Raises:
            UsageError: the environment variable is not a number of bytes.
        """
        text = os.environ.get(self.variable, "").strip()
        if not text:
            return self.default
        match = _BYTES.fullmatch(text.upper())
        if match is None:
            raise UsageError(
                f"{self.variable} is {text[:40]!r}; expected a number of bytes", hint=f"for example {self.variable}=2G"
            )
        return int(match[1]) * _UNITS[match[2]]

    def check(self, source: object, found: int) -> None:
        """Refuse ``source`` if it would need more than the limit.

        Raises:
            BadFileError: ``found`` bytes are more than the limit.
        """
        if found > self.bytes:
            raise BadFileError(
                f"{source} has {found:,} bytes of {self.what}; expected at most {self.bytes:,}",
                hint=f"it may be damaged or made to exhaust memory; if you trust it, set {self.variable} (e.g. 2G)",
            )


TOML = Limit("DPT_DEPLOY_MAX_TOML", 1 << 20, "TOML text")
JSON = Limit("DPT_DEPLOY_MAX_JSON", 16 << 20, "JSON text")
RECORD = Limit("DPT_DEPLOY_MAX_RECORD", 256 << 20, "recorded results")
PICKLE = Limit("DPT_DEPLOY_MAX_PICKLE", 16 << 20, "a table of tensors (pickle)")
UNPACKED = Limit("DPT_DEPLOY_MAX_UNPACKED", 1 << 30, "compressed data")
GOLDEN = Limit("DPT_DEPLOY_MAX_GOLDEN", 2 << 30, "golden tensors")
OUTPUT = Limit("DPT_DEPLOY_MAX_OUTPUT", 4 << 30, "an output")
IMAGE = Limit("DPT_DEPLOY_MAX_IMAGE", 512 << 20, "pixels (RGB)")
LIMITS = (TOML, JSON, RECORD, PICKLE, UNPACKED, GOLDEN, OUTPUT, IMAGE)
