"""Text from WordPiece tokens, as people write it: "x-ray", "don't", "3.5", "(left)".

A BERT tokenizer cuts at every space and around every punctuation mark, and forgets which it was. Its usual decoder
joins with spaces ("x - ray", "10 : 30", "( left )"). Here the spaces that a writer would not type are taken out again.
The text that comes out has the tokens that went in, since a mark stands alone with spaces around it or without.
"""

from __future__ import annotations

import re
from typing import Any

from tokenizers import Regex, decoders, models

_IN_WORDS = "-/_@^\\–"  # noqa: RUF001
"""Marks between two words that most often make one of them: x-ray, a/b, t2_flair."""


def _quotes(mark: str, inside: str) -> list[tuple[str, str]]:
    """No space before a closing mark or after an opening one; of an odd number of marks the last closes.

    Args:
        inside: pattern of what may stand between two marks.
    """
    even = rf"(?:(?:{inside})*+{mark}(?:{inside})*+{mark})*+(?:{inside})*+\z"
    return [(rf" (?={mark}{even})", ""), (rf"(?<=\A{mark}|\s{mark}) (?=(?:{inside})*+{mark}{even})", "")]


RULES: list[tuple[str, str]] = [
    # don't, women's, o'clock, l'eau
    (r"(?<=\w) ' (?=(?:s|t|d|m|re|ve|ll|em|all|clock)\b)", "'"),
    (r"(?<=\bo|\bd|\bl|\bO|\bD|\bL) ' (?=\w)", "'"),
    (r"(?<=\w) ’ (?=\w)", "’"),  # noqa: RUF001
    *((rf"(?<=\w) {re.escape(mark)} (?=\w)", mark) for mark in _IN_WORDS),
    (r"(?<=[-–+]) (?=[-–+])", ""),  # noqa: RUF001
    (r" (?=\+\+(?!\w))", ""),
    (r" : / / (?=\w)", "://"),
    # 3.5, 1,000, 10:30, -5, .5
    (r"(?<=\d) \. (?=\d)", "."),
    (r"(?<=\d) , (?=\d\d\d(?!\w))", ","),
    (r"(?<=\d) : (?=\d)", ":"),
    (r"\A- (?=\d)", "-"),
    (r"\A\. (?=\d)", "."),
    # u.s., p.m., example.com
    (r"(?<=\b[a-zA-Z]) \. (?=[a-zA-Z](?: \.|\z))", "."),
    (r"(?<=\w) \. (?=(?:com|org|net|edu|gov|io)\b)", "."),
    # 5%, $5, #1, (left)
    (r" (?=[%)\]}])|(?<=[(\[{¿¡]) |(?<=[$€£¥#~]) (?=\w)", ""),
    # no, thanks; it is red.
    (r" (?=[,.;:!?…])", ""),
    *_quotes('"', '[^"]'),
    *_quotes("'", r"[^']|(?<=\w)'(?=\w)"),
    (r" (?=[”»])|(?<=[“«]) ", ""),
    # Ideographs are tokens of their own.
    (r"(?<=[㐀-䶿一-鿿豈-﫿]) (?=[㐀-䶿一-鿿豈-﫿])", ""),
]
"""Patterns (of Oniguruma) and what each is replaced by, in this order."""


def wordpiece_decoder() -> Any:
    """A decoder for the library ``tokenizers``; a ``tokenizer.json`` can hold it."""
    replaced = [decoders.Replace(Regex(pattern), text) for pattern, text in RULES]
    return decoders.Sequence([decoders.WordPiece(cleanup=False), decoders.Fuse(), *replaced])


def is_wordpiece(tokenizer: Any) -> bool:
    """Whether a tokenizer of ``transformers`` has WordPiece tokens."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    return fast is not None and isinstance(fast.model, models.WordPiece)
