"""Janus's two losses, its prompts and its two ways of generating, against computations of another kind."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import JanusConfig, JanusForConditionalGeneration, JanusProcessor, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from fedumm.adapters.folder import save_folder
from fedumm.adapters.lora import with_lora
from fedumm.adapters.model import AdapterSlot
from fedumm.backends.januspro import backend as januspro
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.dataset import CODES, FEATURES, JanusDataset, centre_crop, collate, pad_left
from fedumm.backends.januspro.generate import _draw, generate_answers, generate_codes, uniform_numbers
from fedumm.backends.januspro.load import load_pretrained
from fedumm.backends.januspro.prompts import Prompts
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from make_tiny_janus import build_model, build_processor

CPU = torch.device("cpu")
BOTH = ("vqa", "t2i")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Janus of the tiny architecture with random weights, in the native layout."""
    path = tmp_path_factory.mktemp("janus")
    torch.manual_seed(0)
    processor = build_processor()
    build_model(processor).save_pretrained(path)
    processor.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def rows() -> Any:
    request = DataRequest(columns=COLUMNS, mix={"vqa": 1, "t2i": 1}, max_train_samples=24, max_eval_samples=4)
    return load_data("shapes", request).train


def build(folder: Path, tasks: Sequence[str] = BOTH, targets: str = "attention", dropout: float = 0.0) -> Any:
    """Backend, PEFT model and processor."""
    backend = JanusProBackend(tuple(tasks), targets)
    torch.manual_seed(1)
    model, processor = backend.build_model_and_processor(str(folder), 8, 16, dropout, CPU)
    return backend, model.eval(), processor


@pytest.fixture(scope="module")
def built(folder: Path) -> Any:
    return build(folder)


@pytest.fixture(scope="module")
def data(built: Any, rows: Any) -> JanusDataset:
    backend, _, processor = built
    return backend.build_dataset(rows, processor, 64, 16)  # type: ignore[no-any-return]


def batch_of(data: JanusDataset, task: str, count: int = 4) -> dict[str, Any]:
    return collate([data[i] for i, own in enumerate(data.tasks) if own == task][:count])


def image_of(backend: Any, model: Any, batch: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        return backend._image(model, batch, CPU)  # type: ignore[no-any-return]


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


def test_the_answers_loss_is_that_of_transformers_sample_by_sample(built: Any, data: JanusDataset) -> None:
    """``forward(labels=...)`` on one sample at a time, unpadded, in float64, with the image itself."""
    backend, model, _ = built
    batch = batch_of(data, "vqa", 5)
    assert len(set(map(len, data.parts[0].prompts[:5]))) > 1, "padding is at play"
    loss = backend.train_step(model, batch, CPU)
    base = janus.base_of(model).double()
    singles = []
    for row in range(5):
        item = data[row]
        labels = torch.tensor([[-100, *item["labels"][:-1]]])  # transformers shifts them
        ids = torch.tensor([item["input_ids"]])
        # The last answer token, which is never read, must be in the inputs there.
        ids, labels = (
            torch.cat([ids, torch.tensor([[2]])], 1),
            torch.cat([labels, torch.tensor([[item["labels"][-1]]])], 1),
        )
        singles.append(base(input_ids=ids, pixel_values=item["pixel_values"][None].double(), labels=labels).loss)
    base.float()
    assert loss.item() == pytest.approx(torch.stack(singles).mean().item(), rel=1e-5)


def test_only_the_answer_and_its_end_are_learnt(data: JanusDataset, built: Any) -> None:
    prompts = Prompts(built[2])
    for i, task in enumerate(data.tasks):
        if task == "vqa":
            item = data[i]
            said = [label for label in item["labels"] if label != -100]
            assert tuple(said) == prompts.answer(data.parts[0].rows[i]["multiple_choice_answer"], 16)
            assert len(item["labels"]) == len(item["input_ids"]) == data.lengths[i]
            # What generation will see is what training saw.
            assert item["input_ids"][: len(item["prompt_ids"])] == item["prompt_ids"]
            assert item["labels"][len(item["prompt_ids"]) - 1] == said[0]


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


def test_the_images_loss_is_the_codes_surprise_one_by_one(built: Any, data: JanusDataset) -> None:
    backend, model, _ = built
    batch = batch_of(data, "t2i", 3)
    codes = image_of(backend, model, batch)
    losses = janus.image_losses(model, batch["prompt_ids"], batch["prompt_mask"], codes)
    prompts = [ids[mask.bool()].tolist() for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True)]
    assert len(set(map(len, prompts))) > 1, "padding is at play"
    for row, prompt in enumerate(prompts):
        assert losses[row].item() == pytest.approx(token_by_token(model, prompt, codes[row].tolist()), rel=1e-4)


def test_captions_are_left_out_as_often_as_said(
    built: Any, data: JanusDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, model, _ = built
    batch = batch_of(data, "t2i")
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


def test_codes_are_the_nearest_by_angle(built: Any, data: JanusDataset) -> None:
    _, model, _ = built
    pixels = data.part(CODES).pixels([0, 1, 2])
    codes = janus.encode_for_generation(model, pixels)
    vq = janus.base_of(model).model.vqmodel
    with torch.no_grad():
        latents = vq.quant_conv(vq.encoder(pixels)).double().permute(0, 2, 3, 1).reshape(-1, 8)
    book = vq.quantize.embedding.weight.detach().double()
    cosine = latents @ book.T / (latents.norm(dim=1)[:, None] * book.norm(dim=1)[None])
    assert (codes.shape, codes.dtype) == ((3, 64), torch.int32)
    assert torch.equal(codes.flatten().long(), cosine.argmax(1))


def test_codes_do_not_depend_on_latents_length(built: Any, data: JanusDataset) -> None:
    """The library's own ``encode`` takes the nearest by distance: for unnormalised latents another one."""
    _, model, _ = built
    vq = janus.base_of(model).model.vqmodel
    pixels = data.part(CODES).pixels([0, 1])
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


# generation


def test_greedy_answers_are_those_of_transformers(built: Any, data: JanusDataset) -> None:
    """One sample at a time through ``generate``, and padded together through ours."""
    backend, model, _ = built
    batch = batch_of(data, "vqa", 5)
    said = generate_answers(
        model, batch["prompt_ids"], batch["prompt_mask"], image_of(backend, model, batch), eos_id=-1, max_new_tokens=6
    )
    for row in range(5):
        item = data[row]
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
def test_an_answer_learnt_by_heart_is_given(folder: Path, rows: Any) -> None:
    backend, model, processor = build(folder, ["vqa"], "all")
    data = backend.build_dataset(rows.select(range(4)), processor, 64, 16)
    batch = batch_of(data, "vqa")
    learn(model, lambda: backend.train_step(model, batch, CPU), 250)
    wanted = [row["multiple_choice_answer"] for row in rows.select(range(4))]
    for row, answer in zip(rows.select(range(4)), wanted, strict=True):
        assert backend.answer(model, processor, row["image"], row["question"], CPU) == answer
    scores = backend.score_batch(model, batch, processor, CPU)
    assert [score.score for score in scores] == [1.0] * 4


@pytest.mark.slow
def test_a_caption_learnt_by_heart_is_drawn(folder: Path, rows: Any) -> None:
    """Greedily, token for token: the begin-of-image token predicts code 0, and each code the next."""
    backend, model, processor = build(folder, ["t2i"], "all")
    captions = rows.filter(lambda row: row["task"] == "t2i").select(range(2))
    data = backend.build_dataset(captions, processor, 64, 16)
    batch = batch_of(data, "t2i")
    codes = image_of(backend, model, batch)
    ids, mask = batch["prompt_ids"], batch["prompt_mask"]
    learn(model, lambda: janus.image_losses(model, ids, mask, codes).mean(), 300)
    drawn = generate_codes(model, (ids, mask), batch["without_ids"], 64, None, 1.0, 1.0)
    assert torch.equal(drawn, codes)


# data


def test_a_data_set_keeps_rows_in_order_and_knows_their_tasks(built: Any, rows: Any, data: JanusDataset) -> None:
    assert data.tasks == rows["task"][:]
    assert len(data) == len(rows)
    part = data.subset([20, 3, 4])
    assert part.tasks == [rows["task"][i] for i in (20, 3, 4)]
    assert part.lengths == [data.lengths[i] for i in (20, 3, 4)]
    assert part[1]["input_ids"] == data[3]["input_ids"]
    assert part[0]["prompt_ids"] == data[20]["prompt_ids"]
    assert data.part(FEATURES) is data.parts[0]
    assert data.part(CODES) is data.parts[1]
    assert not data.cached


def test_samples_that_do_not_fit_the_context_are_refused(built: Any, rows: Any) -> None:
    _, _, processor = built
    with pytest.raises(FedummError, match=r"takes \d+ tokens, 64 of them for its image, and the model reads 70"):
        JanusDataset(rows, processor, BOTH, 64, 16, 70)


def test_scores_of_drawing_are_nats_and_the_share_of_a_guess_saved(built: Any, data: JanusDataset) -> None:
    backend, model, processor = built
    batch = batch_of(data, "t2i", 3)
    scores = backend.score_batch(model, batch, processor, CPU)
    with torch.no_grad():
        nats = janus.image_losses(model, batch["prompt_ids"], batch["prompt_mask"], image_of(backend, model, batch))
    for score, own, kind in zip(scores, nats.tolist(), batch["types"], strict=True):
        assert score.loss == pytest.approx(own, rel=1e-6)
        assert score.score == pytest.approx(1 - own / math.log(512), rel=1e-6)
        assert score.part == kind


# loading


def test_the_adapter_has_the_size_it_is_known_for() -> None:
    """On Janus-Pro-1B's architecture, rank 16: the language model's query, key and value, and nothing else."""
    text = LlamaConfig(
        vocab_size=102400, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=16384,
    )  # fmt: skip
    vision = JanusVisionConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=384, patch_size=16,
        projection_dim=2048, num_image_tokens=576,
    )  # fmt: skip
    vq = JanusVQVAEConfig(projection_dim=2048, image_token_embed_dim=2048)
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=vq, tie_word_embeddings=False)

    def trained(wide: bool, draws: bool) -> dict[str, int]:
        with torch.device("meta"):
            model = with_lora(JanusForConditionalGeneration(config), 16, 32, 0.0, janus.lora_targets(wide, draws))
        return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}

    assert sum(trained(False, True).values()) == sum(trained(False, False).values()) == 4_718_592
    narrow, answers, draws = trained(False, True), trained(True, False), trained(True, True)
    assert narrow.keys() < answers.keys() < draws.keys()
    assert not any("vision_model" in name or "vqmodel" in name for name in draws)
    layer = 16 * (4 * (2048 + 2048) + 3 * (2048 + 5632))
    assert sum(answers.values()) == 24 * layer
    heads = {name.split(".lora_")[0].split("model.")[-1] for name in draws.keys() - answers.keys()}
    assert heads == {
        "generation_aligner.fc1", "generation_aligner.hidden_layers.0", "generation_head.proj_out",
        "generation_head.vision_head",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_adapter_loads_in_plain_peft_and_transformers(folder: Path, tmp_path: Path, data: JanusDataset) -> None:
    backend, model, _ = build(folder, BOTH, "all")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.05)
    config = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=sorted))
    save_folder(tmp_path / "adapter", AdapterSlot(model).get(), config, "card")
    plain = PeftModel.from_pretrained(
        JanusForConditionalGeneration.from_pretrained(folder, dtype=torch.float32), tmp_path / "adapter"
    ).eval()
    for task in BOTH:
        batch = batch_of(data, task)
        with torch.no_grad():
            torch.manual_seed(5)
            ours = backend.train_step(model, batch, CPU)
            torch.manual_seed(5)
            theirs = backend.train_step(plain, batch, CPU)
        assert torch.equal(ours, theirs)


def copied(folder: Path, to: Path, file: str = "", **fields: Any) -> str:
    """A copy of the checkpoint with some fields of a JSON file replaced; None removes one."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    if file:
        content = json.loads((to / file).read_text())
        content = {name: value for name, value in {**content, **fields}.items() if value is not None}
        (to / file).write_text(json.dumps(content))
    return str(to)


def test_the_old_layout_is_refused_with_the_name_of_the_native_one(folder: Path, tmp_path: Path) -> None:
    old = copied(folder, tmp_path / "Janus-Pro-7B", "config.json", model_type="multi_modality")
    with pytest.raises(FedummError, match="native layout are deepseek-community/Janus-Pro-7B"):
        load_pretrained(old, CPU)
    with pytest.raises(FedummError, match="native layout are deepseek-community/Janus-Pro-1B"):
        load_pretrained("deepseek-ai/Janus-Pro-1B", CPU)


def test_a_tokenizer_without_the_special_tokens_is_refused(folder: Path, tmp_path: Path) -> None:
    bare = json.loads((folder / "tokenizer_config.json").read_text())
    gone = {name: None for name in bare if name in ("image_token", "boi_token", "eoi_token", "extra_special_tokens")}
    gone |= {name: None for name in bare if name == "model_specific_special_tokens"}
    path = copied(folder, tmp_path / "bare", "tokenizer_config.json", **gone)
    with pytest.raises(FedummError, match="lacks Janus's special tokens"):
        load_pretrained(path, CPU)


def test_an_image_that_does_not_fit_the_context_is_refused(folder: Path, tmp_path: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    path = copied(
        folder, tmp_path / "short", "config.json", text_config={**config["text_config"], "max_position_embeddings": 60}
    )
    with pytest.raises(FedummError, match="an image's 64 tokens do not fit the context of 60"):
        load_pretrained(path, CPU)


def test_files_of_different_checkpoints_are_refused(folder: Path, tmp_path: Path) -> None:
    path = copied(folder, tmp_path / "mixed", "config.json", image_token_id=3)
    with pytest.raises(FedummError, match="has the id 6 in the tokenizer and 3 in the model"):
        load_pretrained(path, CPU)
    processor = JanusProcessor.from_pretrained(folder)
    other = tmp_path / "other"
    copied(folder, other)
    processor.num_image_tokens = 576
    processor.save_pretrained(other)
    with pytest.raises(FedummError, match="the processor makes 576 tokens of an image, the model 64"):
        load_pretrained(str(other), CPU)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="does not hold a Janus"):
        load_pretrained(str(tmp_path), CPU)


def test_what_has_no_captions_has_no_default_data() -> None:
    assert JanusProBackend(("vqa",)).hf_dataset_name() == "vqav2"
    with pytest.raises(FedummError, match="which captioned images to learn from"):
        JanusProBackend(BOTH).hf_dataset_name()
