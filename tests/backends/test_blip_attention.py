"""Attention with its projections on the query side is the library's attention, to rounding."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.testing import assert_close
from transformers import BlipConfig, BlipForQuestionAnswering, BlipTextConfig
from transformers.models.blip.modeling_blip_text import BlipTextSelfAttention

from fedumm.adapters.dropout import QuickDropout, dropped_product, quicken_dropout
from fedumm.adapters.model import AdapterSlot
from fedumm.backends.blip_vqa import model as blip
from fedumm.backends.blip_vqa.attention import attend_from_the_query_side, in_front_of
from fedumm.errors import FedummError
from fedumm.training.backbone import checkpoint_gradients

WIDTH, HEADS, TOKENS = 64, 4, 40


def small_blip() -> BlipForQuestionAnswering:
    text = {
        "hidden_size": 64, "encoder_hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "vocab_size": 100, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3,
    }  # fmt: skip
    vision = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    model = BlipForQuestionAnswering(BlipConfig(text_config=text, vision_config={**vision, "image_size": 128}))
    blip.mask_cross_attention(model)
    return model


def small_batch() -> list[torch.Tensor]:
    """Image features (65 tokens), questions with their mask, answers as input and as labels."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(4, 65, 64, generator=generator)
    ids = torch.randint(5, 99, (4, 4), generator=generator)
    answers = torch.randint(5, 99, (4, 2), generator=generator)
    return [x, ids, torch.ones_like(ids), answers, answers]


class Pair(torch.nn.Module):
    """One attention layer in the library's form, for PEFT to wrap."""

    def __init__(self) -> None:
        super().__init__()
        text = BlipTextConfig(hidden_size=WIDTH, encoder_hidden_size=WIDTH, num_attention_heads=HEADS)
        self.attention = BlipTextSelfAttention(text, is_cross_attention=True)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.attention(*args, **kwargs)


def layer(dropout: float, **options: Any) -> Any:
    """With a LoRA adapter that does something, in float64."""
    torch.manual_seed(0)
    config = LoraConfig(
        r=4, lora_alpha=8, lora_dropout=dropout, target_modules=["query", "key", "value"],
        init_lora_weights=False, **options,
    )  # fmt: skip
    return quicken_dropout(get_peft_model(Pair(), config)).double()


def run(model: Any, query_side: bool, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    model = copy.deepcopy(model)
    if query_side:
        attention = model.base_model.model.attention
        attention.heads, attention.__class__ = HEADS, in_front_of(type(attention))
    torch.manual_seed(7)
    context, probabilities = model(**inputs)
    gradients: dict[str, Any] = {}
    if torch.is_grad_enabled():
        (context * torch.linspace(-1, 1, context.numel(), dtype=context.dtype).view_as(context)).sum().backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    return context, probabilities, gradients


def inputs_of(queries: int, masked: bool = False) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    made: dict[str, Any] = {
        "hidden_states": torch.randn(3, queries, WIDTH, generator=generator, dtype=torch.float64),
        "encoder_hidden_states": torch.randn(3, TOKENS, WIDTH, generator=generator, dtype=torch.float64),
    }
    if masked:
        mask = torch.zeros(3, 1, 1, TOKENS, dtype=torch.float64)
        mask[1, ..., 30:] = -1e30
        made["encoder_attention_mask"] = mask
    return made


@pytest.fixture
def parents(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts how often the library's own way is taken."""
    calls: list[int] = []
    real = BlipTextSelfAttention.forward

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(BlipTextSelfAttention, "forward", counted)
    return calls


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("training", [False, True])
def test_same_results_and_gradients(training: bool, dropout: float, masked: bool, parents: list[int]) -> None:
    """With LoRA's dropout at work both draw the same random numbers."""
    model, inputs = layer(dropout).train(training), inputs_of(4, masked)
    expected = run(model, False, inputs)
    parents.clear()
    got = run(model, True, inputs)
    assert not parents
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_without_an_adapter_and_with_it_disabled(parents: list[int]) -> None:
    model, inputs = layer(0.0).eval(), inputs_of(4)
    with model.disable_adapter(), torch.no_grad():
        expected = run(model, False, inputs)
        parents.clear()
        assert_close(run(model, True, inputs), expected, rtol=1e-10, atol=1e-12)
    assert not parents


@pytest.mark.parametrize(
    ("queries", "options"),
    [(20, {}), (4, {"use_dora": True}), (4, {"lora_bias": True, "bias": "none"})],
    ids=["many queries", "DoRA", "bias in B"],
)
def test_the_librarys_way_where_ours_does_not_pay_or_apply(
    queries: int, options: dict[str, Any], parents: list[int]
) -> None:
    model, inputs = layer(0.0, **options), inputs_of(queries)
    expected = run(model, False, inputs)
    parents.clear()
    got = run(model, True, inputs)
    assert parents
    for ours, theirs in zip(got, expected, strict=True):
        assert_close(ours, theirs, rtol=0, atol=0)


def test_gradients_reach_tokens_that_want_them(parents: list[int]) -> None:
    inputs = inputs_of(4)
    inputs["encoder_hidden_states"].requires_grad_(True)
    run(layer(0.0), True, inputs)
    assert parents
    assert inputs["encoder_hidden_states"].grad is not None


def test_the_product_of_dropped_inputs_is_peft_s() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 5000, 64, generator=generator)
    weights = [torch.randn(4, 64, generator=generator, requires_grad=True) for _ in range(1)]
    dropout = QuickDropout(0.2).train()
    results = []
    for product in (
        lambda a: torch.nn.functional.linear(dropout(x), a),
        lambda a: dropped_product(x, a, dropout),
    ):
        a = weights[0].detach().clone().requires_grad_(True)
        torch.manual_seed(3)
        out = product(a)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
        results.append((out.detach(), a.grad))
    assert_close(results[1][0], results[0][0], rtol=1e-4, atol=1e-5)
    assert_close(results[1][1], results[0][1], rtol=1e-4, atol=1e-2)


def learn(checkpointing: bool = False, bfloat16: bool = False) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of a small BLIP whose adapter does something, with dropout at work."""
    torch.manual_seed(0)
    base = small_blip()
    attend_from_the_query_side(base)
    model = blip.add_lora(base, 4, 8, 0.1).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    if checkpointing:
        checkpoint_gradients(base, "blip_vqa")
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        loss = blip.answer_loss(model, *small_batch())
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.compat
def test_checkpointing_draws_the_same_random_numbers_again() -> None:
    (loss, gradients), (again, repeated) = learn(), learn(checkpointing=True)
    assert torch.equal(loss, again)
    assert gradients.keys() == repeated.keys()
    for name, gradient in gradients.items():
        assert torch.equal(repeated[name], gradient), name


def test_gradients_in_bfloat16_are_close() -> None:
    """They arrive in another type than that of the weights and the image's features."""
    (loss, gradients), (rounded, coarse) = learn(), learn(bfloat16=True)
    assert rounded.item() == pytest.approx(loss.item(), rel=0.02)
    # Keys and values of the image: what the query side computes.
    own = {name for name in gradients if "text_encoder" in name and "crossattention" in name and "query" not in name}
    assert len(own) == 2 * 2 * 2
    for name in own:
        assert (coarse[name] - gradients[name]).norm() < 0.1 * gradients[name].norm(), name


@pytest.mark.compat
def test_a_whole_model_learns_the_same(parents: list[int]) -> None:
    """Loss and gradients of BLIP through its three stages; the image has 65 tokens."""
    torch.manual_seed(0)
    plain = small_blip()
    ours = copy.deepcopy(plain)
    attend_from_the_query_side(ours)
    results = []
    for base in (plain, ours):
        torch.manual_seed(2)
        model = blip.add_lora(base, 4, 8, 0.1).train()
        parents.clear()
        loss = blip.answer_loss(model, *small_batch())
        loss.backward()
        gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
        results.append((loss.detach(), gradients, len(parents)))
    assert_close(results[1][0], results[0][0])
    for name, gradient in results[0][1].items():
        assert_close(results[1][1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)
    # Two layers each of: encoder self, (encoder cross), decoder self, decoder cross.
    assert [calls for _, _, calls in results] == [8, 6]


def call_in_another_way(monkeypatch: pytest.MonkeyPatch, renamed: dict[str, str]) -> None:
    """As if a newer library called its attention to images with other names."""
    attention = type(small_blip().text_encoder.encoder.layer[0].crossattention)
    theirs = BlipTextSelfAttention.forward
    back = {new: old for old, new in renamed.items()}

    def call(self: Any, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        names = {"attention_mask": "attention_mask", "encoder_hidden_states": "encoder_hidden_states"} | renamed
        found = self.self(hidden_states, **{names[name]: kwargs[name] for name in kwargs if name in names})
        return self.output(found[0], hidden_states), found[1]

    def answer(self: Any, hidden_states: torch.Tensor, **kwargs: Any) -> Any:
        return theirs(self, hidden_states, **{back.get(name, name): value for name, value in kwargs.items()})

    monkeypatch.setattr(attention, "forward", call)
    monkeypatch.setattr(BlipTextSelfAttention, "forward", answer)


@pytest.mark.compat
def test_a_library_that_names_its_arguments_otherwise_keeps_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_blip()
    call_in_another_way(monkeypatch, {"encoder_hidden_states": "memory"})
    x, ids, mask, *_ = small_batch()
    with torch.no_grad():
        expected = blip.encode_question(model.eval(), x, ids, mask)
        attend_from_the_query_side(model)
        assert torch.equal(blip.encode_question(model, x, ids, mask), expected)


def test_a_library_that_calls_what_ours_lacks_keeps_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_blip()

    def broken(self: Any, *args: Any) -> Any:
        raise AttributeError("no attribute 'query'")

    monkeypatch.setattr("fedumm.backends.blip_vqa.attention.QuerySideAttention._scores", broken)
    with pytest.warns(UserWarning, match="slower: no attribute 'query'"):
        attend_from_the_query_side(model)
    blip.encode_question(model, *small_batch()[:3])


def test_a_library_that_masks_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers would depend on how far their questions are padded, in silence."""
    call_in_another_way(monkeypatch, {"attention_mask": "where"})
    with pytest.raises(FedummError, match=r"padded with transformers \d"):
        small_blip()


@torch.no_grad()
def test_weights_that_took_in_a_change_are_not_rounded(parents: list[int]) -> None:
    """What a small change of key and value does to the result, under autocast as in float64."""
    g = torch.Generator().manual_seed(5)
    column, row = torch.randn(WIDTH, 1, generator=g), torch.randn(1, WIDTH, generator=g)
    change = {f"base_model.model.attention.{name}": (1e-3 * column, row) for name in ("key", "value")}
    shifts = []
    for dtype in (torch.float64, torch.float32):
        model, inputs = layer(0.0).eval().to(dtype), {k: t.to(dtype) for k, t in inputs_of(4).items()}
        attention = model.base_model.model.attention
        attention.heads, attention.__class__ = HEADS, in_front_of(type(attention))
        slot = AdapterSlot(model)
        parents.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.float32):
            slot.fold({name: (0 * left, right) for name, (left, right) in change.items()})
            before = model(**inputs)[0].double()
            slot.fold(change)
            shifts.append(model(**inputs)[0].double() - before)
    assert not parents
    exact, rounded = shifts
    assert (rounded - exact).norm() < 0.02 * exact.norm()
