"""What a tokenizer can say: answers as tokens, and tokens as the text that was meant.

A tokenizer may forget how a text was written ("MRI" and "mri", "3 . 5" and "3.5" are the same tokens to some), and a
score compares texts. So tokens are read as one of the answers that they may stand for, where there is one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

from fedumm.backends.wordpiece import is_wordpiece, wordpiece_decoder

Ids = tuple[int, ...]
Kind = Literal["question", "answer", "caption", "text"]

MOST_KEPT = 1 << 16
"""Texts whose tokens are kept in memory."""


class Speller:
    """Answers as token ids and back.

    Args:
        tokenizer: of ``transformers``.
        lead: what stands before an answer where one is trained on: a space, or nothing.
        end_id: the token that ends an answer.
        known: the user's known answers; of those with the same ids the first counts.
        whole_question: whether ``--max_q_len`` counts a question's special tokens too.
        after: the end of what stands before each answer; of many tokenizers the first word's tokens depend on it.
        reserved: what a text must not hold, since it would be read as something else than text; None: nothing.
    """

    def __init__(
        self, tokenizer: Any, lead: str, end_id: int, known: Sequence[str] = (), *, whole_question: bool = False,
        after: str = "", reserved: re.Pattern[str] | None = None,
    ) -> None:  # fmt: skip
        self._tokenizer, self._lead, self.end_id, self._whole = tokenizer, lead, end_id, whole_question
        self._after, self.reserved = after, reserved
        self._decode = text_of(tokenizer)
        self._ids: dict[str, Ids] = {}
        self.unknown_id = _unknown_id(tokenizer)
        said = [(answer, ids) for answer, ids in zip(known, self.encode(known), strict=True) if self.says(ids)]
        self._known = {ids: answer for answer, ids in reversed(said)}

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        """The ids of each answer, as training makes them: without start and end token, and not cut."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._ids]
        if len(self._ids) + len(missing) > MOST_KEPT:
            self._ids, missing = {}, list(dict.fromkeys(texts))
        if missing:
            found = self._in_place([self._lead + text for text in missing])
            self._ids.update(zip(missing, map(tuple, found), strict=True))
        return [self._ids[text] for text in texts]

    def _in_place(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text where it stands; where a token would reach over its start, those of the text alone."""
        alone = _ids(self._tokenizer, texts, add_special_tokens=False)
        if not self._after:
            return alone
        before, *whole = _ids(
            self._tokenizer, [self._after, *(self._after + text for text in texts)], add_special_tokens=False
        )
        at = len(before)
        return [own[at:] if own[:at] == before else other for own, other in zip(whole, alone, strict=True)]

    def say(self, ids: Sequence[int], references: Sequence[str] = ()) -> str:
        """The text of generated ``ids`` (:meth:`spoken`).

        If these are exactly the ids of some of ``references``, the most frequent of those as it is written; else that
        of the known answers; else what the tokenizer makes of them. An answer with an unknown token is never taken
        for one of them: the same ids may stand for another.
        """
        spoken = tuple(ids)
        found = self.reference(spoken, references)
        return found if found is not None else self._known.get(spoken) or self._decode(spoken)

    def reference(self, ids: Ids, references: Sequence[str]) -> str | None:
        """The most frequent of ``references`` that has these ids and no unknown token; of equals the first."""
        if not self.says(ids):
            return None
        same = [text for text, own in zip(references, self.encode(references), strict=True) if own == ids]
        return Counter(same).most_common(1)[0][0] if same else None

    def spoken(self, ids: Sequence[int]) -> Ids:
        """Generated ``ids``, the start token left out, up to the end token."""
        said = tuple(ids)
        return said[: said.index(self.end_id)] if self.end_id in said else said

    def measure(self, kind: Kind, texts: Sequence[str]) -> list[tuple[int, bool]]:
        """Of each text its tokens, as they count for ``--max_q_len`` (a question, a caption) or ``--max_a_len`` (an
        answer or a text to write, with its end token), and whether the tokenizer can say it: it has tokens, and none
        is unknown."""
        if kind in ("answer", "text"):
            pairs = zip(texts, self.encode(texts), strict=True)
            return [(len(ids) + 1, self.can_say(text, ids)) for text, ids in pairs]
        found = _ids(self._tokenizer, texts, add_special_tokens=self._whole)
        return [(len(ids), bool(ids) and self.unknown_id not in ids) for ids in found]

    def same_ids(self, answers: Sequence[str]) -> list[list[str]]:
        """Groups of two or more distinct ``answers`` that can't be told apart, in their order."""
        groups: dict[Ids, list[str]] = {}
        distinct = list(dict.fromkeys(answers))
        for answer, ids in zip(distinct, self.encode(distinct), strict=True):
            groups.setdefault(ids, []).append(answer)
        return [group for group in groups.values() if len(group) > 1]

    def can_say(self, text: str, ids: Ids) -> bool:
        """Whether an answer can be said that has these ids: :meth:`says`, and it holds nothing ``reserved``."""
        return self.says(ids) and not (self.reserved and self.reserved.search(text))

    def says(self, ids: Ids) -> bool:
        """Whether an answer of these ids can be said: there are some, none is unknown, and none ends it."""
        return bool(ids) and self.unknown_id not in ids and self.end_id not in ids


def text_of(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """How ``tokenizer`` turns ids into text, with nothing left out, spaces at the ends aside.

    A WordPiece tokenizer gets a decoder that puts marks where people write them (:mod:`fedumm.backends.wordpiece`).
    """
    if is_wordpiece(tokenizer):
        tokenizer.backend_tokenizer.decoder = wordpiece_decoder()

    def decode(ids: Sequence[int]) -> str:
        text: str = tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return text.strip()

    return decode


@lru_cache(maxsize=4)
def speller_of(
    tokenizer: Any, lead: str, end_id: int, known: tuple[str, ...], whole_question: bool, after: str = "",
    reserved: re.Pattern[str] | None = None,
) -> Speller:  # fmt: skip
    """The :class:`Speller` of these arguments, made once."""
    return Speller(tokenizer, lead, end_id, known, whole_question=whole_question, after=after, reserved=reserved)


def _unknown_id(tokenizer: Any) -> int | None:
    """The id of the token for what the tokenizer does not know; None if there is nothing that it does not know."""
    if tokenizer.unk_token_id is not None:
        return int(tokenizer.unk_token_id)
    name = getattr(getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None), "unk_token", None)
    return None if name is None else int(tokenizer.convert_tokens_to_ids(name))


def _ids(tokenizer: Any, texts: Sequence[str], **options: Any) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts), verbose=False, **options).input_ids if texts else []
    return found
