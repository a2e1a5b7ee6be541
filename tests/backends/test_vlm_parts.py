"""Parts of the backend for image-text models: prompts, layers with LoRA, what a probe finds."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from fedumm.backends.hf_vlm.anatomy import Anatomy, Rest, kinds_of
from fedumm.backends.hf_vlm.backend import HfVlmBackend
from fedumm.backends.hf_vlm.batch import pad_left, texts, training_texts
from fedumm.backends.hf_vlm.load import load_prompts, settle
from fedumm.backends.hf_vlm.probe import Facts, picture, probe
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompts, joined
from fedumm.backends.prompting import SHORT_ANSWER
from fedumm.backends.ranking import ballot
from fedumm.errors import FedummError
from support.vlm_families import FAMILIES, build, save

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def prompts_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Prompts]:
    return functools.cache(lambda name: load_prompts(str(save(name, tmp_path_factory.mktemp(name)))))


@pytest.fixture(scope="module")
def model_of() -> Callable[[str], Any]:
    return functools.cache(lambda name: build(name)[0].eval())


def probed(model: Any, prompts: Prompts) -> Facts:
    return probe(model, prompts, settle(model, prompts))


@pytest.mark.parametrize("name", ["qwen2_5_vl", "smolvlm", "paligemma", "gemma3", "emu3"])
def test_an_image_and_a_question_made_apart_are_joined_to_the_same(
    prompts_of: Callable[[str], Prompts], name: str
) -> None:
    prompts = prompts_of(name)
    for seed, size in enumerate([(50, 50), (200, 40), (30, 90)]):
        image = picture(seed, *size)
        part = prompts.image_part(prompts.encode([image], QUESTION))
        assert part is not None
        for question in ("Why?", "Is this\nin two lines?", "¿Qué es? 什么", ""):
            whole, made = prompts.encode([image], question), joined(part, prompts.question(question))
            assert (made.ids, made.types) == (whole.ids, whole.types)


def test_an_answer_is_a_turn_of_the_chat_template(prompts_of: Callable[[str], Prompts]) -> None:
    prompts = prompts_of("llava")
    speller = HfVlmBackend().speller(HfVlmBackend().load_processor(prompts.tokenizer.name_or_path))
    (ids,) = speller.encode(["two dogs"])
    prompt = prompts.encode([picture(0, 40, 40)], "Which?").ids
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "two dogs"}]},
    ]
    text = prompts.tokenizer.apply_chat_template(turns, chat_template=prompts.template, tokenize=False)
    whole = prompts.processor(text=[text], images=[[picture(0, 40, 40)]])["input_ids"][0]
    assert list(whole) == [*prompt, *prompts.answer(ids, 99)]
    assert prompts.answer(ids, 4) == (*ids[:3], prompts.end_id)


@pytest.mark.parametrize("text", ["a <image> b", "</s>", "<|image_pad|>x"])
def test_a_special_token_in_a_text_is_refused(prompts_of: Callable[[str], Prompts], text: str) -> None:
    prompts = prompts_of("qwen2_5_vl" if "|" in text else "llava")
    with pytest.raises(FedummError, match=r"must not contain .*special token"):
        prompts.check(text, "A question")
    assert prompts.check("1 < 2 > 0 is </ s>", "A question")


def test_a_question_is_cut_to_its_own_tokens_and_the_prompt_is_not(prompts_of: Callable[[str], Prompts]) -> None:
    assert prompts_of("llava").cut("What is on the left?", 7) == "What is"


def test_the_default_prompt_asks_for_a_short_answer(tmp_path: Path) -> None:
    folder = str(save("llava", tmp_path))
    torch.manual_seed(0)
    plain = HfVlmBackend()
    _, processor = plain.build_model_and_processor(folder, 4, 8, 0.0, torch.device("cpu"))
    rows = _rows()
    asked = [backend.build_dataset(rows, processor, 64, 8).questions[0]
             for backend in (plain, plain.for_prompt("none"), plain.for_prompt("Say: {question}"))]  # fmt: skip
    assert asked == [f"What?\n{SHORT_ANSWER}", "What?", "Say: What?"]
    ids = plain.build_dataset(rows, processor, 64, 8)[0]["ids"]
    assert SHORT_ANSWER in processor.prompts.tokenizer.decode(ids)


def _rows() -> Any:
    import datasets

    columns = {
        "image": [picture(0, 40, 40)],
        "question": ["What?"],
        "multiple_choice_answer": ["a"],
        "answers": [["a"]],
    }
    return datasets.Dataset.from_dict(columns).cast_column("image", datasets.Image())


@pytest.mark.parametrize("name", FAMILIES)
def test_layers_with_lora_are_those_of_the_language_model(model_of: Callable[[str], Any], name: str) -> None:
    model, modules = model_of(name), dict(model_of(name).named_modules())
    anatomy = Anatomy(model)
    for targets, count in (("attention", 6), ("all", 14 if name != "blip2" else 12)):
        chosen = anatomy.chosen(targets)
        assert len(chosen) == count
        assert all(own.startswith(f"{anatomy.tower}.") for own in chosen)
        expression = anatomy.expression(chosen)
        assert {own for own in modules if re.fullmatch(expression, own)} == {*chosen}
        assert expression == anatomy.expression(chosen[::-1])
    assert model.get_output_embeddings() not in [modules[own] for own in anatomy.layers]
    rest, tower = Rest(model, anatomy.tower), {id(p) for p in model.get_decoder().parameters()}
    own = {id(p) for p in rest.parameters()}
    head = {id(p) for p in model.get_output_embeddings().parameters()}
    assert not own & tower
    assert own | tower | head == {id(p) for p in model.parameters()}


def test_an_expression_of_ones_own_may_reach_the_vision_part_and_names_what_there_is(
    model_of: Callable[[str], Any],
) -> None:
    anatomy = Anatomy(model_of("llava"))
    chosen = anatomy.chosen(r".*vision_tower.*\.q_proj|.*\.down_proj")
    assert len(chosen) == 4
    assert len(anatomy.outside(chosen)) == 2
    with pytest.raises(FedummError, match=r"no layer of this Llava\w+ fits. It has .*layers\.\*\.self_attn\.\{k_proj,"):
        anatomy.chosen("q_proj")
    with pytest.raises(FedummError, match="no regular expression"):
        anatomy.chosen("(")
    assert kinds_of(["a.0.b.q", "a.1.b.q", "a.0.b.k", "x.c"]) == ["a.*.b.{k,q}", "x.c"]


@pytest.mark.parametrize("name", ["qwen3_vl", "llava", "gemma3"])
def test_lora_on_the_vision_part_learns_and_nothing_is_kept(name: str, tmp_path: Path) -> None:
    backend = HfVlmBackend().for_tasks(["vqa"], r".*(visual|vision).*\.(qkv|q_proj)")
    torch.manual_seed(0)
    model, processor = backend.build_model_and_processor(str(save(name, tmp_path)), 4, 8, 0.0, torch.device("cpu"))
    assert backend.frozen_stages(model, processor) == []
    assert any("Image features are not kept" in line for line in backend.findings(processor))
    made = backend.build_dataset(_rows(), processor, 64, 8)
    backend.train_step(model, backend.collate_fn([made[0]]), torch.device("cpu")).backward()
    silent = {key for key, p in model.named_parameters() if "lora_B" in key and (p.grad is None or not p.grad.any())}
    told = [line for line in backend.findings(processor) if "learn nothing" in line]
    # Of LLaVA's tower the last layer but one is taken.
    assert len(silent) == len(told) == (name == "llava")


def test_features_that_do_not_do_what_pixels_do_are_not_used(prompts_of: Callable[[str], Prompts]) -> None:
    model, prompts = build("llava")[0].eval(), prompts_of("llava")
    assert probed(model, prompts).features
    inner = model.base_model
    real = inner.forward

    @functools.wraps(real)
    def forward(*args: Any, mm_encoder_outputs: Any = None, **options: Any) -> Any:
        for made in (mm_encoder_outputs or {}).values():
            made.pooler_output = tuple(0.5 * own for own in made.pooler_output)
        return real(*args, mm_encoder_outputs=mm_encoder_outputs, **options)

    inner.forward = forward
    facts = probed(model, prompts)
    assert not facts.features
    assert any("something else than with pixels" in line for line in facts.notes)


def test_a_picture_without_effect_is_told(tmp_path: Path) -> None:
    model, _ = build("gemma3")
    with torch.no_grad():
        model.base_model.multi_modal_projector.mm_input_projection_weight.zero_()
    facts = probed(model.eval(), load_prompts(str(save("gemma3", tmp_path))))
    assert any("no effect" in line for line in facts.notes)


def test_a_model_that_reads_padding_is_read_row_by_row(prompts_of: Callable[[str], Prompts]) -> None:
    """Attention that forgets its mask: in a batch an answer would depend on its neighbours."""
    model, _ = build("llava")
    model.eval()
    tower = model.get_decoder()
    real = tower.forward
    tower.forward = lambda *args, attention_mask=None, **options: real(*args, **options)
    facts = probed(model, prompts_of("llava"))
    assert not facts.features
    assert any("one by one" in line and "in a batch" in line for line in facts.notes)


@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_padding_on_the_left_is_undone_row_by_row(rows: list[list[int]]) -> None:
    made = texts(rows, [{"kind": [1] * len(row)} for row in rows])
    assert made.ids.shape == made.mask.shape == made.types["kind"].shape == (len(rows), max(map(len, rows)))
    for place, row in enumerate(rows):
        alone = made.alone(place)
        assert alone.ids.tolist() == [row]
        assert alone.types["kind"].tolist() == [[1] * len(row)]
    assert pad_left(rows, -1)[0].tolist() == [*[-1] * (made.ids.shape[1] - len(rows[0])), *rows[0]]


def test_labels_stand_where_they_are_said() -> None:
    items = [
        {"ids": (1, 2, 3), "types": {"kind": (5, 5, 5)}, "answers": [(7, 8, 9), (4,)]},
        {"ids": (1,), "types": {"kind": (5,)}, "answers": [(6, 9)]},
    ]
    made, labels = training_texts(items, {"kind": 1})
    assert made.ids.tolist() == [[1, 2, 3, 7, 8], [0, 0, 1, 2, 3], [0, 0, 0, 1, 6]]
    assert made.types["kind"].tolist() == [[5, 5, 5, 1, 1], [0, 0, 5, 5, 5], [0, 0, 0, 5, 1]]
    assert labels.tolist() == [[7, 8, 9], [-100, -100, 4], [-100, 6, 9]]


def test_a_special_token_in_the_prompt_is_refused(tmp_path: Path) -> None:
    backend = HfVlmBackend().for_prompt("<image> {question}")
    _, processor = backend.build_model_and_processor(str(save("llava", tmp_path)), 4, 8, 0.0, torch.device("cpu"))
    with pytest.raises(FedummError, match="--prompt must not contain '<image>'"):
        backend.build_dataset(_rows(), processor, 64, 8)


@pytest.mark.timeout(30)
def test_an_expression_that_never_ends_is_refused(model_of: Callable[[str], Any]) -> None:
    with pytest.raises(FedummError, match=r"--lora_targets .*: (no layer|it takes too long)"):
        Anatomy(model_of("llava")).chosen(r"(.*)*(.*)*(.*)*(.*)*zz")


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (40, 1), (4, 4)])
@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "emu3"])
def test_a_picture_of_a_few_pixels_is_read_with_its_sides_in_order(
    prompts_of: Callable[[str], Prompts], name: str, size: tuple[int, int]
) -> None:
    prompts, (width, height) = prompts_of(name), size
    image = picture(3, width, height)
    large = image.resize((max(width, 5), max(height, 5)), 0)
    made, wanted = (prompts.encode([own], "What?").image["pixel_values"] for own in (image, large))
    assert torch.equal(made, wanted)
    assert made.shape == wanted.shape


def test_an_answer_longer_than_the_model_reads_is_refused_before_images_are_encoded(tmp_path: Path) -> None:
    _, processor = HfVlmBackend().build_model_and_processor(
        str(save("llava", tmp_path)), 4, 8, 0.0, torch.device("cpu")
    )
    with pytest.raises(FedummError, match=r"without their image, and the model reads 2,048 at most"):
        HfVlmBackend().build_dataset(_rows(), processor, 64, 4000)


def test_a_special_token_is_no_answer_to_choose(prompts_of: Callable[[str], Prompts]) -> None:
    backend = HfVlmBackend()
    speller = backend.speller(backend.load_processor(prompts_of("llava").tokenizer.name_or_path))
    assert ballot(speller, ["a dog", "<image>", "x </s>"], 16).texts == ["a dog"]
    assert [known for _, known in speller.measure("answer", ["a dog", "<image>"])] == [True, False]


def test_an_end_that_a_tokenizer_adds_to_every_text_is_no_part_of_a_prompt(tmp_path: Path) -> None:
    folder = save("llava", tmp_path)
    whole = load_prompts(str(folder)).encode([picture(0, 40, 40)], "Which?").ids
    fast = Tokenizer.from_file(str(folder / "tokenizer.json"))
    fast.post_processor = TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", fast.token_to_id("</s>"))]
    )  # fmt: skip
    fast.save(str(folder / "tokenizer.json"))
    prompts = load_prompts(str(folder))
    assert prompts.tokenizer("a").input_ids[-1] == prompts.end_id
    assert prompts.encode([picture(0, 40, 40)], "Which?").ids == whole
    assert prompts.question("Which?").ids[-1] != prompts.end_id
