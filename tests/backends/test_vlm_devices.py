"""Image-text models on a GPU that is not there: no step and no answer leaves a tensor on the CPU."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from PIL import Image

from fedumm.adapters.model import AdapterSlot
from fedumm.backends.answers import AnswerOptions
from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.hf_vlm.backend import HfVlmBackend
from fedumm.training.device import moved
from support.stand_in_gpu import GPU, StandInGpu, put, there
from support.vlm_families import FAMILIES, save

CPU = torch.device("cpu")
QUICK = {"qwen3_vl", "paligemma", "blip2"}
UNSEEN = {"gemma3"}
"""Its mask is made by ``torch.vmap``, of whose results the stand-in knows nothing."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def table() -> Any:
    sizes = ((64, 48), (40, 90), (100, 60))
    pictures = [Image.frombytes("RGB", s, random.Random(k).randbytes(3 * s[0] * s[1])) for k, s in enumerate(sizes)]
    columns = {
        "image": pictures,
        "question": ["What is it?", "Which colour has the larger of the two?", "How many?"],
        "multiple_choice_answer": ["a dog", "red", "17 or more"],
        "answers": [["a dog", "dog"], ["red", "red"], ["17 or more", "17"]],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


NAMES = [
    pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in FAMILIES if name not in UNSEEN
]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_left_on_the_cpu(name: str, tmp_path: Path) -> None:
    """Pixels and features, one answer and several, generated and ranked; with the numbers of the CPU."""
    backend = HfVlmBackend(prompt="none").for_tasks(["vqa"], "attention")
    torch.manual_seed(0)
    model, processor = backend.build_model_and_processor(str(save(name, tmp_path)), 4, 8, 0.0, CPU)
    slot = AdapterSlot(model)
    slot.put({key: 0.3 * torch.randn(own.shape) for key, own in slot.get().items()})
    several = backend.for_answers(AnswerOptions(train_all=True))
    ranking = backend.for_answers(AnswerOptions(rank=True, candidates=("red", "a dog", "17")))
    stages = backend.frozen_stages(model, processor)
    works: list[tuple[HfVlmBackend, Any]] = []
    for each, cached in ((backend, False), (backend, True), (several, False), (ranking, False)):
        data = each.build_dataset(table(), processor, 64, 16)
        if cached and stages:
            pairs = [stages[0].encode(data.pixels([row])) for row in range(3)]
            block = Block.of_images([own for own, _ in pairs], [beside for _, beside in pairs])
            data.features = FeatureTable([block], [(0, row) for row in range(3)])
        works.append((each, each.collate_fn([data[row] for row in (2, 0, 1)])))

    def work(device: torch.device) -> list[Any]:
        found: list[Any] = []
        for each, batch in works:
            batch = moved(batch, device)
            loss = each.train_step(model, batch, device)
            assert there(loss) is (device == GPU)
            found.append(float(loss.detach()))
            found += [sample.score for sample in each.score_batch(model, batch, processor, device)]
        return found

    expected = work(CPU)
    put(model)
    with StandInGpu():
        assert work(GPU) == pytest.approx(expected, rel=1e-5)
