"""``--prompt``: what a model is asked, the same in training, scoring and ``fedumm ask``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import JanusConfig

from fedumm.adapters.origin import Origin, read_origin
from fedumm.backends.januspro.dataset import JanusDataset
from fedumm.backends.januspro.prompts import Prompts
from fedumm.backends.prompting import BARE, SHORT_ANSWER, asked, checkpoint_prompt
from fedumm.backends.registry import backend_for
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import FederateConfig, RunConfig, read_yaml, write_yaml
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.job_options import job_options
from fedumm.run_options import from_mapping, to_mapping
from support.random_janus import CPU, build

TEMPLATE = "red {question} circle"


@pytest.mark.parametrize(
    ("question", "prompt", "read"),
    [
        ("Why?", "", "Why?"),
        ("Why?", BARE, "Why?"),
        ("Why?", "Be short.", "Why?\nBe short."),
        ("Why?", "Q: {question}\nA:", "Q: Why?\nA:"),
        ("Is {this} {question}?", "({question})", "(Is {this} {question}?)"),
        ("Why?", "A {b} %s", "Why?\nA {b} %s"),
        ("", "Describe it.", "Describe it."),
        ("", BARE, ""),
    ],
)
def test_a_prompt_follows_the_question_or_holds_it(question: str, prompt: str, read: str) -> None:
    assert asked(question, prompt) == read


@pytest.mark.parametrize(
    ("prompt", "problem"),
    [
        (" ", "must not be blank"),
        ("{question} {question}", r"place of \{question\} once"),
        ("a\x1b[0m", "printable"),
        ("a" * 4097, "4,096 characters"),
    ],
)
def test_what_is_no_prompt_is_refused(prompt: str, problem: str) -> None:
    with pytest.raises(FedummError, match=f"--prompt .*{problem}"):
        RunConfig(model_backend="januspro", prompt=prompt)


def test_a_prompt_of_several_lines_comes_back_from_every_file(tmp_path: Path) -> None:
    config = FederateConfig(model_backend="januspro", prompt="Look: {question}\n# 'Briefly'")
    write_yaml(to_mapping(config), tmp_path / "config.yaml", f"fedumm federate --prompt '{config.prompt}'")
    assert from_mapping(FederateConfig, read_yaml(tmp_path / "config.yaml")) == config
    (tmp_path / "fedumm.json").write_text(Origin.of(config).text())
    assert read_origin(tmp_path) == Origin.of(config)
    assert job_options(config)["prompt"] == config.prompt


def test_only_a_prompt_may_have_several_lines_in_an_adapters_folder(tmp_path: Path) -> None:
    entry = json.loads(Origin.of(RunConfig(model_backend="januspro")).text())
    for name in ("model_backend", "task"):
        (tmp_path / "fedumm.json").write_text(json.dumps({**entry, name: "a\nb"}))
        with pytest.raises(FedummError, match=f"{name} is longer"):
            read_origin(tmp_path)


def test_a_backend_without_prompts_says_so() -> None:
    with pytest.raises(FedummError, match="--prompt: the backend 'blip_vqa' asks its questions in its own way only"):
        backend_for(RunConfig(model_backend="blip_vqa", prompt="Be short."))


def test_a_checkpoint_may_name_its_prompt() -> None:
    tiny = JanusConfig.from_pretrained(resolve_checkpoint("januspro", "tiny"))
    assert checkpoint_prompt(tiny) == BARE
    assert checkpoint_prompt(JanusConfig()) == ""
    for wrong in (3, None, " ", "{question}{question}"):
        with pytest.raises(FedummError, match=r"fedumm_prompt in the model's config\.json must"):
            checkpoint_prompt(JanusConfig(fedumm_prompt=wrong))


# Janus


def questions_of(backend: Any, processor: Any, rows: Any, most: int = 64) -> list[tuple[int, ...]]:
    data: JanusDataset = backend.build_dataset(rows, processor, most, 16)
    return [tuple(prompt) for prompt in data.parts[0].prompts]


def test_janus_asks_with_the_prompt_wherever_it_asks(built: Any, janus_rows: Any) -> None:
    backend, model, processor = built
    prompts, given = Prompts(processor), backend.for_prompt(TEMPLATE)
    texts = [row["question"] for row in janus_rows if row["task"] == "vqa"]
    assert questions_of(given, processor, janus_rows) == [prompts.question(f"red {text} circle") for text in texts]
    assert questions_of(backend, processor, janus_rows) == [prompts.question(text) for text in texts]
    seen: list[Any] = []
    answering = replace(given)
    object.__setattr__(answering, "_answers", lambda _, batch, *rest: seen.append(batch["prompt_ids"]) or [""])
    answering.answer(model, processor, Image.new("RGB", (32, 32)), texts[0], CPU)
    assert seen[0][0].tolist() == prompts.with_image(prompts.question(f"red {texts[0]} circle"))


def test_the_limit_of_a_question_is_of_its_own_text(built: Any, janus_rows: Any) -> None:
    backend, _, processor = built
    prompts = Prompts(processor)
    texts = [prompts.cut(row["question"], 2) for row in janus_rows if row["task"] == "vqa"]
    asked_so = questions_of(backend.for_prompt(TEMPLATE), processor, janus_rows, most=2)
    assert asked_so == [prompts.question(f"red {text} circle") for text in texts]


def test_janus_asks_for_a_short_answer_unless_its_checkpoint_says_otherwise(janus_folder: Path, tmp_path: Path) -> None:
    """The copy without the entry stands for the published checkpoints, which were trained with other words."""
    backend, _, processor = build(janus_folder)
    assert backend._prompt(processor) == BARE
    for file in janus_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    entries = json.loads((tmp_path / "config.json").read_text())
    del entries["fedumm_prompt"]
    (tmp_path / "config.json").write_text(json.dumps(entries))
    backend, _, processor = build(tmp_path)
    assert backend._prompt(processor) == SHORT_ANSWER
