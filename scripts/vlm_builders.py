"""Configuration and processor of image-text models of many families, at any size, made without a file.

The classes of model and processor are the real ones. The tokenizer knows the 256 bytes and the special tokens that
the processor needs: any text can be said, a token a byte. Each builder takes :class:`Sizes`; those that it has by
itself are small enough for a test.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEMPLATE = (
    "{% for m in messages %}{{ 'U:' if m['role'] == 'user' else 'A:' }}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}@IMAGE@{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
IMAGE = "<image>"
ABSENT = ("video_processor", "feature_extractor")
"""Parts of processors that are left out: those for videos need torchvision, those for sounds more."""

Made = tuple[Any, Any]  # configuration and processor


@dataclass(frozen=True)
class Sizes:
    """The settings in which the models of one family differ.

    Attributes:
        text, vision: of these parts of the configuration. The number of tokens and the ids of special ones are the
            tokenizer's where ``text`` does not say otherwise.
        config: of the configuration itself.
        images, processor: of the image processor, and of the processor.
    """

    text: dict[str, Any]
    vision: dict[str, Any]
    config: dict[str, Any] = field(default_factory=dict)
    images: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)


TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
SEEING: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
"""What the small models have: 64 numbers a token in 2 layers, 32 in the part that sees."""

SQUARE = {"height": 28, "width": 28}


def tokenizer(extra: Sequence[str] = (), named: dict[str, str] | None = None) -> Any:
    """The 256 bytes, and special tokens: ``extra``, and those that are attributes of the tokenizer, by name."""
    named = named or {}
    vocabulary = {sign: number for number, sign in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(dict.fromkeys(["<pad>", "<s>", "</s>", *named.values(), *extra])))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", padding_side="left",
        **({"extra_special_tokens": named} if named else {}),
    )  # fmt: skip


def with_ids(tok: Any, text: dict[str, Any]) -> dict[str, Any]:
    """Settings of a language model whose special tokens are those of ``tok``."""
    ids = {f"{name}_token_id": getattr(tok, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {"vocab_size": len(tok), **ids, **text}


def id_of(tok: Any, token: str = IMAGE) -> int:
    """The id of a token."""
    found: int = tok.convert_tokens_to_ids(token)
    return found


class Absent:
    """Stands for a part of a processor that was left out; all its settings are None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


def seeing(family: Any, *parts: Any, image: str = IMAGE, **options: Any) -> Any:
    """A processor without the parts in :data:`ABSENT`, for which ``parts`` has None."""

    class Partial(hf.ProcessorMixin):  # type: ignore[misc]
        def __init__(self, *given: Any, **named: Any) -> None:
            named = {name: own for name, own in named.items() if name not in ABSENT}
            super().__init__(*(own for own in given if own is not None and not isinstance(own, Absent)), **named)
            for name in ABSENT:
                setattr(self, name, Absent())

    class Seeing(family, Partial):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name not in ABSENT]

    Seeing.__name__ = Seeing.__qualname__ = family.__name__
    return Seeing(*parts, chat_template=TEMPLATE.replace("@IMAGE@", image), **options)


def save_processor(processor: Any, folder: Path) -> None:
    """Write it as ``from_pretrained`` reads it."""
    for part in ABSENT:
        vars(processor).pop(part, None)
    processor.save_pretrained(folder)


QWEN = {
    f"{kind}_token_id": token
    for kind, token in {
        "image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    }.items()
}  # fmt: skip
PATCHES = {"spatial_merge_size": 2, "temporal_patch_size": 2}


def qwen(family: Any, config: Any, sizes: Sizes) -> Made:
    """Qwen's models; of ``sizes.images`` the number of pixels is all that is asked for."""
    tok, patch = tokenizer(list(QWEN.values())), sizes.vision["patch_size"]
    images = hf.Qwen2VLImageProcessorPil(patch_size=patch, merge_size=2, temporal_patch_size=2, **sizes.images)
    made = config(
        text_config=with_ids(tok, sizes.text), vision_config=sizes.vision,
        **{name: id_of(tok, token) for name, token in QWEN.items()}, **sizes.config,
    )  # fmt: skip
    return made, seeing(family, images, tok, None, image="<|vision_start|><|image_pad|><|vision_end|>")


def _rope(**more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **more}}


def _pixels(patch: int) -> dict[str, Any]:
    return {"size": {"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}}


_SEES = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64, **PATCHES}
_QWEN2_5 = Sizes(
    {**TEXT, **_rope(mrope_section=[2, 3, 3])},
    {**_SEES, "patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1]}, images=_pixels(14),
)  # fmt: skip
_QWEN3 = Sizes(
    {**TEXT, "head_dim": 16, **_rope(mrope_section=[4, 2, 2], mrope_interleaved=True)},
    {**_SEES, "patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}, images=_pixels(16),
)  # fmt: skip


def qwen2_5_vl(sizes: Sizes = _QWEN2_5) -> Made:
    return qwen(hf.Qwen2_5_VLProcessor, hf.Qwen2_5_VLConfig, sizes)


def qwen3_vl(sizes: Sizes = _QWEN3) -> Made:
    return qwen(hf.Qwen3VLProcessor, hf.Qwen3VLConfig, sizes)


_IDEFICS = Sizes(
    TEXT, {**SEEING, "image_size": 32, "patch_size": 8}, {"scale_factor": 2},
    {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}, "do_image_splitting": True},
    {"image_seq_len": 4},
)  # fmt: skip


def _idefics(family: Any, config: Any, images: Any, extra: Sequence[str], sizes: Sizes) -> Made:
    tiles = [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *extra, *tiles])
    made = config(
        text_config=with_ids(tok, {"model_type": "llama", **sizes.text}), vision_config=sizes.vision,
        image_token_id=id_of(tok), pad_token_id=tok.pad_token_id, **sizes.config,
    )  # fmt: skip
    parts = (images(**sizes.images), tok, None) if extra else (images(**sizes.images), tok)
    return made, seeing(family, *parts, **sizes.processor)


def smolvlm(sizes: Sizes = _IDEFICS) -> Made:
    return _idefics(hf.SmolVLMProcessor, hf.SmolVLMConfig, hf.SmolVLMImageProcessorPil, ["<video>"], sizes)


def idefics3(sizes: Sizes = _IDEFICS) -> Made:
    return _idefics(hf.Idefics3Processor, hf.Idefics3Config, hf.Idefics3ImageProcessorPil, [], sizes)


_HEADLESS = {**SEEING, "vision_use_head": False}
_PALIGEMMA = Sizes(
    {**TEXT, "head_dim": 16}, {**_HEADLESS, "projection_dim": 64}, {"projection_dim": 64, "hidden_size": 64},
    {"size": SQUARE}, {"image_seq_length": 4},
)  # fmt: skip


def paligemma(sizes: Sizes = _PALIGEMMA, kind: str = "gemma") -> Made:
    tok = tokenizer(named={"image_token": IMAGE})
    images = hf.SiglipImageProcessorPil(**sizes.images)
    images.image_seq_length = sizes.processor["image_seq_length"]
    # It adds tokens of its own: before their number is asked for.
    processor = seeing(hf.PaliGemmaProcessor, images, tok)
    config = hf.PaliGemmaConfig(
        text_config=with_ids(tok, {"model_type": kind, **sizes.text}),
        vision_config={"model_type": "siglip_vision_model", **sizes.vision}, image_token_id=id_of(tok),
        **sizes.config,
    )  # fmt: skip
    return config, processor


def paligemma2(sizes: Sizes = _PALIGEMMA) -> Made:
    return paligemma(sizes, "gemma2")


_GEMMA3 = Sizes(
    {**TEXT, "head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16,
     "layer_types": ["sliding_attention", "full_attention"]},
    _HEADLESS, {"mm_tokens_per_image": 4}, {"size": SQUARE}, {"image_seq_length": 4},
)  # fmt: skip


def gemma3(sizes: Sizes = _GEMMA3) -> Made:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tok = tokenizer(named=named)
    ids = {f"{name}_id": id_of(tok, token) for name, token in named.items()}
    config = hf.Gemma3Config(
        text_config=with_ids(tok, sizes.text), vision_config=sizes.vision, **ids,
        **{name.replace("_id", "_index"): number for name, number in ids.items()}, **sizes.config,
    )  # fmt: skip
    images = hf.Gemma3ImageProcessorPil(**sizes.images)
    return config, seeing(hf.Gemma3Processor, images, tok, image="<start_of_image>", **sizes.processor)


_INTERNVL = Sizes(
    TEXT, {**SEEING, "image_size": [28, 28], "patch_size": [14, 14], "use_absolute_position_embeddings": True},
    {"image_seq_length": 1, "downsample_ratio": 0.5},
    {"size": SQUARE, "crop_to_patches": True, "min_patches": 1, "max_patches": 4}, {"image_seq_length": 1},
)  # fmt: skip


def internvl(sizes: Sizes = _INTERNVL) -> Made:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tok = tokenizer(named=named)
    config = hf.InternVLConfig(
        text_config=with_ids(tok, {"model_type": "qwen2", **sizes.text}), vision_config=sizes.vision,
        image_token_id=id_of(tok, "<IMG_CONTEXT>"), **sizes.config,
    )  # fmt: skip
    images = hf.GotOcr2ImageProcessorPil(**sizes.images)
    return config, seeing(hf.InternVLProcessor, images, tok, None, image="<IMG_CONTEXT>", **sizes.processor)


_ONEVISION = Sizes(
    TEXT, _HEADLESS, {}, {"size": SQUARE, "image_grid_pinpoints": [[28, 28], [28, 56], [56, 28], [56, 56]]},
    {"num_image_tokens": 4},
)  # fmt: skip


def llava_onevision(sizes: Sizes = _ONEVISION) -> Made:
    tok, grid = tokenizer([IMAGE, "<video>"]), sizes.images["image_grid_pinpoints"]
    config = hf.LlavaOnevisionConfig(
        text_config=with_ids(tok, {"model_type": "qwen2", **sizes.text}),
        vision_config={"model_type": "siglip_vision_model", **sizes.vision}, image_token_index=id_of(tok),
        image_token_id=id_of(tok), video_token_index=id_of(tok, "<video>"),
        video_token_id=id_of(tok, "<video>"), image_grid_pinpoints=grid, vision_feature_layer=-1,
        vision_feature_select_strategy="full", **sizes.config,
    )  # fmt: skip
    images = hf.LlavaOnevisionImageProcessorPil(**sizes.images)
    options = {"vision_feature_select_strategy": "full", **sizes.processor}
    return config, seeing(hf.LlavaOnevisionProcessor, images, tok, None, **options)


_CLIP = {"size": {"shortest_edge": 28}, "crop_size": SQUARE}
_LLAVA = Sizes(TEXT, {**SEEING, "projection_dim": 32}, {"image_seq_length": 4}, _CLIP)
_LLAVA_NEXT = Sizes(
    _LLAVA.text, _LLAVA.vision, _LLAVA.config, {**_CLIP, "image_grid_pinpoints": [[28, 56], [56, 28], [56, 56]]}
)


def _llava(family: Any, config: Any, images: Any, kind: str, sizes: Sizes) -> Made:
    tok = tokenizer([IMAGE])
    grid = {name: own for name, own in sizes.images.items() if name == "image_grid_pinpoints"}
    made = config(
        text_config=with_ids(tok, {"model_type": kind, **sizes.text}),
        vision_config={"model_type": "clip_vision_model", **sizes.vision}, image_token_index=id_of(tok),
        image_token_id=id_of(tok), **grid, **sizes.config,
    )  # fmt: skip
    options: dict[str, Any] = {"patch_size": 14, "vision_feature_select_strategy": "default"}
    return made, seeing(family, images(**sizes.images), tok, num_additional_image_tokens=1, **options)


def llava(sizes: Sizes = _LLAVA) -> Made:
    return _llava(hf.LlavaProcessor, hf.LlavaConfig, hf.CLIPImageProcessorPil, "llama", sizes)


def llava_next(sizes: Sizes = _LLAVA_NEXT) -> Made:
    return _llava(hf.LlavaNextProcessor, hf.LlavaNextConfig, hf.LlavaNextImageProcessorPil, "mistral", sizes)


QFORMER: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 300,
                           "num_attention_heads": 2, "encoder_hidden_size": 32,
                           "max_position_embeddings": 512}  # fmt: skip
_BLIP = Sizes(
    {**TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64}, {**SEEING, "initializer_range": 0.02},
    {"qformer_config": QFORMER, "num_query_tokens": 4}, {"size": SQUARE},
)  # fmt: skip


def _blip(config: Any, tok: Any, text: dict[str, Any], sizes: Sizes) -> Any:
    return config(
        vision_config=sizes.vision, image_token_id=id_of(tok), image_token_index=id_of(tok),
        text_config=with_ids(tok, text), **sizes.config,
    )  # fmt: skip


def blip2(sizes: Sizes = _BLIP) -> Made:
    tok, images = tokenizer([IMAGE]), hf.BlipImageProcessorPil(**sizes.images)
    text = {"model_type": "opt", "dropout": 0.0, **sizes.text}
    processor = hf.Blip2Processor(images, tok, num_query_tokens=sizes.config["num_query_tokens"])
    return _blip(hf.Blip2Config, tok, text, sizes), processor


def blip2_t5(sizes: Sizes = _BLIP) -> Made:
    tok, images = tokenizer([IMAGE]), hf.BlipImageProcessorPil(**sizes.images)
    text = {**sizes.text, "model_type": "t5", "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4,
            "num_decoder_layers": 2, "dropout_rate": 0.0, "decoder_start_token_id": tok.pad_token_id}  # fmt: skip
    return _blip(hf.Blip2Config, tok, text, sizes), hf.Blip2Processor(images, tok, num_query_tokens=4)


def instructblip(sizes: Sizes = _BLIP) -> Made:
    tok, images, other = tokenizer([IMAGE]), hf.BlipImageProcessorPil(**sizes.images), tokenizer()
    small = {**QFORMER, "vocab_size": len(other)}
    text = {"model_type": "llama", **sizes.text}
    config = _blip(hf.InstructBlipConfig, tok, text, Sizes({}, sizes.vision, {**sizes.config, "qformer_config": small}))
    return config, hf.InstructBlipProcessor(images, tok, other, num_query_tokens=4)


FAMILIES = {
    made.__name__: made
    for made in (
        qwen2_5_vl, qwen3_vl, smolvlm, idefics3, paligemma, paligemma2, gemma3, internvl, llava, llava_next,
        llava_onevision, blip2, instructblip,
    )
}  # fmt: skip
"""By name; :func:`blip2_t5` is refused and stands apart."""
