"""What a model is asked: a question's own text, and the words around it (``--prompt``).

Training, scoring and ``fedumm ask`` take a question from here, so they ask alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fedumm.config.validators import prompt as problem_of
from fedumm.errors import FedummError
from fedumm.tasks import I2T
from fedumm.texts import one_line

BARE = "none"
"""The prompt that adds nothing."""

PLACE = "{question}"
"""Where the question goes in a prompt that says so; else the prompt follows it, on a new line."""

SHORT_ANSWER = "Answer the question using a single word or phrase."
"""What LLaVA-1.5 adds to questions with short answers (Liu et al., 2023, https://arxiv.org/abs/2310.03744)."""

DESCRIBE = "Describe the image."
"""What is asked where there is no question (``--task i2t``)."""

CHECKPOINT_KEY = "fedumm_prompt"
"""What a checkpoint's ``config.json`` may hold: the prompt that its model was trained with."""


def asked(question: str, prompt: str) -> str:
    """What the model reads of ``question``, which may be empty, with ``prompt``: :data:`BARE`, a text or a template.

    Example:
        >>> asked("What is it?", "Be short.")
        'What is it?\\nBe short.'
        >>> asked("What is it?", "Question: {question} Answer:")
        'Question: What is it? Answer:'
    """
    if prompt in ("", BARE):
        return question
    if PLACE in prompt:
        return prompt.replace(PLACE, question)
    return f"{question}\n{prompt}" if question else prompt


def default_prompt(tasks: Sequence[str], checkpoint: str) -> str:
    """The prompt of a run that names none.

    Args:
        checkpoint: of :func:`checkpoint_prompt`: for questions; if it is :data:`BARE`, the model was trained without
            such words, and gets none.
    """
    if I2T.name in tasks:
        return BARE if checkpoint == BARE else DESCRIBE
    return checkpoint or SHORT_ANSWER


def checkpoint_prompt(config: Any) -> str:
    """The prompt that a checkpoint's ``config`` names; empty if it names none.

    Raises:
        FedummError: it is no prompt.
    """
    prompt = getattr(config, CHECKPOINT_KEY, "")
    problem = problem_of(prompt) if isinstance(prompt, str) else "must be a text"
    if problem:
        raise FedummError(f"{CHECKPOINT_KEY} in the model's config.json {problem}, not {one_line(repr(prompt), 100)}.")
    return str(prompt)
