"""Text from outside cannot command a terminal."""

import pytest

from dpt_deploy.cli.shared.printable import printable

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("\x1b]52;c;Y3VybA==\x1b\\", "\\x1b]52;c;Y3VybA==\\x1b\\"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("photo\u202egnp.exe", "photo\\u202egnp.exe"),
        ("a\rb\tc", "a\\rb\\tc"),
        ("bad\udcff", "bad\\udcff"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
    ],
)
def test_what_a_terminal_obeys_is_escaped(text, shown):
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["", "tiny-vit", "Übergröße δ1", "深度", "two\nlines", "[bold]"])
def test_other_text_is_left_as_it_is(text):
    assert printable(text) == text
