"""What Janus asks for at a time: keys and values by tokens, logits in pieces; the same numbers with little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace as Namespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache

from fedumm.backends.januspro import logits
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.dataset import collate
from fedumm.backends.januspro.generate import kept_in
from fedumm.config import CentralConfig
from fedumm.data import DataRequest, load_data
from fedumm.training.backbone import Backbone, load_backbone
from fedumm.training.batching import evaluation_batches
from fedumm.training.evaluation import evaluate
from fedumm.training.fitting import CACHE_BYTES, fitting, token_budget
from fedumm.training.generation_eval import MOST_IMAGES, drawn
from published_models import PUBLISHED, on_meta

CPU = torch.device("cpu")
COLUMNS = ("image", "question", "multiple_choice_answer", "answers", "caption")


def config(**options: Any) -> CentralConfig:
    given = {"model_backend": "januspro", "model_name_or_path": "tiny", "task": "unified", "lora_dropout": 0.0}
    return CentralConfig(**{**given, **options})


@pytest.fixture
def backbone() -> Backbone:
    """``tiny`` with an adapter that says something."""
    backbone = load_backbone(config(), CPU)
    torch.manual_seed(2)
    backbone.put({name: torch.randn_like(t) / 50 for name, t in backbone.adapter().items()})
    return backbone


@pytest.fixture(scope="module")
def rows() -> Any:
    mix = {"vqa": 1, "t2i": 1}
    return load_data("shapes", DataRequest(columns=COLUMNS, mix=mix, max_train_samples=2, max_eval_samples=24)).eval


# Janus-Pro-1B's real sizes


class Answers:
    """Questions to Janus-Pro-1B: 576 image tokens, and from 20 to 28 of text."""

    tasks = ("vqa",) * 2000
    lengths = tuple(576 + 20 + row % 9 for row in range(2000))

    def __len__(self) -> int:
        return len(self.lengths)


@pytest.fixture(scope="module")
def large() -> Backbone:
    """Janus-Pro-1B without weights, bfloat16 as on a GPU."""
    config, processor = PUBLISHED["janus-pro-1b"].build()
    model = on_meta(config, "januspro").to(torch.bfloat16)
    return Backbone(JanusProBackend(("vqa", "t2i")), model, processor, CPU)


def test_keys_and_values_of_janus_pro_1b_stay_within_4_gb(large: Backbone) -> None:
    each = janus.token_bytes(large.model)
    assert each == 2 * 24 * 2048 * 2
    for batch_size, before in ((8, 31e9), (32, 125e9)):
        options = config(task="vqa", batch_size=batch_size)
        longest = max(Answers.lengths)
        asked = {
            name: max(len(b.rows) * (max(Answers.lengths[row] for row in b.rows) + options.max_a_len) for b in batches)
            for name, batches in {
                "now": evaluation_batches(Answers(), options, 32 * batch_size, token_budget(large)),
                "before": evaluation_batches(Answers(), options, 32 * batch_size),
            }.items()
        }
        assert asked["before"] * each == pytest.approx(before, rel=0.01), "what samples alone would ask for"
        assert CACHE_BYTES - (longest + 16) * each < asked["now"] * each <= CACHE_BYTES == 4e9


def test_sixteen_images_of_janus_pro_1b_fit_with_guidance(large: Backbone) -> None:
    backend: Any = large.backend
    captions = ["a photo of a red circle left of a blue square"] * MOST_IMAGES
    tokens = backend.drawn_tokens(large.model, large.processor, captions, None)
    assert tokens[0] == 2 * (576 + len(build_prompt(large, captions[0])))
    assert fitting(tokens, MOST_IMAGES, token_budget(large)) == MOST_IMAGES
    assert backend.drawn_tokens(large.model, large.processor, captions, 1.0)[0] * 2 == tokens[0]
    large.model.float()
    half = fitting(tokens, MOST_IMAGES, token_budget(large))
    large.model.bfloat16()
    assert half == 8, "in float32, as on a CPU"


@torch.no_grad()
def test_the_logits_of_janus_pro_1b_come_in_pieces_of_256_mib(large: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a batch of 256 images they would be 9.7 GB in float32, and as much again as log-probabilities."""
    janus_model: Any = large.model
    # Without numbers its attention mask can't be made; what it is given has the shape of what it says.
    monkeypatch.setattr(
        janus_model.model.language_model, "forward", lambda **given: Namespace(last_hidden_state=given["inputs_embeds"])
    )
    ids, codes = (torch.zeros(256, length, dtype=torch.int64, device="meta") for length in (30, 576))
    with outputs_of(janus_model.model.generation_head) as pieces:
        losses = janus.image_losses(large.model, ids, torch.ones_like(ids), codes)
    assert losses.shape == (256,)
    assert sum(pieces) == 256 * 576 * 16384
    assert max(pieces) * 4 <= 256 * 2**20


def build_prompt(backbone: Backbone, caption: str) -> Any:
    from fedumm.backends.januspro.prompts import Prompts

    return Prompts(backbone.processor).caption(caption)


def test_a_tokens_bytes_are_those_of_the_cache(backbone: Backbone, rows: Any) -> None:
    backend: Any = backbone.backend
    data = backend.build_dataset(rows, backbone.processor, 64, 16)
    batch = collate([data[row] for row, task in enumerate(data.tasks) if task == "vqa"][:3])
    with torch.no_grad():
        image = janus.encode_for_understanding(backbone.model, batch["pixel_values"])
        cache, inner = DynamicCache(), janus.base_of(backbone.model).model
        janus.question_states(backbone.model, batch["input_ids"], image, **kept_in(cache, inner))
    held = sum(tensor.nbytes for layer in cache.layers for tensor in (layer.keys, layer.values))
    assert held == batch["input_ids"].numel() * janus.token_bytes(backbone.model)


# logits


@contextmanager
def outputs_of(module: torch.nn.Module) -> Iterator[list[int]]:
    """Numbers in each output."""
    sizes: list[int] = []
    handle = module.register_forward_hook(lambda _, args, output: sizes.append(output.numel()))
    yield sizes
    handle.remove()


def gradients(backbone: Backbone, batch: Any) -> tuple[float, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    loss = backbone.train_step(batch)
    loss.backward()
    found = {name: p.grad.clone() for name, p in backbone.slot.parameters.items() if p.grad is not None}
    backbone.model.zero_grad()
    return loss.item(), found


@pytest.mark.parametrize("task", ["vqa", "t2i"])
def test_logits_in_pieces_give_the_same_loss_and_gradient(
    backbone: Backbone, rows: Any, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend: Any = backbone.backend
    base = janus.base_of(backbone.model)
    head = base.lm_head if task == "vqa" else base.model.generation_head
    data = backend.build_dataset(rows, backbone.processor, 64, 16)
    batch = collate([data[row] for row, own in enumerate(data.tasks) if own == task][:7])
    with outputs_of(head) as whole:
        expected, expected_gradients = gradients(backbone, batch)
    assert len(whole) == 1, "one piece where there are few"
    monkeypatch.setattr(logits, "LOGITS_BYTES", whole[0] * 4 // 3)
    with outputs_of(head) as pieces:
        loss, found = gradients(backbone, batch)
    assert max(pieces) * 4 <= logits.LOGITS_BYTES
    assert sum(pieces) == 2 * whole[0], "once in the forward and once in the backward pass"
    assert loss == pytest.approx(expected, rel=1e-6)
    assert found.keys() == expected_gradients.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=1e-4, atol=1e-7)
    with outputs_of(head) as scored, torch.inference_mode():
        scores = backend.score_batch(backbone.model, batch, backbone.processor, CPU)
    assert len(scores) == 7
    if task == "t2i":
        assert max(scored) * 4 <= logits.LOGITS_BYTES
        assert sum(scored) == whole[0]
    else:
        assert max(scored) == 7 * base.config.text_config.vocab_size, "of an answer, the last position only"


def test_no_logits_wait_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted by what autograd saves: with pieces states and labels, no row of logits."""
    torch.manual_seed(0)
    head = torch.nn.Linear(4, 1000)
    states, labels = torch.randn(32, 5, 4, requires_grad=True), torch.randint(0, 1000, (32, 5))

    def saved() -> int:
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):  # type: ignore[func-returns-value]
            logits.cross_entropies(head, states, labels, 1000)
        return max(sizes, default=0)

    assert saved() >= 32 * 5 * 1000
    monkeypatch.setattr(logits, "LOGITS_BYTES", 4 * 1000 * 5 * 3)
    assert saved() <= 1000 * 4, "the head's weights at most"


# a machine with less memory


class Memory:
    """Room for the keys and values of so many tokens; the language model raises as a GPU's allocator does."""

    def __init__(self, model: torch.nn.Module, room: int) -> None:
        self.room, self.asked = room, list[int]()
        language_model = janus.base_of(model).model.language_model
        self.remove: Callable[[], None] = language_model.register_forward_pre_hook(self._take, with_kwargs=True).remove

    def _take(self, _: Any, args: Any, given: dict[str, Any]) -> None:
        new = given["input_ids"] if given.get("input_ids") is not None else given["inputs_embeds"]
        before = sum(value.get_seq_length() for value in given.values() if isinstance(value, Cache))
        self.asked.append(new.shape[0] * (before + new.shape[1]))
        if self.asked[-1] > self.room:
            raise torch.OutOfMemoryError(f"CUDA out of memory: {self.asked[-1]} tokens")


def test_scores_are_the_same_with_little_memory(backbone: Backbone, rows: Any) -> None:
    said: list[str] = []
    backbone.say = said.append
    data = backbone.backend.build_dataset(rows, backbone.processor, 64, 16)
    options = config(batch_size=8)
    expected = evaluate(backbone, data, options)
    assert {task: e.count for task, e in expected.items()} == {"vqa": 12, "t2i": 12}
    memory = Memory(backbone.model, 4 * 90)
    scores = evaluate(backbone, data, options)
    failed = [tokens for tokens in memory.asked if tokens > memory.room]
    assert len(failed) == len(said) == 4, "each task halves twice: 12, 6, 3 samples"
    assert set(backbone.limits.values()) == {3}
    for task, own in scores.items():
        assert own.score == pytest.approx(expected[task].score, rel=1e-6)
        assert own.parts.keys() == expected[task].parts.keys()
        assert (own.loss or 0) == pytest.approx(expected[task].loss or 0, rel=1e-6)
    memory.asked.clear()
    assert evaluate(backbone, data, options) == scores
    assert max(memory.asked) <= memory.room, "the smaller batch is remembered"
    memory.remove()


def test_images_are_the_same_with_little_memory(backbone: Backbone) -> None:
    said: list[str] = []
    backbone.say = said.append
    captions = ["a red circle", "two squares", "a cross left of a blue triangle", "a green circle", "three crosses"]
    expected = list(drawn(backbone, captions, range(5)))
    memory = Memory(backbone.model, 2 * 3 * 90)
    images = list(drawn(backbone, captions, range(5)))
    memory.remove()
    assert [line.split(":")[0] for line in said] == ["Out of memory on cpu, drawing images 5 at a time"]
    for image, other in zip(images, expected, strict=True):
        # Rounding in the decoder depends on the batch: by a level at most.
        assert np.abs(np.asarray(image).astype(int) - np.asarray(other)).max() <= 1
