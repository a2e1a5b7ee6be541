"""One family of image-text models as the backend has it and as plain transformers and PEFT do, and how they compare."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText

from fedumm.adapters.folder import save_folder
from fedumm.adapters.model import AdapterSlot
from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.hf_vlm.backend import HfVlmBackend, VlmProcessor
from fedumm.backends.hf_vlm.dataset import VlmDataset

CPU = torch.device("cpu")
SLOW_PATH = {"blip2", "instructblip"}
"""Families whose ``generate`` takes no image features."""

MARKS = {"chameleon": "<image>"}
"""What stands for the image in the texts of families without a chat template."""

FLAT = {"got_ocr2"}
"""Families that want images without lists around them."""

NESTED = {"idefics"}
"""Families without a chat template that want a list of images for each text."""

QUESTIONS = ("What is it?", "Which colour has the larger of the two?", "How many?")
ANSWERS = ("a dog", "red", "17 or more")
SIZES = ((64, 48), (40, 90), (100, 60))


def image(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, random.Random(seed).randbytes(3 * size[0] * size[1]))


def table(count: int = 3) -> Any:
    places = [k % 3 for k in range(count)]
    columns = {
        "image": [image(k, SIZES[k % 3]) for k in range(count)],
        "question": [QUESTIONS[k] for k in places],
        "multiple_choice_answer": [ANSWERS[k] for k in places],
        "answers": [[ANSWERS[k]] for k in places],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


@dataclass
class Case:
    """One family: the backend's model with an adapter that is not zero, and the same in plain PEFT."""

    name: str
    backend: HfVlmBackend
    model: torch.nn.Module
    processor: VlmProcessor
    plain: Any
    plain_processor: Any

    def data(self, rows: Any, cached: bool = False) -> VlmDataset:
        made = self.backend.build_dataset(rows, self.processor, 64, 16)
        if cached:
            (stage,) = self.backend.frozen_stages(self.model, self.processor)
            pairs = [stage.encode(made.pixels([row])) for row in range(len(rows))]
            block = Block.of_images([own for own, _ in pairs], [beside for _, beside in pairs])
            made.features = FeatureTable([block], [(0, row) for row in range(len(rows))])
        return made

    def batch(self, rows: Any, cached: bool = False, order: Sequence[int] = (2, 0, 1)) -> Any:
        made = self.data(rows, cached)
        return self.backend.collate_fn([made[row] for row in order])

    def loss(self, batch: Any) -> float:
        with torch.no_grad():
            return float(self.backend.train_step(self.model, batch, CPU))


def make_case(name: str, save: Callable[[str, Path], Path], build: Callable[[str], Any], folder: Path) -> Case:
    """The family saved into ``folder`` and read from there."""
    save(name, folder)
    backend = HfVlmBackend(prompt="none").for_tasks(["vqa"], "attention")
    torch.manual_seed(0)
    model, processor = backend.build_model_and_processor(str(folder), 4, 8, 0.0, CPU)
    slot = AdapterSlot(model)
    slot.put({key: 0.3 * torch.randn(own.shape) for key, own in slot.get().items()})
    config = model.peft_config["default"].to_dict() | {"inference_mode": True}
    save_folder(folder / "adapter", slot.get(), _plain(config), "")
    plain = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return Case(
        name, backend, model, processor, PeftModel.from_pretrained(plain, folder / "adapter").eval(), build(name)[1]
    )


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: sorted(own) if isinstance(own, set) else getattr(own, "value", own) for key, own in config.items()}


def reference(case: Case, row: int, answer: str | None) -> dict[str, Any]:
    """What the processor itself makes of a question, or with ``answer`` of the whole conversation, with labels."""
    processor, picture, question = case.plain_processor, image(row, SIZES[row]), QUESTIONS[row]
    if case.name not in SLOW_PATH and not processor.chat_template:
        return _untold(case, row, answer)
    if case.name in SLOW_PATH:
        text = question if answer is None else f"{question} {answer}</s>"
        made = dict(processor(images=picture, text=text, return_tensors="pt"))
        before = processor(images=picture, text=question, return_tensors="pt")["input_ids"].shape[1]
        if answer is not None:
            # The Q-Former reads the question only.
            made |= {
                k: v for k, v in processor(images=picture, text=question, return_tensors="pt").items() if "qformer" in k
            }
    else:
        turn = {"role": "user", "content": [{"type": "image", "image": picture}, {"type": "text", "text": question}]}
        turns = [turn]
        if answer is not None:
            turns.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        if case.name in FLAT:
            return _joined(case, row, answer, [turn])
        options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
        prompt = processor.apply_chat_template([turn], add_generation_prompt=True, **options)
        before = prompt["input_ids"].shape[1]
        if answer is not None and case.name.startswith("paligemma"):
            text = processor.apply_chat_template([turn], add_generation_prompt=True, tokenize=False)
            return dict(processor(text=[text], images=[[picture]], suffix=[answer], return_tensors="pt"))
        made = dict(prompt if answer is None else processor.apply_chat_template(turns, **options))
    if answer is None:
        made.pop("labels", None)
        return made
    ids = made["input_ids"]
    length = ids.shape[1] - (ids[0].flip(0) == processor.tokenizer.eos_token_id).int().argmax().item()
    made = {k: v[:, :length] if getattr(v, "shape", None) == ids.shape else v for k, v in made.items()}
    return {**made, "labels": made["input_ids"].masked_fill(torch.arange(length) < before, -100)}


def _untold(case: Case, row: int, answer: str | None) -> dict[str, Any]:
    """As :func:`reference`, of a processor that comes without a chat template: the question, a space, the answer."""
    processor, mark = case.plain_processor, MARKS.get(case.name, "")
    images = [[image(row, SIZES[row])]] if case.name in NESTED else [image(row, SIZES[row])]
    made = dict(processor(images=images, text=[mark + QUESTIONS[row]], return_tensors="pt"))
    return made if answer is None else with_answer(processor, made, f" {answer}")


def _joined(case: Case, row: int, answer: str | None, turns: Any) -> dict[str, Any]:
    """As :func:`reference`, of a processor whose own ``apply_chat_template`` fails with an image."""
    processor = case.plain_processor
    text = processor.tokenizer.apply_chat_template(
        turns, chat_template=processor.chat_template, tokenize=False, add_generation_prompt=True
    )
    made = dict(processor(images=[image(row, SIZES[row])], text=[text], return_tensors="pt"))
    return made if answer is None else with_answer(processor, made, answer)


def with_answer(
    processor: Any, made: dict[str, Any], answer: str, end: int | None = None, types: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """A prompt as the processor ``made`` it and an answer behind it, with labels.

    Args:
        end: the token that ends the answer (default: the tokenizer's end of a sequence).
        types: what further integers of its tokens are, by name (default: as the prompt's last one).
    """
    tokens = processor.tokenizer
    said = torch.tensor([[*tokens(answer, add_special_tokens=False).input_ids, end or tokens.eos_token_id]])
    length = made["input_ids"].shape[1]
    for name, own in made.items():
        if own.shape[:2] == (1, length):
            fill = own[:, -1:].expand(-1, said.shape[1], *own.shape[2:])
            fill = torch.full_like(fill, types[name]) if types and name in types else fill
            made[name] = torch.cat([own, said if name == "input_ids" else fill], 1)
    labels = made["input_ids"].clone()
    labels[:, :length] = -100
    return {**made, "labels": labels}


def check_against_plain(case: Case) -> None:
    """Loss and greedy tokens are those of plain transformers and PEFT."""
    rows = table()
    with torch.no_grad():
        losses = [float(case.plain(**reference(case, row, ANSWERS[row])).loss) for row in range(3)]
        said = []
        for row in range(3):
            given = reference(case, row, None)
            made = case.plain.generate(**given, do_sample=False, max_new_tokens=6)[0]
            said.append(made[given["input_ids"].shape[1] :].tolist())
    assert case.loss(case.batch(rows)) == pytest.approx(sum(losses) / 3, rel=1e-5)
    ends = case.processor.known.reader.ends
    reader, batch = case.processor.known.reader, case.batch(rows, order=(0, 1, 2))
    with torch.inference_mode():
        found = reader.generate(batch["prompts"], reader.features(batch["images"]), batch["extras"], 6)
    assert found == [row[: next((k for k, t in enumerate(row) if t in ends), len(row))] for row in said]
    # Without an adapter, and for another picture, it would be another loss: the test can fail.
    with case.model.disable_adapter():
        assert abs(case.loss(case.batch(rows)) - sum(losses) / 3) > 1e-3
    moved = rows.select([1, 0, 2]).select_columns("image").add_column("question", list(QUESTIONS))
    for column in ("multiple_choice_answer", "answers"):
        moved = moved.add_column(column, rows[column][:])
    assert abs(case.loss(case.batch(moved)) - sum(losses) / 3) > 1e-3


def check_kept_features(case: Case) -> None:
    """With kept features nothing changes."""
    rows = table()
    assert case.loss(case.batch(rows, cached=True)) == pytest.approx(case.loss(case.batch(rows)), rel=1e-5)
    batches = [case.batch(rows, cached) for cached in (False, True)]
    scores = [case.backend.score_batch(case.model, batch, case.processor, CPU) for batch in batches]
    assert scores[0] == scores[1]
    assert torch.equal(batches[0]["inputs"].ids, batches[1]["inputs"].ids)


def check_what_learns(case: Case) -> None:
    """Only the language model learns, and all its layers with LoRA do."""
    case.model.train()
    case.backend.train_step(case.model, case.batch(table()), CPU).backward()
    try:
        trained = {key for key, p in case.model.named_parameters() if p.grad is not None and p.grad.any()}
        wanted = {key for key, p in case.model.named_parameters() if "lora_" in key}
        assert wanted
        assert trained == wanted
        tower = case.plain.get_base_model().get_decoder()
        inside = {id(module) for module in tower.modules()}
        for module, own in case.plain.get_base_model().named_modules():
            if hasattr(own, "lora_A"):
                assert id(own) in inside, f"{module} is outside of the language tower"
        reader = case.processor.known.reader
        own = {id(module) for module in reader.model.get_decoder().modules()}
        assert not any(m.training for m in reader.model.modules() if id(m) not in own)
        assert reader.model.get_decoder().training
    finally:
        case.model.eval()
        case.model.zero_grad(set_to_none=True)
