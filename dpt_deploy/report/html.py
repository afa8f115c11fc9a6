"""HTML by function call: text is escaped at the one door through which everything goes."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

_VOID = frozenset({"img", "meta"})


class Html(str):
    """Markup that is finished; any other string is text."""

    __slots__ = ()


def el(tag: str, *children: str, **attributes: str) -> Html:
    """``<tag …>children</tag>``. An attribute that Python cannot name gets underscores (``class_``, ``aria_label``)."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    opening = "".join(f' {name}="{escape(value)}"' for name, value in names.items())
    if tag in _VOID:
        return Html(f"<{tag}{opening}>")
    return Html(f"<{tag}{opening}>{join(children)}</{tag}>")


def join(parts: Sequence[str]) -> Html:
    """Parts one after the other; what is not :class:`Html` is escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def table(columns: list[str], rows: list[list[str]], *, caption: str = "") -> Html:
    """A table whose first column names the row, in a frame that scrolls where the screen is narrow."""
    head = el("tr", *(el("th", column, scope="col") for column in columns))
    lines = [el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows]
    title = [el("caption", caption)] if caption else []
    return el("div", el("table", *title, el("thead", head), el("tbody", *lines)), class_="scroll", tabindex="0")
