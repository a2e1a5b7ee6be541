"""Backends by name: shipped ones, entry points of installed packages, and users' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fedumm import tasks
from fedumm.backends.answers import PLAIN, RANK, AnswerOptions, answer_options
from fedumm.backends.prompting import PLACE
from fedumm.backends.protocol import (
    REQUIRED_METHODS,
    Backend,
    HasTasks,
    TakesAnswers,
    TakesMetric,
    TakesPrompt,
    TakesWeights,
)
from fedumm.backends.weights import WeightOptions
from fedumm.config import AnyConfig, RunConfig
from fedumm.errors import FedummError
from fedumm.metrics.registry import VQA, answer_metric
from fedumm.metrics.text_metric import TextMetric
from fedumm.registry import Registry

SHIPPED = {
    "blip_vqa": "fedumm.backends.blip_vqa",
    "januspro": "fedumm.backends.januspro",
    "hf_vlm": "fedumm.backends.hf_vlm",
}
ANSWER_ONLY = ("blip_vqa",)
"""Those of them that have one task: known without importing any."""

_HINT = " A backend of your own is loaded with --plugin FILE."


def _checked(name: str, backend: Any) -> Backend:
    """``backend``, an object, or one of the class ``backend``, which takes no arguments."""
    if isinstance(backend, type):
        backend = backend()
    missing = [m for m in REQUIRED_METHODS if not callable(getattr(backend, m, None))]
    if missing:
        raise FedummError(f"Backend {name!r} lacks the method(s) {', '.join(missing)}.")
    return backend  # type: ignore[no-any-return]


BACKENDS: Registry[Backend] = Registry(
    "backend", "fedumm.backends", SHIPPED, lambda module, _: module.BACKEND, _checked
)

register_backend = BACKENDS.register
"""``register_backend(name, backend)``, an object or a class without arguments, or as a decorator of such a class."""

available_backends = BACKENDS.names
"""Names that :func:`get_backend` knows, sorted."""


def check_backend_name(name: str) -> None:
    """Raise :class:`FedummError` for an unknown name, without importing any backend."""
    BACKENDS.check(name, _HINT)


def get_backend(name: str) -> Backend:
    """The backend called ``name``, imported on first use.

    Raises:
        FedummError: no such backend; the message lists those there are.
    """
    return BACKENDS.get(name, _HINT)


def backend_for(config: RunConfig, candidates: Sequence[str] = (), references: Sequence[Sequence[str]] = ()) -> Backend:
    """The backend of a run, for the run's tasks, weights, prompt, metric and answers.

    Args:
        candidates: answers to rank where ``config`` names no file of them.
        references: of the images that are evaluated on; the texts that are scored are compared with them, too.

    Raises:
        FedummError: no such backend, or it can't do what ``--task``, ``--lora_targets``, ``--prompt``,
            ``--answer_metric`` or the options for answers and weights ask for.
    """
    backend = get_backend(config.model_backend)
    if not isinstance(backend, HasTasks):
        check_answers_only(config)
    if tasks.I2T.name in config.tasks:
        _check_texts(config)
    backend = _for_metric(backend, config, references)
    if config.prompt:
        if not isinstance(backend, TakesPrompt):
            raise FedummError(f"--prompt: the backend {config.model_backend!r} asks its questions in its own way only.")
        backend = backend.for_prompt(config.prompt)
    backend = _for_answers(backend, config, answer_options(config, candidates))
    backend = _for_weights(backend, config, WeightOptions.of(config))
    return backend.for_tasks(config.tasks, config.lora_targets) if isinstance(backend, HasTasks) else backend


def _for_metric(backend: Backend, config: RunConfig, references: Sequence[Sequence[str]]) -> Backend:
    writes = tasks.I2T.name in config.tasks
    if config.metric == VQA and not writes:
        return backend
    if not isinstance(backend, TakesMetric):
        raise FedummError(f"--answer_metric {config.metric}: the backend {config.model_backend!r} does not support it.")
    metric = answer_metric(config.metric)
    return backend.for_metric(TextMetric(metric, references) if writes else metric)


def _check_texts(config: RunConfig) -> None:
    """Raise :class:`FedummError` if ``config`` asks for what makes sense of questions only."""
    if config.answer_mode == RANK:
        raise FedummError(f"--answer_mode {RANK}: with --task {config.task} texts are written, not chosen.")
    if PLACE in config.prompt:
        raise FedummError(f"--prompt: with --task {config.task} there is no question to put in the place of {PLACE}.")


def _for_weights(backend: Backend, config: RunConfig, options: WeightOptions) -> Backend:
    if isinstance(backend, TakesWeights):
        return backend.for_weights(options)
    for flag in options.asked():
        raise FedummError(f"{flag}: the backend {config.model_backend!r} does not support it.")
    return backend


def _for_answers(backend: Backend, config: RunConfig, options: AnswerOptions) -> Backend:
    if options == PLAIN:
        return backend
    if isinstance(backend, TakesAnswers):
        return backend.for_answers(options)
    asked = [f"--train_answers {config.train_answers}"] if options.train_all else []
    asked += [f"--answer_mode {config.answer_mode}"] if options.rank else []
    asked += ["--answers"] if options.known else []
    raise FedummError(f"{asked[0]}: the backend {config.model_backend!r} does not support it.")


def with_model_name(config: AnyConfig) -> AnyConfig:
    """``config`` with the name of its backend's default model, if it names none."""
    # Whoever writes a run down need not have what its model is made with.
    if config.model_name_or_path or config.model_backend not in BACKENDS.names():
        return config
    default = getattr(get_backend(config.model_backend), "default_model", "")
    return replace(config, model_name_or_path=default) if default else config


def backend_plugins(config: RunConfig) -> tuple[str, ...]:
    """The plugins without which the model of a run can't be made; none if its backend is a shipped one."""
    return () if BACKENDS.is_shipped(config.model_backend) else config.plugins


def check_answers_only(config: RunConfig) -> None:
    """Raise :class:`FedummError` if ``config`` asks for what a backend without ``for_tasks`` can't do."""
    if config.tasks != (tasks.VQA.name,):
        raise FedummError(f"--task {config.task}: the backend {config.model_backend!r} can only answer (--task vqa).")
    if config.lora_targets != "attention":
        raise FedummError(
            f"--lora_targets {config.lora_targets}: the backend {config.model_backend!r} does not support it."
        )
