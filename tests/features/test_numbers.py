"""The types in which features are kept: which one is chosen, what each loses, and what that does to a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from features.test_ragged import FACTS, Images, features_of
from features.test_ragged import fill as fill_ragged
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.dataset import BlipVqaDataset
from fedumm.backends.feature_table import Block
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.features.numbers import eight_bits, kept_as
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.feature_cache import cache_features

CPU = torch.device("cpu")
FLOAT = torch.nn.Linear(1, 1)
HALF = torch.nn.Linear(1, 1).bfloat16()
MIXED = torch.nn.ModuleList([FLOAT, HALF])


@pytest.mark.parametrize(
    ("choice", "arithmetic", "module", "kept"),
    [
        ("auto", torch.float32, FLOAT, torch.float32),
        ("auto", torch.bfloat16, FLOAT, torch.bfloat16),
        ("auto", torch.float32, HALF, torch.bfloat16),
        ("auto", torch.bfloat16, HALF, torch.bfloat16),
        ("auto", torch.float32, torch.nn.Linear(1, 1).half(), torch.float16),
        ("auto", torch.float32, MIXED, torch.float32),
        ("auto", torch.bfloat16, torch.nn.Identity(), torch.bfloat16),
        ("float32", torch.bfloat16, HALF, torch.float32),
        ("float16", torch.float32, FLOAT, torch.float16),
        ("int8", torch.float32, FLOAT, torch.int8),
    ],
)
def test_auto_loses_nothing_that_the_arithmetic_keeps(
    choice: str, arithmetic: torch.dtype, module: torch.nn.Module, kept: torch.dtype
) -> None:
    assert kept_as(choice, arithmetic, module) == kept


def test_eight_bits_by_hand() -> None:
    """Two images of two features and three channels; each channel's largest becomes 127."""
    features = torch.tensor([[[254.0, 0.0, -1.27], [-127.0, 0.0, 0.004]], [[1.0, 2.0, 4.0], [0.5, -4.0, 1.0]]])
    block = eight_bits(Block(features))
    assert block.scales is not None
    torch.testing.assert_close(block.scales, torch.tensor([[2.0, 0.0, 0.01], [1 / 127, 4 / 127, 4 / 127]]))
    assert block.features.tolist() == [[[127, 0, -127], [-64, 0, 0]], [[127, 64, 127], [64, -127, 32]]]
    torch.testing.assert_close(block.of(0), torch.tensor([[254.0, 0.0, -1.27], [-128.0, 0.0, 0.0]]))
    assert block.image_bytes(0) == 6 + 3 * 4
    (flat,) = eight_bits(Block(torch.tensor([[1.0, -127.0]]))).features.tolist()
    assert flat == [1, -127], "one scale where there is one dimension"


NUMBERS = st.floats(-(2.0**127), 2.0**127, width=32)


@example([[(190 * 2.0**-149, 0.0)]])  # whose scale is rounded to the smallest number there is
@given(st.lists(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=5), min_size=1, max_size=4))
def test_no_number_is_off_by_more_than_half_a_step(images: list[list[tuple[float, float]]]) -> None:
    features = [torch.tensor(image, dtype=torch.float32).reshape(len(image), 2) for image in images]
    block = eight_bits(Block.of_images(features, [torch.tensor([7])] * len(images)))
    for position, exact in enumerate(features):
        step = exact.double().abs().amax(0) / 127 if len(exact) else torch.zeros(2)
        off = (block.of(position).double() - exact.double()).abs()
        assert bool((off <= step * 0.5001 + 2e-43).all())
        assert block.beside(position).tolist() == [7]


def test_eight_bits_on_disk_and_in_memory_are_the_same(tmp_path: Path) -> None:
    stored, held = Images(FACTS), Images(FACTS)
    size = fill_ragged(tmp_path, stored, dtype=torch.int8).bytes
    assert size == fill_ragged(tmp_path, held, mode="memory", dtype=torch.int8).bytes
    distinct = dict.fromkeys(FACTS)
    assert size == sum(3 * count + 3 * 4 + 8 * len(numbers) for count, numbers in distinct)
    assert stored.features is not None
    assert held.features is not None
    for row, fact in enumerate(FACTS):
        own, exact = stored.features.of(row), features_of(fact)
        assert torch.equal(own, held.features.of(row))
        assert own.dtype == torch.float32
        torch.testing.assert_close(own, exact, atol=float(exact.abs().max()) / 254 * 1.001 if len(exact) else 0, rtol=0)
        assert stored.features.beside(row).tolist() == list(fact[1])
    assert fill_ragged(tmp_path, Images(FACTS), dtype=torch.int8).computed == 0
    assert fill_ragged(tmp_path, Images(FACTS)).computed == len(distinct), "other features"


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """The shipped tiny model with an adapter that does something."""
    options = CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny", lora_dropout=0.0)
    backbone = load_backbone(options, CPU)
    generator = torch.Generator().manual_seed(1)
    backbone.put({n: 0.05 * torch.randn(t.shape, generator=generator) for n, t in backbone.adapter().items()})
    return backbone


def said(backbone: Backbone, rows: Any, kind: str) -> tuple[float, torch.Tensor, torch.dtype]:
    """Loss, and logits of the answers' first tokens, with features kept as ``kind``."""
    options = CentralConfig(model_backend="blip_vqa", model_name_or_path="tiny", feature_dtype=kind)
    dataset: BlipVqaDataset = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    cache_features(backbone, [dataset], options, lambda *_: None)
    batch = backbone.backend.collate_fn([dataset[row] for row in range(len(rows))])
    with torch.no_grad():
        loss = backbone.train_step(batch).item()
        read = batch["image_embeds"].float(), batch["input_ids"], batch["attention_mask"]
        question = blip.encode_question(backbone.model, *read)
        logits = blip.decoder_logits(
            backbone.model, batch["decoder_input_ids"][:, :1], question, batch["attention_mask"]
        )
    return loss, logits, batch["image_embeds"].dtype


BOUNDS = {"bfloat16": (2e-4, 1e-3), "float16": (5e-5, 2e-4), "int8": (2e-4, 2e-3)}
"""Largest relative change of the mean loss, and of the logits by their norm, that is let through."""


def test_what_it_does_to_a_model_is_within_bounds(backbone: Backbone) -> None:
    columns: Sequence[str] = ("image", "question", "multiple_choice_answer", "answers")
    rows = load_data("shapes", DataRequest(max_train_samples=48, max_eval_samples=4, columns=columns)).train
    loss, logits, exact = said(backbone, rows, "auto")
    assert exact == torch.float32
    for kind, (most, far) in BOUNDS.items():
        other, changed, dtype = said(backbone, rows, kind)
        assert dtype == (torch.float32 if kind == "int8" else getattr(torch, kind))
        change, away = abs(other - loss) / loss, ((changed - logits).norm() / logits.norm()).item()
        assert 0 < away < far, kind
        assert change < most, kind
