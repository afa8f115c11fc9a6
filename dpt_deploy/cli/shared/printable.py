"""Text from outside (names of files and tensors, values of sidecars) in a form that is safe to print.

A terminal obeys escape sequences in what it prints: a file name could set its title or fill the clipboard. Characters
that change the direction of text can make a name look like another one.
"""

from __future__ import annotations

import unicodedata

_UNSAFE = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # controls, formats (direction marks), lone surrogates, separators of lines


def printable(text: str) -> str:
    r"""Return ``text`` with every character that a terminal could obey written as an escape, such as ``\x1b``.

    Line feeds stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(char) if unicodedata.category(char) in _UNSAFE and char != "\n" else char for char in text)


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
