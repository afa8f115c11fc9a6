"""HTML elements by function call; all text is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from importlib.resources import files

_VOID = frozenset({"img", "meta"})


class Html(str):
    """Finished markup; any other string is text to be escaped."""

    __slots__ = ()


def el(tag: str, *children: str, **attributes: str) -> Html:
    """Make ``<tag …>children</tag>``. Underscores in attribute names become hyphens; a trailing one is dropped."""
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    opening = "".join(f' {name}="{escape(value)}"' for name, value in names.items())
    if tag in _VOID:
        return Html(f"<{tag}{opening}>")
    return Html(f"<{tag}{opening}>{join(children)}</{tag}>")


def join(parts: Sequence[str]) -> Html:
    """Join parts; strings that are not :class:`Html` are escaped."""
    return Html("".join(part if isinstance(part, Html) else escape(part) for part in parts))


def whole_page(title: str, main: Html) -> str:
    """A whole document in the style of the studies: one file, without scripts or network access."""
    style = (files("dpt_deploy") / "data" / "report" / "study.css").read_text("utf-8")
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", title),
        el("style", Html(style)),
    )
    return "<!doctype html>\n" + el("html", head, el("body", main), lang="en") + "\n"


def table(columns: list[str], rows: list[list[str]], *, caption: str = "") -> Html:
    """Make a table with row headers in its first column, in a frame that scrolls on narrow screens."""
    head = el("tr", *(el("th", column, scope="col") for column in columns))
    lines = [el("tr", el("th", row[0], scope="row"), *(el("td", cell) for cell in row[1:])) for row in rows]
    title = [el("caption", caption)] if caption else []
    return el("div", el("table", *title, el("thead", head), el("tbody", *lines)), class_="scroll", tabindex="0")
