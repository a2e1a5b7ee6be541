"""Small random image-text models of many families, with the real classes of model and processor, made without a file.

The texts have 64 numbers a token in 2 layers, the vision parts 32. Weights are enlarged, so that differences show, and
those that start at zero and would hide the image are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import transformers as hf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

TEXT: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 2048,
}  # fmt: skip
SEEING: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip
TEMPLATE = (
    "{% for m in messages %}{{ 'U:' if m['role'] == 'user' else 'A:' }}"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}@IMAGE@{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}\n{% endfor %}{% if add_generation_prompt %}A:{% endif %}"
)
IMAGE = "<image>"


def tokenizer(extra: Sequence[str] = (), named: dict[str, str] | None = None) -> Any:
    """The 256 bytes, and special tokens: any text can be said."""
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


def text_of(tok: Any, **more: Any) -> dict[str, Any]:
    ids = {f"{name}_token_id": getattr(tok, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {**TEXT, "vocab_size": len(tok), **ids, **more}


def named_id(tok: Any, token: str = IMAGE) -> int:
    found: int = tok.convert_tokens_to_ids(token)
    return found


def seeing(family: Any, *parts: Any, image: str = IMAGE, **options: Any) -> Any:
    """A processor without its parts for videos, which need torchvision, and for sounds."""
    absent = ("video_processor", "feature_extractor")

    class Partial(hf.ProcessorMixin):
        def __init__(self, *given: Any, **named: Any) -> None:
            named = {name: own for name, own in named.items() if name not in absent}
            super().__init__(*(own for own in given if own is not None), **named)

    class Seeing(family, Partial):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name not in absent]

    Seeing.__name__ = Seeing.__qualname__ = family.__name__
    return Seeing(*parts, chat_template=TEMPLATE.replace("@IMAGE@", image), **options)


QWEN = {
    f"{kind}_token_id": token
    for kind, token in {
        "image": "<|image_pad|>", "video": "<|video_pad|>", "vision_start": "<|vision_start|>",
        "vision_end": "<|vision_end|>",
    }.items()
}  # fmt: skip


def qwen(
    patch: int, family: Any, config: Any, rope: dict[str, Any], vision: dict[str, Any], drop: Sequence[str] = (), **text: Any
) -> Any:
    tok = tokenizer(list(QWEN.values()))
    size = {"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}
    images = hf.Qwen2VLImageProcessorPil(size=size, patch_size=patch, merge_size=2, temporal_patch_size=2)
    seen = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": patch, "spatial_merge_size": 2, "temporal_patch_size": 2, **vision}  # fmt: skip
    for name in drop:
        del seen[name]
    made = config(
        text_config=text_of(tok, rope_parameters={"rope_type": "default", "rope_theta": 10000.0, **rope}, **text),
        vision_config=seen, **{name: named_id(tok, token) for name, token in QWEN.items()},
    )  # fmt: skip
    return made, seeing(family, images, tok, None, image="<|vision_start|><|image_pad|><|vision_end|>")


def qwen2_5_vl() -> Any:
    vision = {"window_size": 56, "fullatt_block_indexes": [1]}
    return qwen(14, hf.Qwen2_5_VLProcessor, hf.Qwen2_5_VLConfig, {"mrope_section": [2, 3, 3]}, vision)


def qwen3_vl() -> Any:
    rope = {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
    vision = {"num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1]}
    return qwen(16, hf.Qwen3VLProcessor, hf.Qwen3VLConfig, rope, vision, head_dim=16)


def _idefics(family: Any, config: Any, images: Any, extra: Sequence[str]) -> Any:
    tiles = [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *extra, *tiles])
    vision = {**SEEING, "image_size": 32, "patch_size": 8}
    made = config(
        text_config=text_of(tok, model_type="llama"), vision_config=vision, scale_factor=2, image_token_id=named_id(tok),
        pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    seen = images(size={"longest_edge": 64}, max_image_size={"longest_edge": 32}, do_image_splitting=True)
    parts = (seen, tok, None) if extra else (seen, tok)
    return made, seeing(family, *parts, image_seq_len=4)


def smolvlm() -> Any:
    config, processor = _idefics(hf.SmolVLMProcessor, hf.SmolVLMConfig, hf.SmolVLMImageProcessorPil, ["<video>"])
    processor.video_processor = SimpleNamespace(num_frames=1, fps=1)
    return config, processor


def idefics3() -> Any:
    return _idefics(hf.Idefics3Processor, hf.Idefics3Config, hf.Idefics3ImageProcessorPil, [])


def paligemma(kind: str = "gemma") -> Any:
    tok = tokenizer(named={"image_token": IMAGE})
    images = hf.SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    # It adds tokens of its own: before their number is asked for.
    processor = seeing(hf.PaliGemmaProcessor, images, tok)
    vision = {**SEEING, "model_type": "siglip_vision_model", "projection_dim": 64, "vision_use_head": False}
    config = hf.PaliGemmaConfig(
        text_config=text_of(tok, model_type=kind, head_dim=16), vision_config=vision, image_token_id=named_id(tok),
        projection_dim=64, hidden_size=64,
    )  # fmt: skip
    return config, processor


def paligemma2() -> Any:
    return paligemma("gemma2")


def gemma3() -> Any:
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tok = tokenizer(named=named)
    ids = {f"{name}_id": named_id(tok, token) for name, token in named.items()}
    config = hf.Gemma3Config(
        text_config=text_of(tok, head_dim=16, query_pre_attn_scalar=16, sliding_window=16,
                          layer_types=["sliding_attention", "full_attention"]),
        vision_config={**SEEING, "vision_use_head": False}, mm_tokens_per_image=4,
        **ids, **{name.replace("_id", "_index"): number for name, number in ids.items()},
    )  # fmt: skip
    images = hf.Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    return config, seeing(hf.Gemma3Processor, images, tok, image="<start_of_image>", image_seq_length=4)


def internvl() -> Any:
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>"}  # fmt: skip
    tok = tokenizer(named=named)
    vision = {**SEEING, "image_size": [28, 28], "patch_size": [14, 14], "use_absolute_position_embeddings": True}
    config = hf.InternVLConfig(
        text_config=text_of(tok, model_type="qwen2"), vision_config=vision, image_token_id=named_id(tok, "<IMG_CONTEXT>"),
        image_seq_length=1, downsample_ratio=0.5,
    )  # fmt: skip
    images = hf.GotOcr2ImageProcessorPil(
        size={"height": 28, "width": 28}, crop_to_patches=True, min_patches=1, max_patches=4
    )
    return config, seeing(hf.InternVLProcessor, images, tok, None, image="<IMG_CONTEXT>", image_seq_length=1)


def llava_onevision() -> Any:
    tok, grid = tokenizer([IMAGE, "<video>"]), [[28, 28], [28, 56], [56, 28], [56, 56]]
    vision = {**SEEING, "model_type": "siglip_vision_model", "vision_use_head": False}
    config = hf.LlavaOnevisionConfig(
        text_config=text_of(tok, model_type="qwen2"), vision_config=vision, image_token_index=named_id(tok),
        image_token_id=named_id(tok), video_token_index=named_id(tok, "<video>"), video_token_id=named_id(tok, "<video>"),
        image_grid_pinpoints=grid, vision_feature_layer=-1, vision_feature_select_strategy="full",
    )  # fmt: skip
    images = hf.LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=grid)
    options = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
    return config, seeing(hf.LlavaOnevisionProcessor, images, tok, None, **options)


def _llava(family: Any, config: Any, images: Any, kind: str, **grid: Any) -> Any:
    tok = tokenizer([IMAGE])
    made = config(
        text_config=text_of(tok, model_type=kind),
        vision_config={**SEEING, "model_type": "clip_vision_model", "projection_dim": 32}, image_token_index=named_id(tok),
        image_token_id=named_id(tok), image_seq_length=4, **grid,
    )  # fmt: skip
    seen = images(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, **grid)
    options = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return made, seeing(family, seen, tok, **options)


def llava() -> Any:
    return _llava(hf.LlavaProcessor, hf.LlavaConfig, hf.CLIPImageProcessorPil, "llama")


def llava_next() -> Any:
    grid = [[28, 56], [56, 28], [56, 56]]
    images = hf.LlavaNextImageProcessorPil
    return _llava(hf.LlavaNextProcessor, hf.LlavaNextConfig, images, "mistral", image_grid_pinpoints=grid)


_QFORMER = {"vocab_size": 300, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "encoder_hidden_size": 32, "max_position_embeddings": 512}  # fmt: skip


def _blip(config: Any, tok: Any, text: dict[str, Any], vocabulary: int = 300) -> Any:
    return config(
        vision_config={**SEEING, "initializer_range": 0.02}, qformer_config={**_QFORMER, "vocab_size": vocabulary},
        num_query_tokens=4, image_token_id=named_id(tok), image_token_index=named_id(tok), text_config=text,
    )  # fmt: skip


def blip2() -> Any:
    tok, images = tokenizer([IMAGE]), hf.BlipImageProcessorPil(size={"height": 28, "width": 28})
    text = text_of(tok, model_type="opt", ffn_dim=128, word_embed_proj_dim=64, dropout=0.0)
    return _blip(hf.Blip2Config, tok, text), hf.Blip2Processor(images, tok, num_query_tokens=4)


def blip2_t5() -> Any:
    tok, images = tokenizer([IMAGE]), hf.BlipImageProcessorPil(size={"height": 28, "width": 28})
    text = text_of(tok, model_type="t5", d_model=64, d_kv=16, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4,
                 dropout_rate=0.0, decoder_start_token_id=tok.pad_token_id)  # fmt: skip
    return _blip(hf.Blip2Config, tok, text), hf.Blip2Processor(images, tok, num_query_tokens=4)


def instructblip() -> Any:
    tok, images, other = tokenizer([IMAGE]), hf.BlipImageProcessorPil(size={"height": 28, "width": 28}), tokenizer()
    config = _blip(hf.InstructBlipConfig, tok, text_of(tok, model_type="llama"), len(other))
    return config, hf.InstructBlipProcessor(images, tok, other, num_query_tokens=4)


def emu3() -> Any:
    visual = [f"<|visual token {number:06d}|>" for number in range(32)]
    named = {"image_token": IMAGE, "boi_token": "<|image start|>", "eoi_token": "<|image end|>",
             "image_wrapper_token": "<|image token|>", "eof_token": "<|extra_201|>"}  # fmt: skip
    tok = tokenizer([*visual, "<|extra_200|>"], named)
    images = hf.Emu3ImageProcessor(min_pixels=16 * 16, max_pixels=64 * 64, spatial_factor=8)
    codes = {"codebook_size": 32, "embed_dim": 4, "latent_channels": 4, "base_channels": 32,
             "channel_multiplier": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [3], "hidden_size": 32,
             "num_attention_heads": 1, "temporal_downsample_factor": 1}  # fmt: skip
    config = hf.Emu3Config(
        vq_config=codes, text_config=text_of(tok, attention_dropout=0.0), image_token_id=named_id(tok),
        vocabulary_map={token: named_id(tok, token) for token in (*visual, IMAGE, "<|extra_200|>")},
    )  # fmt: skip
    return config, seeing(hf.Emu3Processor, images, tok)


FAMILIES = {
    made.__name__: made
    for made in (
        qwen2_5_vl, qwen3_vl, smolvlm, idefics3, paligemma, paligemma2, gemma3, internvl, llava, llava_next,
        llava_onevision, blip2, instructblip, emu3,
    )
}  # fmt: skip
"""By name; :func:`blip2_t5` is refused and stands apart."""


@torch.no_grad()
def awake(model: Any) -> Any:
    """``model`` with weights that let its answers depend on the image."""
    generator = torch.Generator().manual_seed(7)
    for name, weight in model.named_parameters():
        if (weight.dim() > 1 and not bool(weight.any())) or name.endswith("image_newline"):
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
        elif weight.dim() > 1:
            weight.mul_(2.0 if "lm_head" in name else 4.0)
    return model


def build(name: str) -> tuple[Any, Any]:
    """The model (float32) and processor of a family."""
    config, processor = FAMILIES[name]() if name in FAMILIES else globals()[name]()
    torch.manual_seed(0)
    return awake(hf.AutoModelForImageTextToText.from_config(config)), processor


def save(name: str, folder: Path) -> Path:
    """A family's checkpoint in ``folder``."""
    model, processor = build(name)
    model.save_pretrained(folder)
    vars(processor).pop("video_processor", None)  # a stand-in, which can't be saved
    processor.save_pretrained(folder)
    return folder
