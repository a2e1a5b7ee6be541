"""Ranked answers, against each candidate's likelihood computed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from datasets import Dataset
from PIL import Image

from fedumm.backends.answers import AnswerOptions
from fedumm.backends.blip_vqa import BlipVqaBackend
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.rank import rank_answers
from fedumm.backends.ranking import Ballot, ballot, ballots_for, likeliest, speak
from fedumm.backends.spelling import Ids, Speller
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from support.random_janus import batch_of
from support.tokenizers_of_all_kinds import tiny_bert

CPU = torch.device("cpu")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers")
CANDIDATES = (
    "yes", "no", "red", "blue", "a red circle", "red circle", "2", "two", "x-ray", "yellow square", "don't know",
    "green and blue", "left",
)  # fmt: skip


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    """An adapter that does something (a fresh one adds zero)."""
    generator = torch.Generator().manual_seed(3)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = 0.2 * torch.randn(weight.shape, generator=generator)
    return model.eval()


@pytest.fixture(scope="module")
def rows() -> Any:
    return load_data("shapes", DataRequest(max_train_samples=12, max_eval_samples=4, columns=COLUMNS)).train


@pytest.fixture(scope="module")
def tiny_blip() -> Any:
    backend = BlipVqaBackend()
    model, processor = backend.build_model_and_processor("tiny", 8, 16, 0.0, CPU)
    return backend, randomised(model), processor


@torch.inference_mode()
def one_by_one_blip(model: Any, speller: Speller, batch: dict[str, Any], row: int) -> list[float]:
    """Likelihood of each candidate: a batch of one question, unpadded, and one answer."""
    read = batch["attention_mask"][row].bool()
    images = blip.encode_images(model, batch["pixel_values"][row : row + 1])
    question = batch["input_ids"][row : row + 1, read]
    values = []
    for ids in speller.encode(CANDIDATES):
        start = torch.tensor([[blip.base_of(model).decoder_start_token_id, *ids]])
        labels = torch.tensor([[*ids, speller.end_id]])
        values.append(-blip.answer_loss(model, images, question, torch.ones_like(question), start, labels).item())
    return values


def test_blip_chooses_the_likeliest(tiny_blip: Any, rows: Any) -> None:
    backend, model, processor = tiny_blip
    data = backend.build_dataset(rows, processor, 64, 16)
    batch = backend.collate_fn([data[row] for row in range(12)])
    speller = backend.speller(processor)
    ranking = backend.for_answers(AnswerOptions(rank=True, candidates=CANDIDATES))
    scores = ranking.score_batch(model, batch, processor, CPU)
    chosen = []
    for row in range(12):
        values = one_by_one_blip(model, speller, batch, row)
        chosen.append(CANDIDATES[max(range(len(values)), key=values.__getitem__)])
    assert len(set(chosen)) > 1, "the questions' answers differ"
    assert [s.score for s in scores] == [
        backend.metric(answer, own) for answer, own in zip(chosen, batch["references"], strict=True)
    ]
    said = ranking._predict(model, batch, processor, [[]] * 12)
    assert said == chosen


@torch.inference_mode()
def one_by_one_janus(model: Any, speller: Speller, batch: dict[str, Any], image: torch.Tensor, row: int) -> list[float]:
    """The same through training's loss, which is a mean over tokens, with the whole prompt read each time."""
    prompt = batch["prompt_ids"][row, batch["prompt_mask"][row].bool()].tolist()
    values = []
    for ids in speller.encode(CANDIDATES):
        inputs = torch.tensor([[*prompt, *ids]])
        labels = torch.tensor([[*[-100] * (len(prompt) - 1), *ids, speller.end_id]])
        values.append(-janus.answer_loss(model, inputs, labels, image[row : row + 1]).item() * (len(ids) + 1))
    return values


def test_janus_chooses_the_likeliest(built: Any, janus_data: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, model, processor = built
    batch = batch_of(janus_data, "vqa", 6)
    assert len({int(own.sum()) for own in batch["prompt_mask"]}) > 1, "padding is at play"
    speller = backend.speller(processor)
    with torch.no_grad():
        image = janus.encode_for_understanding(model, batch["pixel_values"])
    sets = [ballot(speller, CANDIDATES, 16).ids] * 6
    expected = [
        max(range(len(CANDIDATES)), key=one_by_one_janus(model, speller, batch, image, row).__getitem__)
        for row in range(6)
    ]
    read = (model, batch["prompt_ids"], batch["prompt_mask"], image, sets)
    assert rank_answers(*read) == expected
    monkeypatch.setattr("fedumm.backends.ranking.MOST_BYTES", 1)
    assert rank_answers(*read) == expected, "one answer at a time"
    said = backend.for_answers(AnswerOptions(rank=True, candidates=CANDIDATES)).score_batch(
        model, batch, processor, CPU
    )
    assert [s.score for s in said] == [
        backend.metric(CANDIDATES[place], own) for place, own in zip(expected, batch["references"], strict=True)
    ]


class Table:
    """Made-up likelihoods, in the place of a model; token i has the log-probability -i as an answer's first one."""

    def __init__(self, values: dict[tuple[int, Ids], float]) -> None:
        self.values, self.asked = values, list[int]()

    def first(self, rows: Sequence[int]) -> torch.Tensor:
        return -torch.arange(1000.0).repeat(len(rows), 1)

    def likelihoods(self, rows: Sequence[int], answers: Sequence[Ids]) -> torch.Tensor:
        self.asked.append(len(answers))
        return torch.tensor([self.values.get((row, ids), -50.0) for row, ids in zip(rows, answers, strict=True)])


def test_of_equally_likely_answers_the_first_is_chosen() -> None:
    assert likeliest([[(5, 3), (4, 3), (6, 7, 3)]], Table({}).first, Table({}).likelihoods, lambda _: 1) == [0]


def test_of_many_those_with_the_likeliest_first_tokens_are_ranked() -> None:
    """128 of 200; the one at place 150, likelier as a whole, begins with a token that is not."""
    many = [(token, 3) for token in range(200)]
    table = Table({(0, many[150]): -1.0, (0, many[90]): -2.0, (1, many[120]): -1.0})
    few = many[100:]
    assert likeliest([many, few], table.first, table.likelihoods, lambda _: 1) == [90, 20]
    assert sum(table.asked) == 128 + 100


def test_many_answers_come_in_parts() -> None:
    table = Table({(0, (9, 3)): -1.0})
    many = [(token, 3) for token in range(100)]
    assert likeliest([many], table.first, table.likelihoods, lambda tokens: 10**8 * tokens) == [9]
    assert max(table.asked) == 5


def test_a_row_with_choices_is_ranked_among_them() -> None:
    tokenizer = tiny_bert()
    speller = Speller(tokenizer, "", tokenizer.sep_token_id)
    batch = {"max_a_len": 16, "choices": [["red", "blue"], None, []]}
    found = ballots_for(speller, ["yes", "no"], batch, 3)
    assert [own.texts for own in found] == [["red", "blue"], ["yes", "no"], ["yes", "no"]]
    with pytest.raises(FedummError, match="--answers FILE"):
        ballots_for(speller, [], batch, 3)


def test_answers_with_the_same_tokens_are_ranked_once() -> None:
    tokenizer = tiny_bert()
    speller = Speller(tokenizer, "", tokenizer.sep_token_id)
    own = ballot(speller, ["MRI", "mri", "red blue green red", "red blue"], 4)
    assert own.texts == ["MRI", "red blue"], "what does not fit into three tokens and the end is left out"
    assert {ids[-1] for ids in own.ids} == {speller.end_id}


def test_what_can_not_be_said_is_not_ranked() -> None:
    """Two answers of unknown tokens alone have the same ids: each would be right where the other is asked for."""
    tokenizer = tiny_bert()
    speller = Speller(tokenizer, "", tokenizer.sep_token_id)
    assert ballot(speller, ["红", "red", "绿"], 16).texts == ["red"]
    with pytest.raises(FedummError, match="nothing to rank that the model can say"):
        ballots_for(speller, ["红", "绿"], {"max_a_len": 16}, 2)
    (silent,) = ballots_for(speller, [], {"max_a_len": 16, "choices": [["红", "绿"]]}, 1)
    assert speak(speller, [silent], [0], [["红"]]) == [""]


def test_a_chosen_answer_is_written_as_the_row_writes_it() -> None:
    tokenizer = tiny_bert()
    speller = Speller(tokenizer, "", tokenizer.sep_token_id)
    own = ballot(speller, ["x-ray", "ct"], 16)
    assert speak(speller, [own] * 3, [0, 0, 1], [["X-Ray"], ["red"], ["red"]]) == ["X-Ray", "x-ray", "ct"]
    assert isinstance(own, Ballot)


@pytest.mark.parametrize("name", ["blip_vqa", "januspro"])
def test_the_choices_of_rows_reach_the_ranking(name: str, tiny_blip: Any, built: Any) -> None:
    """From the column ``choices`` through data set and batch to the answer: the only right choice is on the ballot."""
    backend, model, processor = tiny_blip if name == "blip_vqa" else built
    rows = Dataset.from_dict(
        {
            "image": [Image.new("RGB", (64, 64), color) for color in ("red", "blue")],
            "question": ["what color is it?"] * 2,
            "multiple_choice_answer": ["teal", "gray"],
            "answers": [["teal"] * 10, ["gray"] * 10],
            "choices": [["teal"], ["gray"]],
        }
    )
    data = backend.build_dataset(rows, processor, 64, 16)
    ranking = backend.for_answers(AnswerOptions(rank=True))
    scores = ranking.score_batch(model, ranking.collate_fn([data[0], data[1]]), processor, CPU)
    assert [sample.score for sample in scores] == [1.0, 1.0]
