"""Janus's two ways of generating, against computations of another kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.dataset import JanusDataset, pad_left
from fedumm.backends.januspro.generate import _draw, generate_answers, generate_codes, uniform_numbers
from fedumm.backends.januspro.prompts import Prompts
from support.random_janus import CPU, batch_of, build, image_of


def test_greedy_answers_are_those_of_transformers(built: Any, janus_data: JanusDataset) -> None:
    """One sample at a time through ``generate``, and padded together through ours."""
    backend, model, _ = built
    batch = batch_of(janus_data, "vqa", 5)
    said = generate_answers(
        model, batch["prompt_ids"], batch["prompt_mask"], image_of(backend, model, batch), eos_id=-1, max_new_tokens=6
    )
    for row in range(5):
        item = janus_data[row]
        official = janus.base_of(model).generate(
            input_ids=torch.tensor([item["prompt_ids"]]),
            attention_mask=torch.ones(1, len(item["prompt_ids"]), dtype=torch.int64),
            pixel_values=item["pixel_values"][None],
            generation_mode="text",
            max_new_tokens=6,
            do_sample=False,
            eos_token_id=None,
        )
        assert said[row] == official[0, len(item["prompt_ids"]) :].tolist()


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_the_likeliest_images_are_those_of_guided_logits(built: Any, guidance: float) -> None:
    """Without a cache of keys and values, one sample at a time, in full passes."""
    _, model, processor = built
    prompts, base, count = Prompts(processor), janus.base_of(model), 6
    texts = [prompts.caption(text) for text in ("a red circle", "two squares", "a cross left of a blue triangle")]
    ids, mask = pad_left(texts)
    without, _ = pad_left([prompts.unconditional(text) for text in texts])
    codes = generate_codes(model, (ids, mask), without, count, None, guidance, 1.0)
    for text, own in zip(texts, codes.tolist(), strict=True):
        chosen: list[int] = []
        for _ in range(count):
            logits = []
            for prompt in (text, prompts.unconditional(text)):
                embeds = base.get_input_embeddings()(torch.tensor([prompt]))
                if chosen:
                    embeds = torch.cat(
                        [embeds, base.prepare_embeddings_for_image_generation(torch.tensor([chosen]))], 1
                    )
                with torch.no_grad():
                    states = base.model.language_model(inputs_embeds=embeds).last_hidden_state
                    logits.append(base.model.generation_head(states[0, -1]))
            given, nothing = logits
            chosen.append(int((nothing + guidance * (given - nothing)).argmax()))
        assert own == chosen


def test_an_image_depends_on_its_own_caption_and_seed_only(built: Any) -> None:
    backend, model, processor = built
    captions, seeds = ["a red circle", "two squares above", "a cross"], [1, 2, 3]
    together = backend.draw(model, processor, captions, seeds, CPU)
    assert [image.size for image in together] == [(32, 32)] * 3
    for caption, seed, image in zip(captions, seeds, together, strict=True):
        (alone,) = backend.draw(model, processor, [caption], [seed], CPU)
        # Rounding in the decoder depends on the batch: by a level at most.
        assert np.abs(np.asarray(alone).astype(int) - np.asarray(image)).max() <= 1
    (other,) = backend.draw(model, processor, captions[:1], [9], CPU)
    assert np.abs(np.asarray(other).astype(int) - np.asarray(together[0])).max() > 20


def test_tokens_are_drawn_with_their_probabilities() -> None:
    """Evenly spaced numbers must give each token as often as its probability says, to one."""
    logits = torch.tensor([0.3, -2.0, 1.5, -torch.inf, 0.0])
    count = 10_000
    numbers = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    drawn = _draw(logits.expand(count, -1), numbers)
    counts = torch.bincount(drawn, minlength=5)
    assert (counts - count * logits.double().softmax(0)).abs().max() <= 1
    assert counts[3] == 0
    assert _draw(logits[None], torch.tensor([1.0 - 2**-53])).item() == 4
    assert _draw(logits[None], torch.tensor([0.0])).item() == 0


def test_uniform_numbers_are_a_rows_own() -> None:
    numbers = uniform_numbers([3, 4, 3], 50)
    assert torch.equal(numbers[0], numbers[2])
    assert not torch.equal(numbers[0], numbers[1])
    assert numbers.dtype == torch.float64


# learning by heart


def learn(model: Any, loss: Any, steps: int) -> None:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(steps):
        loss().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.slow
def test_an_answer_learnt_by_heart_is_given(janus_folder: Path, janus_rows: Any) -> None:
    backend, model, processor = build(janus_folder, ["vqa"], "all")
    data = backend.build_dataset(janus_rows.select(range(4)), processor, 64, 16)
    batch = batch_of(data, "vqa")
    learn(model, lambda: backend.train_step(model, batch, CPU), 250)
    wanted = [row["multiple_choice_answer"] for row in janus_rows.select(range(4))]
    for row, answer in zip(janus_rows.select(range(4)), wanted, strict=True):
        assert backend.answer(model, processor, row["image"], row["question"], CPU) == answer
    scores = backend.score_batch(model, batch, processor, CPU)
    assert [score.score for score in scores] == [1.0] * 4


@pytest.mark.slow
def test_a_caption_learnt_by_heart_is_drawn(janus_folder: Path, janus_rows: Any) -> None:
    """Greedily, token for token: the begin-of-image token predicts code 0, and each code the next."""
    backend, model, processor = build(janus_folder, ["t2i"], "all")
    captions = janus_rows.filter(lambda row: row["task"] == "t2i").select(range(2))
    data = backend.build_dataset(captions, processor, 64, 16)
    batch = batch_of(data, "t2i")
    codes = image_of(backend, model, batch)
    ids, mask = batch["prompt_ids"], batch["prompt_mask"]
    learn(model, lambda: janus.image_losses(model, ids, mask, codes).mean(), 300)
    drawn = generate_codes(model, (ids, mask), batch["without_ids"], 64, None, 1.0, 1.0)
    assert torch.equal(drawn, codes)
