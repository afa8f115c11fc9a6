"""Ranges of the numbers, and the form of the names, that files may hold; hints that :func:`decode` checks."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated

from dpt_deploy.core.names import LONGEST_NAME, LONGEST_STEM, check_file_name

MAX_CLASSES = 65535  # a label map has 16 bits
MAX_SIDE = 65536  # pixels
MAX_CHANNELS = 65536
MAX_BATCH = 65536


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included unless ``above`` excludes ``low``; never NaN."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    finite: bool = True

    def check(self, value: float) -> None:
        """Raise :class:`ValueError` for a number outside."""
        if self.finite and not math.isfinite(value):
            raise ValueError("expected a finite number")
        if not self.low <= value <= self.high or (self.above and value == self.low):
            raise ValueError(f"expected {self}")

    def __str__(self) -> str:
        low = f"{'more than' if self.above else 'at least'} {self.low:g}" if self.low > -math.inf else ""
        high = f"at most {self.high:,g}" if self.high < math.inf else ""
        return " and ".join(filter(None, (low, high))) or "a number"


@dataclass(frozen=True)
class Anything:
    """Rule of a measured number, which may be infinite or NaN: it is reported, and never computed with."""

    def check(self, value: float) -> None:
        """Accept every number."""


@dataclass(frozen=True)
class FileNameRule:
    """Names of files in the folder of the file that names them; ``optional`` allows the empty text."""

    longest: int = LONGEST_NAME
    optional: bool = False

    def check(self, value: str) -> None:
        """Raise :class:`ValueError` for anything but a file name."""
        if value or not self.optional:
            check_file_name(value, longest=self.longest)


@dataclass(frozen=True)
class Pattern:
    """Text of one form; ``expected`` describes it."""

    form: str
    expected: str

    def check(self, value: str) -> None:
        """Raise :class:`ValueError` for text of another form."""
        if not re.fullmatch(self.form, value, re.ASCII):
            raise ValueError(f"expected {self.expected}")


Count = Annotated[int, Range(1, 1 << 20)]
Natural = Annotated[int, Range(0)]
Side = Annotated[int, Range(1, MAX_SIDE)]
Channels = Annotated[int, Range(1, MAX_CHANNELS)]
Amount = Annotated[float, Range(0)]
Positive = Annotated[float, Range(0, above=True)]
Measured = Annotated[float, Anything()]

FileName = Annotated[str, FileNameRule()]
FileStem = Annotated[str, FileNameRule(LONGEST_STEM)]
OptionalFileName = Annotated[str, FileNameRule(optional=True)]
TimmName = Annotated[
    str, Pattern(r"[a-z][a-z0-9_]{0,79}(\.[a-z0-9_]{1,79})?", "the plain name of an architecture of timm")
]
