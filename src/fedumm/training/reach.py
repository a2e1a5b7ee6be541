"""Which answers a model can give: what its tokenizer knows, within the limits and among the candidates of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedumm.backends.answers import RANK, read_answers
from fedumm.backends.spelling import Ids, Speller
from fedumm.config import RunConfig
from fedumm.training.candidates import training_answers


@dataclass(frozen=True)
class Reach:
    """Which answers a model can give.

    Attributes:
        tokens: most of an answer, with its end token.
        speller: None: every answer can be said.
        candidates: ids of the answers that are ranked; None: any answer can be generated.
        unsaid: how many candidates can't be said.
    """

    tokens: int
    speller: Speller | None = None
    candidates: frozenset[Ids] | None = None
    unsaid: int = 0

    @classmethod
    def of(cls, config: RunConfig, train: Any, speller: Speller | None) -> Reach:
        """That of a run."""
        plain = cls(config.max_a_len, speller)
        if config.answer_mode != RANK or speller is None:
            return plain
        ranked = read_answers(config.answers) if config.answers else training_answers(config, train)
        return replace(plain, candidates=plain.ids(ranked), unsaid=len(ranked) - len(plain.sayable(ranked)))

    def sayable(self, answers: Sequence[str]) -> list[str]:
        """Those of ``answers`` that have no unknown token and are short enough."""
        if self.speller is None:
            return list(answers)
        measured = self.speller.measure("answer", answers)
        return [a for a, (tokens, known) in zip(answers, measured, strict=True) if known and tokens <= self.tokens]

    def ids(self, answers: Sequence[str]) -> frozenset[Ids]:
        """The ids of those that can be said."""
        return frozenset(self.speller.encode(self.sayable(answers))) if self.speller else frozenset()

    def within(self, answers: Sequence[str], choices: Sequence[str] | None) -> list[str]:
        """Those of ``answers`` that can be given to a question with these ``choices``."""
        said = self.sayable(answers)
        if self.candidates is None or self.speller is None:
            return said
        offered = self.ids(choices) if choices else self.candidates
        return [answer for answer, ids in zip(said, self.speller.encode(said), strict=True) if ids in offered]
