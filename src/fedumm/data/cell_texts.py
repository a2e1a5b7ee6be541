"""The texts in a cell of a column, in whatever form a data set holds them: answers, choices, captions.

A text is read without spaces around it. A list, or records with a field of a given name, are all their texts, and so
is one of these that is written as a text, as Python, JSON or numpy (no commas) write it. Numbers of classes are their
names; true and false ``yes`` and ``no``; numbers as short as their type allows. What is null or NaN is left out.
"""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat
from typing import Any

from fedumm.data.column_values import values_of
from fedumm.texts import one_line

_LIST = re.compile(r"""\[\s*(['"{\d\]-]|(null|None|NaN|true|false|True|False)\s*[,\]])""")
_RECORD = re.compile(r"""\{\s*('[^']*'|"[^"]*")\s*:""")
"""How a list or a record begins that is written as a text. What else is in brackets is a text."""

_TUPLE = re.compile(r"""\(\s*['"]""")
_ENDS = {"[": "]", "{": "}", "(": ")"}

_REMEMBERED = 2**16
"""So many texts are read once, and are one object for all rows: most answers repeat."""

_UNREADABLE = (SyntaxError, ValueError, TypeError, LookupError, MemoryError, RecursionError, tokenize.TokenError)


class TextError(ValueError):
    """A cell with no text in it: half a sentence that says why."""


class TextColumn:
    """One column of a ``datasets.Dataset``, and how its cells are read.

    Args:
        name: empty: there is none, and its cells say nothing.
        fields: where in a record the text is, the first that is there.
        blanks: whether blank texts of a list count, and nulls as such.

    Attributes:
        numbers: whether all are whole numbers (not of classes), also those of a column of floats.
        notes: what was read as something else, in words.
    """

    def __init__(self, rows: Any, name: str, fields: Sequence[str] = (), blanks: bool = False) -> None:
        self.name, self.notes = name, list[str]()
        self._rows, self._fields, self._blanks = rows, fields, blanks
        leaf = _leaf(rows.features[name], fields) if name else None
        self._names = getattr(leaf, "names", None)
        self._kind = getattr(leaf, "dtype", "") if self._names is None else ""
        self._whole = self._kind.startswith("float") and all(map(self._is_whole, self.values()))
        self.numbers = self._whole or self._kind.startswith(("int", "uint"))
        if self._whole:
            self.note("numbers such as 2.0 are read as 2")
        if self._names is not None:
            self.note("numbers of classes are read as their names")
        self._text = lru_cache(_REMEMBERED)(self._of_text)

    def values(self) -> Iterator[Any]:
        """Its cells; without a column, nulls without an end."""
        return values_of(self._rows, self.name) if self.name else repeat(None)

    def note(self, text: str) -> None:
        """Add ``text`` to the notes."""
        if (note := f"{self.name}: {text}") not in self.notes:
            self.notes.append(note)

    def read(self, cell: Any) -> list[str]:
        """The texts of a cell, without blank ones.

        Raises:
            TextError: it holds something else.
        """
        if isinstance(cell, str):
            return self._text(cell)
        if cell is None or cell != cell:  # not a number: an empty cell
            return []
        if isinstance(cell, list | tuple):
            return [text for item in cell for text in self._of_item(item)]
        return self.read(self._in_record(cell)) if isinstance(cell, dict) else [*self._of_number(cell)]

    def _of_item(self, item: Any) -> list[str]:
        return [""] if self._blanks and item is None else self.read(item)

    def _in_record(self, record: dict[str, Any]) -> Any:
        for field in self._fields:
            if field in record:
                return record[field]
        wanted = f", nor a record with '{self._fields[0]}'" if self._fields else ""
        raise TextError(f"has in {self.name} neither a text nor a list{wanted}")

    def _of_number(self, number: Any) -> Iterator[str]:
        if isinstance(number, bool):
            self.note("true and false are read as yes and no")
            yield "yes" if number else "no"
        elif isinstance(number, int):
            if self._names is None:
                yield str(number)
            elif number >= 0:
                yield self._names[number].strip()
        elif isinstance(number, float):
            yield str(int(number)) if self._whole else self._shortest(number)
        else:
            raise TextError(f"has a {type(number).__name__} in {self.name}, not a text")

    def _shortest(self, number: float) -> str:
        import numpy as np

        return str(np.dtype(self._kind).type(number)) if self._kind in ("float16", "float32") else str(number)

    def _is_whole(self, cell: Any) -> bool:
        if isinstance(cell, dict):
            return self._is_whole(next((cell[field] for field in self._fields if field in cell), None))
        if isinstance(cell, list):
            return all(map(self._is_whole, cell))
        return cell is None or cell != cell or cell.is_integer()

    def _of_text(self, cell: str) -> list[str]:
        text = cell.strip()
        if text and _ENDS.get(text[0]) == text[-1]:
            if _LIST.match(text) or _RECORD.match(text):
                return self._of_written(text)
            if _TUPLE.match(text) and (found := _tuple(text)):
                self.note("lists written as texts are read as lists")
                return self.read(found)
        return [text] if text or self._blanks else []

    def _of_written(self, text: str) -> list[str]:
        try:
            found = _parsed(text)
            if isinstance(found, dict):
                self.note("records written as texts are read as records")
            else:
                self.note("lists written as texts are read as lists")
                _check_flat(found)
            return self.read(found)
        except TextError:
            raise
        except _UNREADABLE:
            wrong = "a list and is none of texts" if text[0] == "[" else "a record and is none"
            raise TextError(f"has in {self.name} {one_line(text, 60)!r}, which looks like {wrong}") from None


def _leaf(feature: Any, fields: Sequence[str]) -> Any:
    """The type of what texts are read from, within lists and records; None if there is none."""
    if isinstance(feature, dict):
        field = next((field for field in fields if field in feature), None)
        return None if field is None else _leaf(feature[field], fields)
    item = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return feature if item is None else _leaf(item, fields)


def _check_flat(items: list[Any]) -> None:
    """Raise a :class:`ValueError` unless these are texts or records, or nulls, and beside them numbers."""
    said = any(isinstance(item, str | dict | bool) for item in items) or all(item is None for item in items)
    if not said or any(isinstance(item, list | tuple) for item in items):
        raise ValueError


def _tuple(text: str) -> tuple[str, ...] | None:
    """A tuple of texts that is written as ``text``; what else is in round brackets is a text."""
    try:
        found = _literal(text)
    except _UNREADABLE:
        return None
    return found if isinstance(found, tuple) and all(isinstance(item, str) for item in found) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        found = _literal(text)
    if isinstance(found, dict) or any(isinstance(item, dict) for item in found):
        return found
    # Python joins texts without a comma between them, as numpy writes them.
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    written = [_literal(token.string) for token in tokens if token.type == tokenize.STRING]
    texts = [item for item in found if isinstance(item, str)]
    if written == texts:
        return found
    if len(texts) < len(found) or "".join(written) != "".join(texts):
        raise ValueError
    return written


def _literal(text: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes that mean nothing
        return ast.literal_eval(text)
