"""JSON files read element by element: VQA v2's annotations are 400 MB, and several times that as Python objects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from fedumm.data.layouts.errors import LayoutError, not_utf8

LINES = (".jsonl", ".ndjson")
"""Endings of files with a value on each line; ``.json`` may be one, too."""

CHUNK = 1 << 20

_AFTER_NUMBER = tuple(" \t\r\n,:]}")


class Element(NamedTuple):
    """One element of a list, or a value that is no list; ``key`` of the file's object, empty if the file is none."""

    key: str
    value: Any
    listed: bool = True


def elements(path: Path, chunk: int = CHUNK) -> Iterator[Element]:
    """What is in the file, one element after the other, of which one at a time is in memory.

    Elements are those of the file's list, its lines, or of the lists that are values of its object.

    Args:
        path: a file in UTF-8.
        chunk: characters that are read at a time; more for a single element that is longer.

    Raises:
        LayoutError: it is no JSON, is not in UTF-8, or is nested too deeply.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = path.suffix.lower() in LINES or _object_on_first_line(file, chunk)
            file.seek(0)
            yield from (_lines if lines else _whole)(_Reader(file, chunk))
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{path.name} is no JSON that can be read: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return error.msg if isinstance(error, json.JSONDecodeError) else str(error)


class _Reader:
    """A window on the text that moves with what is read."""

    def __init__(self, file: TextIO, chunk: int) -> None:
        self._chunk, self._file, self._text, self._at, self._ended = chunk, file, "", 0, False
        self._decode = json.JSONDecoder().raw_decode

    def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in " \t\r\n":
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more()

    def skip(self, expected: str) -> None:
        """Go past the character ``expected``."""
        if self.peek() != expected:
            raise ValueError(f"there is {self.peek()[:1] or 'its end'!r} in place of {expected!r}")
        self._at += 1

    def value(self) -> Any:
        """The next value, which a comma, a bracket or the end of the file follows."""
        self.peek()
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except json.JSONDecodeError:
                if self._ended:
                    raise
            else:
                # The window may have ended within a number: 1 of 12, of 1.5 (at the point) or of 1e9 (at the e).
                complete = not isinstance(value, int | float) or self._text[end : end + 1] in _AFTER_NUMBER
                if complete or self._ended:
                    self._at = end
                    return value
            self._more()

    def _more(self) -> None:
        rest = self._text[self._at :]
        new = self._file.read(max(self._chunk, len(rest)))
        self._text, self._at, self._ended = rest + new, 0, not new


def _object_on_first_line(file: TextIO, chunk: int) -> bool:
    """Whether the first line is an object of its own, and something follows it."""
    line = file.readline(chunk)
    try:
        whole = line.endswith("\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False
    return whole and bool(file.read(chunk).strip())


def _lines(reader: _Reader) -> Iterator[Element]:
    while reader.peek():
        yield Element("", reader.value())


def _whole(reader: _Reader) -> Iterator[Element]:
    first = reader.peek()
    if first == "[":
        yield from (Element("", element) for element in _list(reader))
    elif first == "{":
        yield from _object(reader)
    else:
        raise ValueError("it is neither a list nor an object")
    if reader.peek():
        raise ValueError(f"there is {reader.peek()!r} where it should end")


def _list(reader: _Reader) -> Iterator[Any]:
    reader.skip("[")
    while reader.peek() != "]":
        yield reader.value()
        if reader.peek() != "]":
            reader.skip(",")
            if reader.peek() == "]":
                raise ValueError("there is a comma before the end of a list")
    reader.skip("]")


def _object(reader: _Reader) -> Iterator[Element]:
    reader.skip("{")
    while reader.peek() != "}":
        key = reader.value()
        if not isinstance(key, str):
            raise ValueError("a key is no text")
        reader.skip(":")
        if reader.peek() == "[":
            yield from (Element(key, element) for element in _list(reader))
        else:
            yield Element(key, reader.value(), False)
        if reader.peek() != "}":
            reader.skip(",")
    reader.skip("}")
