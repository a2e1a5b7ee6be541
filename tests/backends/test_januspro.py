"""Janus's prompts, its two losses, its image codes and its data, against computations of another kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedumm.backends.januspro import backend as januspro
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.dataset import CODES, FEATURES, JanusDataset, centre_crop
from fedumm.backends.januspro.prompts import Prompts
from fedumm.errors import FedummError
from support.random_janus import BOTH, CPU, batch_of, image_of

# prompts


def test_prompts_are_what_the_processor_makes_of_its_chat_template(built: Any) -> None:
    _, _, processor = built
    prompts, image = Prompts(processor), Image.new("RGB", (32, 32))
    ask = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "what color is the circle?"}]}]
    text = processor.apply_chat_template(ask, add_generation_prompt=True, tokenize=False)
    assert text.startswith("<|User|>:")
    assert text.endswith("<|Assistant|>:")
    official = processor(text=text, images=[image]).input_ids
    own = prompts.with_image(prompts.question("what color is the circle?"))
    assert own == list(np.asarray(official).ravel())
    assert own.count(prompts.image_id) == 64

    say = [{"role": "user", "content": [{"type": "text", "text": "a red circle"}]}]
    text = processor.apply_chat_template(say, add_generation_prompt=True, tokenize=False)
    drawn = processor(text=text, generation_mode="image").input_ids
    assert list(prompts.caption("a red circle")) == list(np.asarray(drawn).ravel())


def test_the_system_prompt_is_the_processors(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(built[2], "use_default_system_prompt", True)
    ask = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "why?"}]}]
    text = built[2].apply_chat_template(ask, add_generation_prompt=True, tokenize=False)
    official = built[2](text=text, images=[Image.new("RGB", (32, 32))]).input_ids
    prompts = Prompts(built[2])
    assert prompts.with_image(prompts.question("why?")) == list(np.asarray(official).ravel())


def test_leaving_the_caption_out_keeps_only_where_it_begins_and_ends(built: Any) -> None:
    prompts = Prompts(built[2])
    caption = prompts.caption("a red circle")
    without = prompts.unconditional(caption)
    assert (without[0], without[-1]) == (prompts.bos_id, prompts.boi_id)
    assert set(without[1:-1]) == {prompts.pad_id}
    assert len(without) == len(caption)


def test_long_texts_are_cut(built: Any) -> None:
    prompts = Prompts(built[2])
    assert prompts.cut("a red circle left of a blue square", 3) == "a red circle"
    assert len(prompts.answer("one two three four", 3)) == 3
    assert prompts.answer("one two three four", 3)[-1] == prompts.eos_id


def test_a_question_must_not_hold_the_image_token(built: Any) -> None:
    with pytest.raises(FedummError, match="must not contain the token <image_placeholder>"):
        Prompts(built[2]).question("what is <image_placeholder>?")


# losses


def test_the_answers_loss_is_that_of_transformers_sample_by_sample(built: Any, janus_data: JanusDataset) -> None:
    """``forward(labels=...)`` on one sample at a time, unpadded, in float64, with the image itself."""
    backend, model, _ = built
    batch = batch_of(janus_data, "vqa", 5)
    assert len(set(map(len, janus_data.parts[0].prompts[:5]))) > 1, "padding is at play"
    loss = backend.train_step(model, batch, CPU)
    base = janus.base_of(model).double()
    singles = []
    for row in range(5):
        item = janus_data[row]
        labels = torch.tensor([[-100, *item["labels"][0][:-1]]])  # transformers shifts them
        ids = torch.tensor([item["input_ids"][0]])
        # The last answer token, which is never read, must be in the inputs there.
        ids, labels = (
            torch.cat([ids, torch.tensor([[2]])], 1),
            torch.cat([labels, torch.tensor([[item["labels"][0][-1]]])], 1),
        )
        singles.append(base(input_ids=ids, pixel_values=item["pixel_values"][None].double(), labels=labels).loss)
    base.float()
    assert loss.item() == pytest.approx(torch.stack(singles).mean().item(), rel=1e-5)


def test_only_the_answer_and_its_end_are_learnt(janus_data: JanusDataset, built: Any) -> None:
    prompts = Prompts(built[2])
    for i, task in enumerate(janus_data.tasks):
        if task == "vqa":
            item = janus_data[i]
            said = [label for label in item["labels"][0] if label != -100]
            assert tuple(said) == prompts.answer(janus_data.parts[0].rows[i]["multiple_choice_answer"], 16)
            assert len(item["labels"][0]) == len(item["input_ids"][0]) == janus_data.lengths[i]
            # What generation will see is what training saw.
            assert item["input_ids"][0][: len(item["prompt_ids"])] == item["prompt_ids"]
            assert item["labels"][0][len(item["prompt_ids"]) - 1] == said[0]


@torch.no_grad()
def token_by_token(model: Any, prompt: Sequence[int], codes: Sequence[int]) -> float:
    """Mean nats of ``codes``, each from a forward pass of its own over all before it."""
    base = janus.base_of(model)
    total = 0.0
    for k, code in enumerate(codes):
        embeds = [base.get_input_embeddings()(torch.tensor([list(prompt)]))]
        if k:
            before = base.model.generation_embeddings(torch.tensor([list(codes[:k])]))
            embeds.append(base.model.generation_aligner(before))
        states = base.model.language_model(inputs_embeds=torch.cat(embeds, 1)).last_hidden_state
        total -= base.model.generation_head(states[0, -1]).double().log_softmax(-1)[code].item()
    return total / len(codes)


def test_the_images_loss_is_the_codes_surprise_one_by_one(built: Any, janus_data: JanusDataset) -> None:
    backend, model, _ = built
    batch = batch_of(janus_data, "t2i", 3)
    codes = image_of(backend, model, batch)
    losses = janus.image_losses(model, batch["prompt_ids"], batch["prompt_mask"], codes)
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]
    assert len(set(map(len, prompts))) > 1, "padding is at play"
    for row, prompt in enumerate(prompts):
        assert losses[row].item() == pytest.approx(token_by_token(model, prompt, codes[row].tolist()), rel=1e-4)


@pytest.mark.slow
def test_captions_are_left_out_as_often_as_said(
    built: Any, janus_data: JanusDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, model, _ = built
    batch = batch_of(janus_data, "t2i")
    codes = image_of(backend, model, batch)
    mask = batch["prompt_mask"]
    given, without = (janus.image_losses(model, batch[name], mask, codes) for name in ("prompt_ids", "without_ids"))
    assert (given - without).abs().max() > 1e-4
    for share, expected in ((0.0, given), (1.0, without)):
        monkeypatch.setattr(januspro, "DROP_CAPTION", share)
        assert backend.train_step(model, batch, CPU).item() == pytest.approx(expected.mean().item(), rel=1e-5)
    monkeypatch.undo()
    assert januspro.DROP_CAPTION == 0.1, "Janus-Pro, section on training"
    seen = []
    monkeypatch.setattr(janus, "image_losses", lambda _, ids, mask, codes: seen.append(ids) or torch.zeros(len(ids)))
    torch.manual_seed(0)
    for _ in range(500):
        backend.train_step(model, batch, CPU)
    dropped = sum(int((ids == batch["without_ids"]).all(1).sum()) for ids in seen)
    assert dropped == pytest.approx(0.1 * 500 * len(codes), rel=0.15)


# codes


def test_codes_are_the_nearest_by_angle(built: Any, janus_data: JanusDataset) -> None:
    _, model, _ = built
    pixels = janus_data.part(CODES).pixels([0, 1, 2])
    codes = janus.encode_for_generation(model, pixels)
    vq = janus.base_of(model).model.vqmodel
    with torch.no_grad():
        latents = vq.quant_conv(vq.encoder(pixels)).double().permute(0, 2, 3, 1).reshape(-1, 8)
    book = vq.quantize.embedding.weight.detach().double()
    cosine = latents @ book.T / (latents.norm(dim=1)[:, None] * book.norm(dim=1)[None])
    assert (codes.shape, codes.dtype) == ((3, 64), torch.int32)
    assert torch.equal(codes.flatten().long(), cosine.argmax(1))


def test_codes_do_not_depend_on_latents_length(built: Any, janus_data: JanusDataset) -> None:
    """The library's own ``encode`` takes the nearest by distance: for unnormalised latents another one."""
    _, model, _ = built
    vq = janus.base_of(model).model.vqmodel
    pixels = janus_data.part(CODES).pixels([0, 1])
    codes = janus.encode_for_generation(model, pixels)
    with torch.no_grad():
        weight, bias = vq.quant_conv.weight.clone(), vq.quant_conv.bias.clone()
        vq.quant_conv.weight.mul_(37), vq.quant_conv.bias.mul_(37)
        longer = janus.encode_for_generation(model, pixels)
        vq.quant_conv.weight.copy_(weight), vq.quant_conv.bias.copy_(bias)
    assert torch.equal(codes, longer)


def test_images_to_draw_are_the_middle_square(built: Any) -> None:
    wide = Image.new("RGB", (200, 100), (255, 0, 0))
    wide.paste((0, 0, 255), (50, 0, 150, 100))
    cut = centre_crop(wide, built[2].image_processor)
    assert cut.size == (32, 32)
    assert np.abs(np.asarray(cut).astype(int) - (0, 0, 255)).max() < 60, "blue up to the resampled edge"


def test_pixels_come_back_from_the_processors_scale(built: Any) -> None:
    images = built[2].image_processor
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8))
    (back,) = janus.to_images(images(images=[picture], return_tensors="pt").pixel_values, images)
    assert np.array_equal(np.asarray(back), np.asarray(picture))


# data


def test_a_data_set_keeps_rows_in_order_and_knows_their_tasks(
    built: Any, janus_rows: Any, janus_data: JanusDataset
) -> None:
    assert janus_data.tasks == janus_rows["task"][:]
    assert len(janus_data) == len(janus_rows)
    part = janus_data.subset([20, 3, 4])
    assert part.tasks == [janus_rows["task"][i] for i in (20, 3, 4)]
    assert part.lengths == [janus_data.lengths[i] for i in (20, 3, 4)]
    assert part[1]["input_ids"] == janus_data[3]["input_ids"]
    assert part[0]["prompt_ids"] == janus_data[20]["prompt_ids"]
    assert janus_data.part(FEATURES) is janus_data.parts[0]
    assert janus_data.part(CODES) is janus_data.parts[1]
    assert not janus_data.cached


def test_samples_that_do_not_fit_the_context_are_refused(built: Any, janus_rows: Any) -> None:
    _, _, processor = built
    with pytest.raises(FedummError, match=r"takes \d+ tokens, 64 of them for its image, and the model reads 70"):
        JanusDataset(janus_rows, processor, BOTH, 64, 16, 70)


def test_scores_of_drawing_are_nats_and_the_share_of_a_guess_saved(built: Any, janus_data: JanusDataset) -> None:
    backend, model, processor = built
    batch = batch_of(janus_data, "t2i", 3)
    scores = backend.score_batch(model, batch, processor, CPU)
    with torch.no_grad():
        nats = janus.image_losses(model, batch["prompt_ids"], batch["prompt_mask"], image_of(backend, model, batch))
    for score, own, kind in zip(scores, nats.tolist(), batch["types"], strict=True):
        assert score.loss == pytest.approx(own, rel=1e-6)
        assert score.score == pytest.approx(1 - own / math.log(512), rel=1e-6)
        assert score.part == kind
