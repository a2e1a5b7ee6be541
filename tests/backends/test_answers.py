"""Files of answers, and training on all answers of a question by their shares."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fedumm.backends.answers import AnswerOptions, answer_shares, read_answers
from fedumm.backends.blip_vqa import BlipVqaBackend
from fedumm.backends.registry import backend_for, register_backend
from fedumm.config import CentralConfig
from fedumm.errors import FedummError
from support.toy_backend import ToyBackend

CPU = torch.device("cpu")
ANSWERS = [
    ["red"] * 6 + ["dark red"] * 3 + ["maroon"],
    ["yes"] * 3,
    ["MRI", "mri", "x-ray scan", " "],
    ["2", "two", "2 circles"],
]
SHARES = [
    {"red": 0.6, "dark red": 0.3, "maroon": 0.1},
    {"yes": 1.0},
    {"mri": 2 / 3, "x-ray scan": 1 / 3},
    {"2": 1 / 3, "two": 1 / 3, "2 circles": 1 / 3},
]
"""Counted by hand; MRI and mri are the same tokens to both small models."""


def rows_with(answers: list[list[str]]) -> Dataset:
    colors = ["red", "blue", "green", "teal"][: len(answers)]
    questions = ["what color is it?", "is it red?", "what is it and where?", "how many are there?"][: len(answers)]
    return Dataset.from_dict(
        {
            "image": [Image.new("RGB", (64, 64), color) for color in colors],
            "question": questions,
            "multiple_choice_answer": [own[0] for own in answers],
            "answers": answers,
        }
    )


def loss_and_gradients(backend: Any, model: torch.nn.Module, batch: Any) -> tuple[float, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    loss = backend.train_step(model, batch, CPU)
    loss.backward()
    grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return loss.item(), torch.cat(grads)


@pytest.fixture(scope="module", params=["blip_vqa", "januspro"])
def model_of(request: pytest.FixtureRequest) -> Any:
    """Backend that trains on all answers, model in float64 with an adapter that does something, processor."""
    if request.param == "blip_vqa":
        backend: Any = BlipVqaBackend()
        model, processor = backend.build_model_and_processor("tiny", 4, 8, 0.0, CPU)
    else:
        backend, model, processor = request.getfixturevalue("built")
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    yield backend, model.double().eval(), processor
    model.float()


def batch_of(backend: Any, processor: Any, answers: list[list[str]], rows: list[int], train_all: bool = True) -> Any:
    chosen = backend.for_answers(AnswerOptions(train_all=train_all))
    data = chosen.build_dataset(rows_with(answers), processor, 64, 16)
    batch = chosen.collate_fn([data[row] for row in rows])
    batch["pixel_values"] = batch["pixel_values"].double()
    return batch


def test_all_answers_are_the_weighted_sum_of_each_alone(model_of: Any) -> None:
    """Loss and gradient of a batch, against a run of its own for each answer of each question."""
    backend, model, processor = model_of
    loss, gradient = loss_and_gradients(backend, model, batch_of(backend, processor, ANSWERS, [0, 1, 2, 3]))
    expected, expected_gradient = 0.0, torch.zeros_like(gradient)
    for row, shares in enumerate(SHARES):
        for answer, share in shares.items():
            alone = [[answer] if place == row else own for place, own in enumerate(ANSWERS)]
            single = loss_and_gradients(backend, model, batch_of(backend, processor, alone, [row], False))
            expected += share * single[0] / 4
            expected_gradient += share * single[1] / 4
    assert loss == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)


def test_batches_may_be_merged_and_cut_as_before(model_of: Any) -> None:
    """The loss stays a mean over samples, however many answers each has (``loss_is_sample_mean``)."""
    backend, model, processor = model_of
    assert backend.loss_is_sample_mean
    whole, gradient = loss_and_gradients(backend, model, batch_of(backend, processor, ANSWERS, [0, 1, 2, 3]))
    parts = [
        loss_and_gradients(backend, model, batch_of(backend, processor, ANSWERS, rows)) for rows in ([0, 1, 2], [3])
    ]
    assert whole == pytest.approx(0.75 * parts[0][0] + 0.25 * parts[1][0], rel=1e-5)
    torch.testing.assert_close(gradient, 0.75 * parts[0][1] + 0.25 * parts[1][1], rtol=1e-4, atol=1e-6)


def test_one_answer_a_question_is_trained_on_as_ever(model_of: Any) -> None:
    backend, model, processor = model_of
    same = [["red"] * 3, ["yes"], ["x-ray", ""], ["2"]]
    all_of_them = batch_of(backend, processor, same, [0, 1, 2, 3])
    common = batch_of(backend, processor, same, [0, 1, 2, 3], False)
    assert all_of_them.keys() == common.keys()
    assert loss_and_gradients(backend, model, all_of_them)[0] == loss_and_gradients(backend, model, common)[0]


def test_samples_of_several_answers_count_as_what_is_read(built: Any) -> None:
    backend, _, processor = built
    rows = rows_with(ANSWERS)
    plain = backend.build_dataset(rows, processor, 64, 16)
    several = backend.for_answers(AnswerOptions(train_all=True)).build_dataset(rows, processor, 64, 16)
    assert several.lengths[1] == plain.lengths[1]
    # "red" is a token, "dark red" more; three texts are read.
    assert several.lengths[0] > 3 * plain.lengths[0]


@given(st.lists(st.sampled_from(["a", "b", "c d", "", " "]), max_size=12))
def test_shares_add_up_to_one(answers: list[str]) -> None:
    shares = answer_shares(answers, "common")
    left = [answer for answer in answers if answer.strip()]
    assert sum(shares.values()) == pytest.approx(1)
    assert shares == ({a: pytest.approx(n / len(left)) for a, n in Counter(left).items()} if left else {"common": 1.0})


def test_a_file_of_answers_is_read_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_bytes("\ufeffred\r\n\r\n  x-ray \nred\n红\u2028色\n".encode())
    assert read_answers(str(tmp_path / "answers.txt")) == ("red", "x-ray", "红\u2028色")


@pytest.mark.parametrize("content", [None, b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_answers_is_one_clear_error(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "answers.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FedummError, match="--answers"):
        read_answers(str(path))


def test_a_folder_is_no_file_of_answers(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="--answers"):
        read_answers(str(tmp_path))


def test_the_options_reach_the_backend(tmp_path: Path) -> None:
    (tmp_path / "answers.txt").write_text("red\nblue\n")
    file = str(tmp_path / "answers.txt")

    def options(candidates: tuple[str, ...] = (), **given: Any) -> AnswerOptions:
        backend: Any = backend_for(CentralConfig(model_backend="blip_vqa", **given), candidates)
        return backend.answers  # type: ignore[no-any-return]

    assert options() == AnswerOptions()
    assert options(train_answers="all") == AnswerOptions(train_all=True)
    assert options(answers=file) == AnswerOptions(known=("red", "blue"))
    assert options(("yes",), answer_mode="rank") == AnswerOptions(rank=True, candidates=("yes",))
    ranked = options(("yes",), answer_mode="rank", answers=file)
    assert ranked == AnswerOptions(rank=True, known=("red", "blue"), candidates=("red", "blue"))


@pytest.mark.parametrize("given", [{"train_answers": "all"}, {"answer_mode": "rank"}, {"answers": "FILE"}])
def test_a_backend_that_knows_nothing_of_it_says_so(given: dict[str, str], tmp_path: Path) -> None:
    register_backend("toy", ToyBackend())
    if "answers" in given:
        (tmp_path / "answers.txt").write_text("red\n")
        given = {"answers": str(tmp_path / "answers.txt")}
    with pytest.raises(FedummError, match="does not support"):
        backend_for(CentralConfig(model_backend="toy", **given))  # type: ignore[arg-type]
