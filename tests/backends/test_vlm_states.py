"""Processors and checkpoints in odd but real states: prompts, answers and losses are what they would be otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from fedumm.backends.hf_vlm.anatomy import Anatomy, kinds_of
from fedumm.backends.hf_vlm.backend import HfVlmBackend, VlmProcessor
from fedumm.backends.hf_vlm.load import load_model, load_prompts, settle
from fedumm.backends.hf_vlm.probe import picture, probe
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompt, Prompts, extras, joined
from fedumm.backends.loading import explained
from fedumm.errors import FedummError
from support.vlm_families import build, save
from support.vlm_families import tokenizer as byte_tokenizer
from support.vlm_more_families import build as build_more
from support.vlm_more_families import save as save_more
from vlm_builders import TEMPLATE

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
IMAGE = picture(0, 50, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save("llava", tmp_path_factory.mktemp("llava"))


def changed(folder: Path, to: Path, template: str | None = None, **settings: Any) -> Path:
    """A copy with another chat template, and with other settings of its tokenizer (None: without)."""
    to.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    if template is not None:
        (to / "chat_template.jinja").write_text(template)
    own = json.loads((to / "tokenizer_config.json").read_text()) | settings
    (to / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in own.items() if v is not None}))
    return to


def set_image_token(folder: Path, number: int) -> None:
    own = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(own | {"image_token_id": number, "image_token_index": number}))


def said(prompts: Prompts, question: str = "Which?") -> str:
    return str(prompts.tokenizer.decode(prompts.encode([IMAGE], question).ids)).replace("<image>" * 4, "<image>")


def answered(prompts: Prompts, answer: str = "two dogs") -> str:
    backend = HfVlmBackend()
    (ids,) = backend.speller(VlmProcessor(prompts)).encode([answer])
    return str(prompts.tokenizer.decode(prompts.answer(ids, 99)))


_TURNS = "{% for m in messages %}{{ '<s>' if loop.first }}{{ m['role'] }}: "
STRINGS = _TURNS + "{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
STRINGS_ONLY = STRINGS.replace("{{ m['content'] }}", "{{ m['content'] + '' }}")
TRIMMED = STRINGS.replace("{{ m['content'] }}", "{{ m['content'] | trim }}")
TEXT_PARTS_ONLY = TEMPLATE.replace("@IMAGE@", "")
ANSWER_AS_TEXT = (
    TEMPLATE.replace("@IMAGE@", "<image>")
    .replace(
        "{% for c in m['content'] %}",
        "{% if m['role'] == 'assistant' %}{{ m['content'] + '' }}{% else %}{% for c in m['content'] %}",
    )
    .replace(
        "{% endfor %}{% if m['role'] == 'assistant' %}", "{% endfor %}{% endif %}{% if m['role'] == 'assistant' %}"
    )
)


@pytest.mark.parametrize("template", [STRINGS, STRINGS_ONLY, TRIMMED])
def test_a_template_that_takes_texts_gets_the_image_as_a_token(folder: Path, tmp_path: Path, template: str) -> None:
    prompts = load_prompts(str(changed(folder, tmp_path, template)))
    assert said(prompts) == "<s>user: <image>\nWhich?</s>assistant: "
    assert answered(prompts) == "two dogs</s>"
    part = prompts.image_part(prompts.encode([IMAGE], QUESTION))
    assert part is not None
    assert joined(part, prompts.question("Why?")).ids == prompts.encode([IMAGE], "Why?").ids


def test_a_template_may_take_the_question_in_parts_and_the_answer_as_a_text(folder: Path, tmp_path: Path) -> None:
    prompts = load_prompts(str(changed(folder, tmp_path, ANSWER_AS_TEXT)))
    assert said(prompts) == "U:<image>Which?A:"
    assert answered(prompts) == "two dogs</s>"


@pytest.mark.parametrize("template", [TEXT_PARTS_ONLY, "{{ 'always the same' }}"])
def test_a_template_without_a_place_for_images_is_refused(folder: Path, tmp_path: Path, template: str) -> None:
    with pytest.raises(FedummError, match="chat template takes no image"):
        load_prompts(str(changed(folder, tmp_path, template)))


_CHAT = (
    "{% if messages[0]['role'] != 'system' %}SYSTEM: Be nice.\n{% endif %}{% for m in messages %}<s>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' %}@THOUGHT@{% endif %}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "</s>\n{% endfor %}{% if add_generation_prompt %}<s>assistant\n@START@{% endif %}"
)
_SYSTEM = "SYSTEM: Be nice.\n<s>user\n<image>Which?</s>\n<s>assistant\n"


@pytest.mark.parametrize(
    ("thought", "start", "added"),
    [
        ("", "", ""),
        # A model that always thinks first, and one that can be told not to.
        ("", "<think>\n", "<think>\n\n</think>\n\n"),
        ("", "<think>", "<think>\n\n</think>\n\n"),
        ("<think>\n\n</think>\n\n", "<think>\n", "<think>\n\n</think>\n\n"),
        ("", "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}",
         "<think>\n\n</think>\n\n"),
        # What stands before each answer belongs to the prompt.
        ("<think></think>", "", "<think></think>"),
        ("<think></think>\n", "", "<think></think>"),
    ],
)  # fmt: skip
def test_a_system_prompt_stays_and_a_thought_is_closed(
    folder: Path, tmp_path: Path, thought: str, start: str, added: str
) -> None:
    template = _CHAT.replace("@THOUGHT@", thought).replace("@START@", start)
    prompts = load_prompts(str(changed(folder, tmp_path, template)))
    assert said(prompts) == _SYSTEM + added
    assert answered(prompts) == ("\n" if thought.endswith("</think>\n") else "") + "two dogs</s>"


def test_a_question_before_its_image_is_read_whole(folder: Path, tmp_path: Path) -> None:
    template = (
        "{% for m in messages %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
        "{% if m['role'] == 'user' %}<image>{% else %}</s>{% endif %}{% endfor %}"
    )
    where = changed(folder, tmp_path, template)
    prompts, model = load_prompts(str(where)), load_model(str(where), dtype=torch.float32).eval()
    facts = probe(model, prompts, settle(model, prompts))
    assert facts.features
    assert not facts.composed
    assert said(prompts) == "Which?<image>"


def test_several_tokens_may_end_an_answer_and_none_may_pad(folder: Path, tmp_path: Path) -> None:
    where = changed(folder, tmp_path, pad_token=None)
    (where / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 40], "pad_token_id": None}))
    prompts, model = load_prompts(str(where)), load_model(str(where), dtype=torch.float32)
    ends = settle(model, prompts)
    assert ends == [prompts.end_id, 2, 40] if prompts.end_id != 2 else [2, 40]
    assert model.generation_config.pad_token_id == prompts.tokenizer.eos_token_id
    assert said(prompts) == said(load_prompts(str(folder)))


def sentencepiece_like(first: bool) -> Any:
    """Words start with a mark for the space before them, as in SentencePiece; of a text also the first one."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = {sign: place for place, sign in enumerate(["<unk>", "<s>", "</s>", "▁", *letters])}
    for pair in ("▁t", "▁d", "og", "▁W", "hi", "ch"):
        pieces[pair] = len(pieces)
    merges = [("▁", "t"), ("▁", "d"), ("o", "g"), ("▁", "W"), ("h", "i"), ("c", "h")]
    made = Tokenizer(models.BPE(vocab=pieces, merges=merges, unk_token="<unk>"))
    if first:
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    else:
        made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        made.decoder = decoders.Metaspace(prepend_scheme="first", split=False)
    made.add_special_tokens([AddedToken("<image>", normalized=False)])
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>", padding_side="left"
    )


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("space", ["", " "])
def test_answers_are_tokens_of_the_conversation_in_sentencepiece_too(
    folder: Path, tmp_path: Path, first: bool, space: str
) -> None:
    """LLaVA's words around a question: an answer's first token has its mark for a space, or has none."""
    template = (
        "{% for m in messages %}{{ 'USER: ' if m['role'] == 'user' else 'ASSISTANT:@S@' }}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
        "{{ ' ' if m['role'] == 'user' else '</s>' }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ).replace("@S@", space)
    where = changed(folder, tmp_path)
    made = sentencepiece_like(first)
    made.save_pretrained(where)
    set_image_token(where, made.convert_tokens_to_ids("<image>"))
    (where / "chat_template.jinja").write_text(template)
    prompts = load_prompts(str(where))
    backend = HfVlmBackend()
    (ids,) = backend.speller(VlmProcessor(prompts)).encode(["two dogs"])
    ours = [*prompts.encode([IMAGE], "Which?").ids, *prompts.answer(ids, 99)]
    turns = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "two dogs"}]},
    ]
    text = prompts.tokenizer.apply_chat_template(turns, chat_template=template, tokenize=False)
    whole = list(prompts.processor(text=[text], images=[[IMAGE]])["input_ids"][0])
    assert prompts.tokenizer.decode(ours) == prompts.tokenizer.decode(whole)
    if space:
        assert ours == whole
    part = prompts.image_part(prompts.encode([IMAGE], QUESTION))
    assert part is not None
    for question in ("Which?", " Which?", "", "dog"):
        assert joined(part, prompts.question(question)).ids == prompts.encode([IMAGE], question).ids


@pytest.mark.parametrize("state", ["old template file", "fast class"])
def test_older_layouts_make_the_same_prompts(folder: Path, tmp_path: Path, state: str) -> None:
    where = changed(folder, tmp_path)
    wanted = load_prompts(str(folder)).encode([IMAGE], "Which?")
    settings = json.loads((where / "processor_config.json").read_text())
    if state == "old template file":
        template = (where / "chat_template.jinja").read_text()
        (where / "chat_template.jinja").unlink()
        (where / "chat_template.json").write_text(json.dumps({"chat_template": template}))
    elif state == "fast class":
        settings["image_processor"]["image_processor_type"] = "CLIPImageProcessorFast"
        (where / "processor_config.json").write_text(json.dumps(settings))
    made = load_prompts(str(where)).encode([IMAGE], "Which?")
    assert made.ids == wanted.ids
    assert torch.equal(made.image["pixel_values"], wanted.image["pixel_values"])


def test_no_chat_template_means_the_question_alone(folder: Path, tmp_path: Path) -> None:
    where = changed(folder, tmp_path)
    (where / "chat_template.jinja").unlink()
    prompts = load_prompts(str(where))
    assert not prompts.has_template
    assert said(prompts) == "<image>Which?"
    assert answered(prompts) == " two dogs</s>"
    assert byte_tokenizer().chat_template is None
    assert build("llava")[1].chat_template is not None


def test_settings_that_only_a_newer_copy_has_are_named(folder: Path, tmp_path: Path) -> None:
    where = changed(folder, tmp_path)
    settings = json.loads((where / "processor_config.json").read_text())
    (where / "processor_config.json").unlink()
    (where / "preprocessor_config.json").write_text(json.dumps(settings.pop("image_processor") | settings))
    with pytest.raises(FedummError, match=r"no processor_config\.json: a newer copy"):
        load_prompts(str(where))


def test_a_vocabulary_in_a_text_file_is_read(tmp_path: Path) -> None:
    save_more("git", tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "which", "?", "two", "dogs"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    prompts = load_prompts(str(tmp_path))
    assert said(prompts, "which ?") == "[CLS] which?"
    assert answered(prompts) == "two dogs [SEP]"


def test_attention_that_is_linear_gets_lora_too() -> None:
    anatomy = Anatomy(build_more("qwen3_5")[0])
    kinds = ", ".join(kinds_of(anatomy.chosen("attention")))
    assert "linear_attn.{in_proj_a,in_proj_b,in_proj_qkv,in_proj_z}" in kinds
    assert "self_attn.{k_proj,q_proj,v_proj}" in kinds
    assert "out_proj" not in kinds
    assert "mlp" not in kinds


@pytest.mark.parametrize(
    ("message", "package"),
    [
        (
            "\nPixtralProcessor requires the Torchvision library but it was not found in your environment.",
            "torchvision",
        ),
        ("None could be imported. Missing optional dependencies: torchvision. Please install", "torchvision"),
        ("\nTimmWrapperModel requires the timm library but it was not found in your environment.", "timm"),
    ],
)
def test_a_package_that_a_family_needs_is_named(tmp_path: Path, message: str, package: str) -> None:
    with pytest.raises(FedummError, match=f"need the package {package}, which is not installed"), explained("a/b", "x"):
        raise ImportError(message)


def test_facts_about_an_image_have_the_same_names_for_each_size() -> None:
    def facts(patches: int) -> set[str]:
        image = {
            "pixel_values": torch.zeros(1, patches, 3),
            "pixel_attention_mask": torch.ones(1, patches, dtype=torch.int64),
            "image_position_ids": torch.zeros(1, patches, 2, dtype=torch.int64),
        }  # fmt: skip
        return {*extras(Prompt((1,), {}, image), dict.fromkeys(image))}

    assert facts(4) == facts(40_000) == {"image_position_ids"}


def test_what_projects_the_picture_is_no_layer_of_the_language_model() -> None:
    kinds = ", ".join(kinds_of(Anatomy(build_more("git")[0]).chosen("all")))
    assert "attention.self.{key,query,value}" in kinds
    assert "visual" not in kinds
