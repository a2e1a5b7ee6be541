"""What a run does with answers: which are known, which are trained on, and how one is chosen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.texts import one_line

COMMON, ALL = "common", "all"
"""What ``--train_answers`` can be: a question's most common answer, or each of its answers by its share."""

GENERATE, RANK = "generate", "rank"
"""What ``--answer_mode`` can be: the likeliest token each time, or the likeliest of given answers."""

MOST_BYTES = 100_000_000
"""Of a file of answers."""


@dataclass(frozen=True)
class AnswerOptions:
    """What differs from training on the most common answer and generating one.

    Attributes:
        train_all: each distinct answer of a question is trained on, weighted by its share.
        rank: the likeliest of ``candidates``, or of a row's own ``choices``, is the answer.
        known: the user's known answers, as they are to be written.
        candidates: what is ranked.
    """

    train_all: bool = False
    rank: bool = False
    known: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()


PLAIN = AnswerOptions()
"""The most common answer is trained on, and one is generated."""


def answer_options(config: RunConfig, candidates: Sequence[str] = ()) -> AnswerOptions:
    """What ``config`` asks for; ``candidates`` are ranked where it names no file of answers.

    Raises:
        FedummError: the file can't be read, or holds no answer.
    """
    known, rank = read_answers(config.answers) if config.answers else (), config.answer_mode == RANK
    ranked = (known or tuple(candidates)) if rank else ()
    return AnswerOptions(config.train_answers == ALL, rank, known, ranked)


def read_answers(path: str) -> tuple[str, ...]:
    """The answers in a UTF-8 file, one a line: blank lines are left out, and an answer counts once.

    Raises:
        FedummError: it can't be read, is not UTF-8, or holds no answer.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise FedummError(f"--answers {path} has more than {MOST_BYTES // 10**6} MB: give a list of answers.")
        lines = data.decode("utf-8-sig").replace("\r\n", "\n").split("\n")
    except OSError as error:
        raise FedummError(f"--answers {path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise FedummError(f"--answers {path} is not a text in UTF-8: {one_line(error)}.") from error
    answers = tuple(dict.fromkeys(filter(None, map(str.strip, lines))))
    if not answers:
        raise FedummError(f"--answers {path} holds no answer: write one a line.")
    return answers


def answer_shares(answers: Sequence[str], common: str) -> dict[str, float]:
    """The share of each distinct answer of one question; they add up to 1.

    Empty ones are left out; where no other is left, ``common`` is the only one.
    """
    counts = Counter(answer for answer in answers if answer.strip()) or Counter([common])
    return {answer: count / counts.total() for answer, count in counts.items()}
