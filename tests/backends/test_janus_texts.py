"""Texts of images with Janus: a text is an answer to the prompt, of any length, learnt and written without a cut."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fedumm.adapters.folder import save_folder
from fedumm.adapters.origin import Origin
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.dataset import JanusDataset, collate
from fedumm.backends.prompting import BARE, DESCRIBE, SHORT_ANSWER, default_prompt
from fedumm.backends.registry import backend_for
from fedumm.cli.main import main
from fedumm.config import RunConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.tasks import I2T
from fedumm.training.backbone import load_backbone
from support.random_janus import CPU

TINY = {"model_backend": "januspro", "model_name_or_path": "tiny", "task": "i2t"}
WORDS = "a red circle left of two blue squares and"


@pytest.fixture(scope="module")
def text_rows() -> Any:
    """Six scenes with a text of about 70 words each."""
    request = DataRequest(columns=("image", *I2T.columns), mix={I2T.name: 1}, max_train_samples=6, max_eval_samples=1)
    rows = load_data("shapes", request).train
    long = [f"{WORDS} " * 7 + own for own in rows["text"][:]]
    rows = rows.remove_columns(["text", "texts"]).add_column("text", long)
    return rows.add_column("texts", [[own, "a circle"] for own in long])


def data_of(config: RunConfig, rows: Any) -> tuple[Any, JanusDataset]:
    backbone = load_backbone(config, CPU, references=rows["texts"][:])
    return backbone, backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)


def test_a_text_is_an_answer_to_the_prompt(text_rows: Any) -> None:
    """To the last bit: the same images with the prompt as their question."""
    config = RunConfig(**TINY, prompt="what is here", max_a_len=200)
    backbone, data = data_of(config, text_rows)
    asked = text_rows.rename_columns({"text": "multiple_choice_answer", "texts": "answers"}).remove_columns("task")
    asked = asked.add_column("question", ["what is here"] * len(asked))
    answers = RunConfig(**{**TINY, "task": "vqa"}, max_a_len=200)
    other, questions = data_of_questions(answers, asked)
    batches = [collate([own[i] for i in range(4)]) for own in (data, questions)]
    assert batches[0].pop("task") == "i2t"
    assert batches[1].pop("task") == "vqa"
    for name, value in batches[1].items():
        same = torch.equal(value, batches[0][name]) if isinstance(value, torch.Tensor) else value == batches[0][name]
        assert same, name
    losses = [
        own.backend.train_step(own.model, {**batch, "task": task}, CPU).item()
        for own, batch, task in ((backbone, batches[0], "i2t"), (other, batches[1], "vqa"))
    ]
    assert losses[0] == losses[1]


def data_of_questions(config: RunConfig, rows: Any) -> tuple[Any, JanusDataset]:
    backbone = load_backbone(config, CPU)
    return backbone, backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)


class Dictated(torch.nn.Module):
    """In the place of the head: says given tokens one after the other, whatever it reads."""

    def __init__(self, tokens: Sequence[int]) -> None:
        super().__init__()
        self.left = list(tokens)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(states), 189)
        logits[:, self.left.pop(0)] = 1.0
        return logits


def test_a_long_text_is_learnt_and_written_to_its_end(text_rows: Any) -> None:
    backbone, data = data_of(RunConfig(**TINY, max_a_len=80), text_rows)
    item, tokenizer = data[0], backbone.processor.tokenizer
    learnt = [label for label in item["labels"][0] if label != -100]
    assert 60 < len(learnt) < 80
    assert tokenizer.decode(learnt[:-1]) == text_rows["text"][0]
    assert learnt[-1] == tokenizer.eos_token_id
    for most, exact in ((len(learnt), 1.0), (10, 0.0)):
        janus.base_of(backbone.model).lm_head = Dictated(learnt)
        batch = collate([{**item, "max_a_len": most}])
        (score,) = backbone.backend.score_batch(backbone.model, batch, backbone.processor, CPU)
        assert score.others["exact"] == exact
        assert score.score == 1.0 if exact else 0 < score.score < 0.4


def test_all_texts_may_be_learnt(text_rows: Any) -> None:
    _, data = data_of(RunConfig(**TINY, max_a_len=80, train_answers="all"), text_rows)
    assert len(data[0]["labels"]) == 2
    assert data[0]["shares"] == [0.5, 0.5]
    _, data = data_of(RunConfig(**TINY, max_a_len=80), text_rows)
    assert len(data[0]["labels"]) == 1


def test_what_is_asked_of_an_image() -> None:
    assert default_prompt(("i2t",), "") == DESCRIBE
    assert default_prompt(("i2t",), "Briefly.") == DESCRIBE, "that is a prompt of questions"
    assert default_prompt(("i2t",), BARE) == BARE
    assert default_prompt(("vqa",), "") == SHORT_ANSWER
    assert default_prompt(("vqa", "t2i"), "Briefly.") == "Briefly."


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_backend": "blip_vqa"}, r"--task i2t: the backend 'blip_vqa' can only answer \(--task vqa\)"),
        ({"answer_mode": "rank"}, "--answer_mode rank: with --task i2t texts are written, not chosen"),
        (
            {"prompt": "Q: {question}"},
            "--prompt: with --task i2t there is no question to put in the place of {question}",
        ),
        ({"answer_metric": "bleu"}, "Unknown metric 'bleu'"),
    ],
)
def test_what_makes_no_sense_of_texts_is_refused(options: dict[str, str], reason: str) -> None:
    with pytest.raises(FedummError, match=reason):
        backend_for(RunConfig(**{**TINY, **options}))


def test_an_adapter_of_texts_is_asked_without_a_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = RunConfig(**TINY, prompt="what is here")
    backbone = load_backbone(config, CPU)
    save_folder(tmp_path / "adapter", backbone.adapter(), backbone.adapter_config(), "card", Origin.of(config))
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    read: list[tuple[str, int]] = []

    def answers(self: Any, model: Any, batch: Any, processor: Any, *_: Any) -> list[str]:
        ids = [
            i
            for i in batch["prompt_ids"][0].tolist()
            if i != processor.tokenizer.convert_tokens_to_ids("<image_placeholder>")
        ]
        read.append((processor.tokenizer.decode(ids, skip_special_tokens=True), batch["max_a_len"]))
        return ["said"]

    monkeypatch.setattr("fedumm.backends.januspro.backend.JanusProBackend._answers", answers)
    given = ["--adapter", str(tmp_path / "adapter"), "--gpu", "cpu"]
    image = str(tmp_path / "red.png")
    assert main(["ask", image, *given]) == 0
    assert main(["ask", image, "what color is it", *given]) == 0
    assert main(["ask", image, *given, "--prompt", "none"]) == 0
    texts = [text for text, _ in read]
    assert ("what is here" in texts[0], "what color is it" in texts[1]) == (True, True)
    assert "here" not in texts[1] + texts[2], "a question takes the place of the prompt"
    assert all(most > 400 for _, most in read), "a text may be long: up to the model's context"
    assert capsys.readouterr().out == "said\n" * 3
    plain = ["--model_backend", "januspro", "--model_name_or_path", "tiny", "--gpu", "cpu"]
    assert main(["ask", image, *plain]) == 2
    assert "Which question?" in capsys.readouterr().err
