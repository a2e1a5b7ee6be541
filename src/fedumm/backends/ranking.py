"""The likeliest of given answers, as BLIP was evaluated (Li et al., 2022): by the probability of all their tokens.

Of more than :data:`PRESELECTED` candidates, only those are ranked whose first tokens are the likeliest. This is not
exact: an answer whose first token is unlikely is out, whatever follows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fedumm.backends.spelling import Ids, Speller
from fedumm.errors import FedummError

PRESELECTED = 128
"""Candidates whose whole likelihood is computed."""

MOST_BYTES = 10**9
"""Most bytes of what is computed of answers at a time."""

First = Callable[[Sequence[int]], torch.Tensor]
"""Log-probabilities ``(len(rows), vocabulary)`` of an answer's first token, for some samples."""

Likelihoods = Callable[[Sequence[int], Sequence[Ids]], torch.Tensor]
"""Log-probability of an answer's tokens, ``(n,)`` float32, for n samples and as many answers."""


@dataclass(frozen=True)
class Ballot:
    """What one question's answer is chosen from: token ids, end token included, and their texts."""

    ids: list[Ids]
    texts: list[str]


def ballot(speller: Speller, texts: Sequence[str], most: int) -> Ballot:
    """Those of ``texts`` that can be said in ``most`` tokens; of those with the same tokens the first counts."""
    distinct: dict[Ids, str] = {}
    for text, ids in zip(texts, speller.encode(texts), strict=True):
        if speller.can_say(text, ids) and len(ids) < most:
            distinct.setdefault((*ids, speller.end_id), text)
    return Ballot(list(distinct), list(distinct.values()))


def ballots_for(speller: Speller, candidates: Sequence[str], batch: Mapping[str, Any], count: int) -> list[Ballot]:
    """The ballots of ``count`` samples: of each its own ``choices``, where it has any, else the ``candidates``.

    Where none of the choices can be said, nothing is.

    Raises:
        FedummError: a sample has neither.
    """
    most, own = batch["max_a_len"], batch.get("choices") or [None] * count
    shared = ballot(speller, candidates, most)
    ballots = [ballot(speller, texts, most) if texts else shared for texts in own]
    if not all(one.ids or texts for one, texts in zip(ballots, own, strict=True)):
        raise FedummError(
            "--answer_mode rank: there is nothing to rank that the model can say. Name a file of answers with "
            "--answers FILE, or raise --max_a_len."
        )
    silence = Ballot([(speller.end_id,)], [""])
    return [one if one.ids else silence for one in ballots]


def speak(
    speller: Speller, ballots: Sequence[Ballot], places: Sequence[int], references: Sequence[Sequence[str]]
) -> list[str]:
    """The texts of chosen answers: as the sample's own references write it, else as the ballot does."""
    chosen = [(one.ids[place][:-1], one.texts[place]) for one, place in zip(ballots, places, strict=True)]
    said = [speller.reference(ids, own) for (ids, _), own in zip(chosen, references, strict=True)]
    return [text if found is None else found for found, (_, text) in zip(said, chosen, strict=True)]


def likeliest(
    candidates: Sequence[Sequence[Ids]], first: First, likelihoods: Likelihoods, answer_bytes: Callable[[int], int]
) -> list[int]:
    """The place of the likeliest of each sample's ``candidates``; of equally likely ones the first.

    Args:
        answer_bytes: what an answer of so many tokens takes in memory; as many come together as :data:`MOST_BYTES`
            allow, at least one.
    """
    places = _preselected(candidates, first)
    pairs = [(row, place) for row, own in enumerate(places) for place in own]
    # Answers of one length come together: less padding.
    pairs.sort(key=lambda pair: len(candidates[pair[0]][pair[1]]))
    longest = len(candidates[pairs[-1][0]][pairs[-1][1]])
    most = max(1, MOST_BYTES // answer_bytes(longest))
    values = dict[tuple[int, int], float]()
    for start in range(0, len(pairs), most):
        some = pairs[start : start + most]
        answers = [candidates[row][place] for row, place in some]
        values.update(zip(some, likelihoods([row for row, _ in some], answers).tolist(), strict=True))
    return [-max((values[row, place], -place) for place in own)[1] for row, own in enumerate(places)]


def _preselected(candidates: Sequence[Sequence[Ids]], first: First) -> list[list[int]]:
    """The places of each sample's candidates that are ranked, in their order."""
    places = [list(range(len(own))) for own in candidates]
    many = [row for row, own in enumerate(candidates) if len(own) > PRESELECTED]
    if many:
        values, kept = first(many), dict[int, list[int]]()
        for row, own in zip(many, values, strict=True):
            starts = kept.setdefault(id(candidates[row]), [ids[0] for ids in candidates[row]])
            order = own[torch.tensor(starts, device=own.device)].sort(descending=True, stable=True).indices
            places[row] = sorted(order[:PRESELECTED].tolist())
    return places
