"""Texts of somebody else's, before they are shown or written: what does not print is escaped, what is long is cut."""

from __future__ import annotations

import re

MOST = 500
"""Characters of a line."""

MOST_OF_LINES = 20_000
"""Characters of a text of several lines, a traceback for instance."""

CUT = "..."

# Of these Python says that they print, though nothing is seen of them: joiners, fillers, variation selectors.
_UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def one_line(text: object, limit: int = MOST) -> str:
    """``text`` on one line of at most ``limit`` characters, ending in ``...`` where it was cut.

    Controls, marks of direction, what has no width, lone surrogates and ends of lines are written as Python writes
    them in a string (``\\x1b``, ``\\u202e``); spaces of any kind as a space.
    """
    given = str(text)
    shown = "".join(map(_seen, given[:limit]))
    if len(given) <= limit and len(shown) <= limit:
        return shown
    return shown[: max(0, limit - len(CUT))] + CUT


def plain_lines(text: object, limit: int = MOST_OF_LINES) -> str:
    """The same of a text whose lines stay. Of a long one the end is kept: there a traceback has its reason."""
    given = str(text)
    lines = given[-limit:].split("\n")
    shown = "\n".join("".join(map(_seen, line)) for line in lines)
    if len(given) <= limit and len(shown) <= limit:
        return shown
    return f"{CUT}\n{shown[-limit:]}"


def is_plain(text: str, limit: int = MOST) -> bool:
    """Whether ``text`` is what :func:`one_line` makes of it: for names, which are compared and may not be changed."""
    return one_line(text, limit) == text


def tag(text: object) -> str:
    """``text`` as one level of a TensorBoard tag, in which a slash begins another."""
    return one_line(text, 100).replace("/", "_")


def _seen(character: str) -> str:
    if character.isprintable() and not _UNSEEN.match(character):
        return character
    if character.isspace() and character not in "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85\u2028\u2029":
        return " "
    return character.encode("unicode_escape", "surrogatepass").decode()
