"""BLIP with LoRA: what is trained, what the decoder sees, and that shortcuts change nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import BlipConfig, BlipForQuestionAnswering

from fedumm.adapters.folder import save_folder
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.dataset import BlipVqaDataset, pad
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.errors import FedummError
from fedumm.metrics.evaluation import Scores
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.trainer import train_epochs

CPU = torch.device("cpu")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers")


def config(**options: Any) -> CentralConfig:
    defaults: dict[str, Any] = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "lr": 1e-3}
    return CentralConfig(**{**defaults, **options})


@pytest.fixture(scope="module")
def rows() -> Any:
    """48 questions on 12 drawn scenes."""
    return load_data("shapes", DataRequest(max_train_samples=48, max_eval_samples=4, columns=COLUMNS)).train


def backbone_of(options: CentralConfig, randomise: bool = False) -> Backbone:
    """The tiny model; with ``randomise`` an adapter that does something (a fresh one adds zero)."""
    backbone = load_backbone(options, CPU)
    if randomise:
        generator = torch.Generator().manual_seed(1)
        state = {n: 0.1 * torch.randn(t.shape, generator=generator) for n, t in backbone.adapter().items()}
        backbone.put(state)
    return backbone


def dataset_of(backbone: Backbone, rows: Any) -> BlipVqaDataset:
    return BlipVqaDataset(rows, backbone.processor, 64, 16)


def batch_of(dataset: BlipVqaDataset, backbone: Backbone, indices: list[int]) -> dict[str, Any]:
    batch: dict[str, Any] = backbone.backend.collate_fn([dataset[i] for i in indices])
    return batch


def test_blip_base_trains_exactly_its_attention_adapters() -> None:
    """On blip-vqa-base's architecture (its published configuration), without weights."""
    text = {"encoder_hidden_size": 768, "num_attention_heads": 12, "vocab_size": 30524}
    layout = BlipConfig(text_config=text, vision_config={"image_size": 384})
    with torch.device("meta"):
        model = blip.add_lora(BlipForQuestionAnswering(layout), 16, 32, 0.1)
    trainable = {n: p.numel() for n, p in model.named_parameters() if p.requires_grad}
    assert sum(trainable.values()) == 3_538_944
    assert sum(p.numel() for p in model.parameters()) == 364_769_084
    # 2 stacks x 12 layers x (self- and cross-attention) x 3 projections x (A and B)
    assert len(trainable) == 2 * 12 * 2 * 3 * 2
    assert not [n for n in trainable if "vision" in n]


def test_the_input_is_that_of_the_library_and_not_of_blips_own_code(rows: Any) -> None:
    """docs/models.md lists what differs."""
    backbone = backbone_of(config())
    tokenizer, dataset = backbone.processor.tokenizer, dataset_of(backbone, rows)
    text = rows["question"][0]
    assert dataset.questions[0] == backbone.processor(text=text).input_ids
    assert dataset.questions[0][0] == tokenizer.cls_token_id
    assert BlipConfig().text_config.label_smoothing == 0
    pixels = backbone.processor(images=rows[0]["image"].convert("RGB"), return_tensors="pt").pixel_values
    assert torch.equal(dataset.pixels([0]), pixels), "whole, at the size of the checkpoint's image processor"


def test_of_a_growing_answer_only_the_last_position_is_given_logits(rows: Any) -> None:
    backbone = backbone_of(config(), randomise=True)
    batch = batch_of(dataset_of(backbone, rows), backbone, [0, 1, 2])
    images = blip.encode_images(backbone.model, batch["pixel_values"])
    shapes: list[Any] = []
    head = blip.base_of(backbone.model).text_decoder.cls
    head.register_forward_hook(lambda _, args, logits: shapes.append(logits.shape[:2]))
    tokens = blip.generate_answers(backbone.model, images, batch["input_ids"], batch["attention_mask"], 6)
    assert shapes == [(3, 1)] * (tokens.shape[1] - 1)


def test_only_the_adapter_learns(rows: Any) -> None:
    backbone = backbone_of(config())
    before = {n: p.detach().clone() for n, p in backbone.model.named_parameters()}
    train_epochs(backbone, dataset_of(backbone, rows), config(), 1, seed=0)
    changed = {n for n, p in backbone.model.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n, p in backbone.model.named_parameters() if p.requires_grad}


@pytest.mark.compat
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_plain_peft_loads_the_folder_with_equal_outputs(rows: Any, tmp_path: Path) -> None:
    backbone = backbone_of(config(), randomise=True)
    save_folder(tmp_path / "adapter", backbone.adapter(), backbone.adapter_config(), "card")
    base = BlipForQuestionAnswering.from_pretrained(resolve_checkpoint("blip_vqa", "tiny"), dtype=torch.float32)
    plain = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    # One question: the library's own model attends to padding.
    batch = batch_of(dataset_of(backbone, rows), backbone, [3])
    with torch.inference_mode():
        ours = backbone.backend.train_step(backbone.model, batch, CPU)
        theirs = backbone.backend.train_step(plain, batch, CPU)
        # And through the library's own forward pass, image to question states:
        library = plain.get_base_model()
        vision = library.vision_model(pixel_values=batch["pixel_values"])[0]
        question = library.text_encoder(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], encoder_hidden_states=vision
        )[0]
        logits = library.text_decoder(
            input_ids=batch["decoder_input_ids"],
            encoder_hidden_states=question,
            encoder_attention_mask=batch["attention_mask"],
        ).logits
    assert torch.equal(ours, theirs)
    log_likelihood = logits.log_softmax(-1).gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0]
    expected = -(log_likelihood * (batch["labels"] != -100)).sum(1).mean()
    torch.testing.assert_close(ours, expected)


def test_the_decoder_sees_in_training_what_it_sees_in_generation(rows: Any) -> None:
    backbone = backbone_of(config())
    dataset, base = dataset_of(backbone, rows), blip.base_of(backbone.model)
    batch = batch_of(dataset, backbone, list(range(16)))
    inputs, labels = batch["decoder_input_ids"], batch["labels"]
    end, start = base.config.text_config.sep_token_id, base.decoder_start_token_id
    assert (inputs[:, 0] == start).all()
    assert (inputs >= 0).all(), "padding of labels never reaches the decoder"
    for row, index in enumerate(range(16)):
        answer = dataset.answers[index]
        assert answer[-1] == end
        assert labels[row, : len(answer)].tolist() == answer
        assert (labels[row, len(answer) :] == -100).all()
        assert inputs[row, : len(answer)].tolist() == [start, *answer[:-1]]


@pytest.mark.compat
def test_generation_is_the_librarys_greedy_search(rows: Any) -> None:
    backbone = backbone_of(config(), randomise=True)
    base = blip.base_of(backbone.model)
    batch = batch_of(dataset_of(backbone, rows), backbone, list(range(12)))
    images = blip.encode_images(backbone.model, batch["pixel_values"])
    ours = blip.generate_answers(backbone.model, images, batch["input_ids"], batch["attention_mask"], 6)
    question = blip.encode_question(backbone.model, images, batch["input_ids"], batch["attention_mask"])
    start = torch.full((12, 1), base.decoder_start_token_id)
    theirs = base.text_decoder.generate(
        input_ids=start,
        attention_mask=torch.ones_like(start),
        encoder_hidden_states=question,
        encoder_attention_mask=batch["attention_mask"],
        eos_token_id=base.config.text_config.sep_token_id,
        pad_token_id=base.config.text_config.pad_token_id,
        do_sample=False,
        num_beams=1,
        max_new_tokens=6,
    )
    assert torch.equal(ours, theirs[:, : ours.shape[1]])
    assert ours.shape[1] > 2


@pytest.mark.compat
def test_results_do_not_depend_on_padding(rows: Any) -> None:
    """Each question alone, and all together behind 20 columns of padding full of another token."""
    backbone = backbone_of(config(), randomise=True)
    dataset = dataset_of(backbone, rows)
    together = batch_of(dataset, backbone, list(range(8)))
    extra = torch.full((8, 20), 17)
    together["input_ids"] = torch.cat([together["input_ids"], extra], 1)
    together["attention_mask"] = torch.cat([together["attention_mask"], torch.zeros_like(extra)], 1)
    together["decoder_input_ids"] = torch.cat([together["decoder_input_ids"], extra], 1)
    together["labels"] = torch.cat([together["labels"], torch.full_like(extra, -100)], 1)
    step = backbone.backend.train_step
    with torch.inference_mode():
        alone = [step(backbone.model, batch_of(dataset, backbone, [i]), CPU) for i in range(8)]
        torch.testing.assert_close(step(backbone.model, together, CPU), torch.stack(alone).mean(), rtol=1e-5, atol=1e-6)
    images = blip.encode_images(backbone.model, together["pixel_values"])
    answers = blip.generate_answers(backbone.model, images, together["input_ids"], together["attention_mask"], 5)
    for i in range(8):
        ids = pad([dataset.questions[i]], 0)
        one = blip.generate_answers(backbone.model, images[i : i + 1], ids, torch.ones_like(ids), 5)[0]
        assert answers[i, : len(one)].tolist() == one.tolist()


def test_eight_samples_are_learnt_by_heart() -> None:
    rows = load_data("easy_vqa", DataRequest(max_train_samples=8, max_eval_samples=4, columns=COLUMNS)).train
    options = config(lr=3e-3, lora_dropout=0.0, batch_size=8, grad_accum=1, weight_decay=0.0)
    backbone = backbone_of(options)
    dataset = dataset_of(backbone, rows)
    cache_features(backbone, [dataset], options, lambda *_: None)
    losses: list[float] = []
    train_epochs(backbone, dataset, options, 150, 0, after_epoch=lambda _, loss: losses.append(loss))
    assert losses[-1] < 0.02 < 0.2 < losses[0]
    assert evaluate(backbone, dataset, options)["vqa"].score == 1.0


@pytest.mark.parametrize("merge", ["on", "off"])
def test_a_step_follows_the_gradient_of_the_mean_over_its_samples(rows: Any, merge: str) -> None:
    """13 samples in steps of 8: the last step has a batch of 4 and one of 1, weighed as such."""
    options = config(batch_size=4, grad_accum=2, lora_dropout=0.0, merge_batches=merge)
    backbone = backbone_of(options, randomise=True)
    dataset = dataset_of(backbone, rows.select(range(13)))
    steps: list[dict[str, torch.Tensor]] = []
    sizes: list[list[int]] = []
    real_step, real_collate = torch.optim.AdamW.step, type(backbone.backend).collate_fn
    names = {p: n for n, p in backbone.model.named_parameters()}

    def record(optimizer: torch.optim.AdamW, *_: Any) -> None:
        """Keep the gradients and leave the weights alone."""
        steps.append({names[p]: p.grad.clone() for g in optimizer.param_groups for p in g["params"]})

    def collate(self: Any, items: list[Any]) -> Any:
        sizes.append([dataset.questions.index(item["question_ids"]) for item in items])
        return real_collate(self, items)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", record)
        patch.setattr(type(backbone.backend), "collate_fn", collate)
        result = train_epochs(backbone, dataset, options, 1, seed=3)
    assert torch.optim.AdamW.step is real_step
    assert [len(s) for s in sizes] == ([8, 5] if merge == "on" else [4, 4, 4, 1])
    assert (result.steps, result.samples) == (2, 13)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(_order_seed(3))).tolist()
    backbone.model.train()
    backbone.model.to(torch.float64)
    losses = []
    for step, indices in zip(steps, (order[:8], order[8:]), strict=True):
        backbone.model.zero_grad()
        batch = batch_of(dataset, backbone, indices)
        batch["pixel_values"] = batch["pixel_values"].double()
        loss = backbone.backend.train_step(backbone.model, batch, CPU)
        loss.backward()
        losses.append(loss.item() * len(indices))
        for name, parameter in backbone.model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None
                error = (step[name].double() - parameter.grad).norm() / parameter.grad.norm()
                assert error < 1e-4, name
    assert result.loss == pytest.approx(sum(losses) / 13, rel=1e-5)


def _order_seed(seed: int) -> int:
    from fedumm.seeds import derive

    return derive(seed, "order", 0)


def test_cached_features_change_neither_losses_nor_scores(rows: Any) -> None:
    options = config(lora_dropout=0.0, batch_size=4, grad_accum=1, feature_cache="memory")
    losses: dict[bool, list[float]] = {}
    scores: dict[bool, Scores] = {}
    for cached in (False, True):
        backbone = backbone_of(options)
        dataset = dataset_of(backbone, rows)
        if cached:
            (kept,) = cache_features(backbone, [dataset], options, lambda *_: None)
            assert kept.images == kept.computed == len(set(rows["image_id"][:])), "once per distinct image"
            assert kept.bytes == kept.images * batch_of(dataset, backbone, [0])["image_embeds"].numel() * 4
        own = losses[cached] = []
        train_epochs(backbone, dataset, options, 2, 0, progress=lambda done, _, loss, own=own: own.append(done * loss))
        scores[cached] = evaluate(backbone, dataset, options)
    assert len(losses[True]) == 24
    assert losses[True][:20] == pytest.approx(losses[False][:20], rel=1e-4)
    assert scores[True]["vqa"].score == pytest.approx(scores[False]["vqa"].score, abs=0.005)


def test_features_do_not_depend_on_their_neighbours(rows: Any) -> None:
    """Nor on the place in the batch; so a cache filled in another order holds the same bits."""
    backbone = backbone_of(config())
    dataset = dataset_of(backbone, rows)
    pixels = dataset.pixels([0, 4, 8, 12])
    model = backbone.model
    straight = blip.encode_images(model, pixels)
    assert torch.equal(blip.encode_images(model, pixels.flip(0)).flip(0), straight)
    assert torch.equal(blip.encode_images(model, torch.cat([torch.randn_like(pixels), pixels]))[4:], straight)


def test_scores_are_the_vqa_accuracy_by_answer_type(rows: Any) -> None:
    backbone = backbone_of(config())
    dataset = dataset_of(backbone, rows)
    result = evaluate(backbone, dataset, config())["vqa"]
    said = [
        backbone.backend.answer(backbone.model, backbone.processor, row["image"], row["question"], CPU)  # type: ignore[attr-defined]
        for row in rows
    ]
    hits = [a == b for a, b in zip(said, rows["multiple_choice_answer"][:], strict=True)]
    assert result.score == pytest.approx(sum(hits) / len(hits))
    assert result.count == len(rows)
    types = rows["answer_type"][:]
    for kind in set(types):
        own = [h for h, t in zip(hits, types, strict=True) if t == kind]
        assert result.parts[kind] == (pytest.approx(sum(own) / len(own)), len(own))


def test_long_questions_and_answers_are_cut_with_their_ends_kept(rows: Any) -> None:
    backbone = backbone_of(config())
    dataset = BlipVqaDataset(rows, backbone.processor, 5, 2)
    end = backbone.processor.tokenizer.sep_token_id
    assert all(len(q) <= 5 and q[-1] == end for q in dataset.questions)
    assert all(len(a) <= 2 and a[-1] == end for a in dataset.answers)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "no such folder"),
        ("tinny", "no such folder"),
        ("EMPTY", "does not hold a BLIP VQA model"),
    ],
)
def test_a_model_that_is_not_there_is_one_clear_error(name: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=message):
        blip.load_pretrained(str(tmp_path) if name == "EMPTY" else name)
