"""What a text is scored by: one score that selects the best round, and others beside it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedumm.metrics.cider import Cider
from fedumm.metrics.registry import AnswerMetric
from fedumm.metrics.text import exact, rouge_l, token_f1


class TextMetric:
    """An :data:`fedumm.metrics.registry.AnswerMetric` that has other scores beside it.

    Args:
        main: the score that counts.
        corpus: references of images, whoever scores which of them; CIDEr weighs words by them. Empty: no CIDEr.
    """

    def __init__(self, main: AnswerMetric, corpus: Iterable[Sequence[str]] = ()) -> None:
        self._main, corpus = main, list(corpus)
        self._cider = Cider(corpus) if corpus else None

    def __call__(self, prediction: str, references: Sequence[str]) -> float:
        """The score that counts, 0 to 1."""
        return self._main(prediction, references)

    def others(self, prediction: str, references: Sequence[str]) -> dict[str, float]:
        """The scores of :attr:`fedumm.tasks.Task.others`, by name."""
        found = {score.__name__: score(prediction, references) for score in (rouge_l, token_f1, exact)}
        return found | ({"cider": self._cider(prediction, references)} if self._cider else {})
