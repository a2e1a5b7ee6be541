"""Published models by name: their real configurations, without their weights.

Numbers are those of the models' own files (``config.json``, ``preprocessor_config.json``). The vocabulary has its real
size, while the tokenizer is a small one (:mod:`vlm_builders`; of BLIP and Janus that of ``tiny``): a text has more
tokens than it has with the model's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
import transformers as hf

import vlm_builders
from fedumm.adapters.lora import with_lora
from fedumm.backends.blip_vqa.model import LORA_TARGETS
from fedumm.backends.hf_vlm.anatomy import ATTENTION, Anatomy
from fedumm.backends.januspro.model import lora_targets
from fedumm.checkpoints import resolve_checkpoint
from tiny_janus_model import build_processor
from vlm_builders import PATCHES, Made, Sizes


@dataclass(frozen=True)
class Published:
    """A model that people use.

    Attributes:
        hub: where it is published.
        build: makes its configuration and processor.
        backend: which takes it.
        total: parameters, tied ones once, as its model card or file says; 0: unknown here.
        keeps_features: whether its backend keeps what its frozen part says of an image.
    """

    hub: str
    build: Callable[[], Made]
    backend: str = "hf_vlm"
    total: int = 0
    keeps_features: bool = True


_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")


def text_of(vocabulary: int, *shape: int, **more: Any) -> dict[str, Any]:
    """Settings of a language model; ``shape`` is what :data:`_SHAPE` names."""
    return {"vocab_size": vocabulary, **dict(zip(_SHAPE, shape, strict=True)), **more}


def _vision(hidden: int, intermediate: int, layers: int, image: int, patch: int, **more: Any) -> dict[str, Any]:
    return {
        "hidden_size": hidden, "intermediate_size": intermediate, "num_hidden_layers": layers,
        "num_attention_heads": 12 if hidden == 768 else 16, "image_size": image, "patch_size": patch, **more,
    }  # fmt: skip


def _rope(theta: float, **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta, **more}}


def square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _smolvlm(*text: int) -> Made:
    return vlm_builders.smolvlm(Sizes(
        text_of(49280, *text, max_position_embeddings=8192, rms_norm_eps=1e-5, **_rope(100000.0)),
        _vision(768, 3072, 12, 512, 16), {"scale_factor": 4, "tie_word_embeddings": False},
        {"size": {"longest_edge": 2048}, "max_image_size": {"longest_edge": 512}, "do_image_splitting": True},
        {"image_seq_len": 64},
    ))  # fmt: skip


def _qwen2_5_vl(tied: bool, vocabulary: int, *text: int) -> Made:
    rope = _rope(1000000.0, mrope_section=[16, 24, 24])
    return vlm_builders.qwen2_5_vl(Sizes(
        text_of(vocabulary, *text, max_position_embeddings=128000, rms_norm_eps=1e-6, tie_word_embeddings=tied, **rope),
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "out_hidden_size": text[0],
         "patch_size": 14, "window_size": 112, "fullatt_block_indexes": [7, 15, 23, 31], **PATCHES},
        {"tie_word_embeddings": tied}, {"size": {"shortest_edge": 3136, "longest_edge": 12845056}},
    ))  # fmt: skip


def _qwen3_vl(*text: int) -> Made:
    rope = _rope(5000000.0, mrope_section=[24, 20, 20], mrope_interleaved=True)
    return vlm_builders.qwen3_vl(Sizes(
        text_of(151936, *text, max_position_embeddings=262144, rms_norm_eps=1e-6, head_dim=128,
                tie_word_embeddings=True, **rope),
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16, "out_hidden_size": text[0],
         "patch_size": 16, "num_position_embeddings": 2304, "deepstack_visual_indexes": [5, 11, 17], **PATCHES},
        {"tie_word_embeddings": True}, {"size": {"shortest_edge": 65536, "longest_edge": 16777216}},
    ))  # fmt: skip


def _so400m(image: int, layers: int = 27) -> dict[str, Any]:
    return _vision(1152, 4304, layers, image, 14, vision_use_head=False)


def _paligemma() -> Made:
    return vlm_builders.paligemma(Sizes(
        text_of(257216, 2048, 16384, 18, 8, 1, head_dim=256), {**_so400m(224), "projection_dim": 2048},
        {"projection_dim": 2048, "hidden_size": 2048}, {"size": square(224)}, {"image_seq_length": 256},
    ))  # fmt: skip


def _gemma3() -> Made:
    return vlm_builders.gemma3(Sizes(
        text_of(262208, 2560, 10240, 34, 8, 4, head_dim=256, query_pre_attn_scalar=256, sliding_window=1024,
                max_position_embeddings=131072),
        _so400m(896), {"mm_tokens_per_image": 256}, {"size": square(896)}, {"image_seq_length": 256},
    ))  # fmt: skip


def _internvl3() -> Made:
    seen = _vision(1024, 4096, 24, 448, 14, attention_bias=True, use_absolute_position_embeddings=True)
    return vlm_builders.internvl(Sizes(
        text_of(151674, 896, 4864, 24, 14, 2, max_position_embeddings=32768, tie_word_embeddings=False,
                **_rope(1000000.0)),
        {**seen, "image_size": [448, 448], "patch_size": [14, 14]},
        {"image_seq_length": 256, "downsample_ratio": 0.5, "tie_word_embeddings": False},
        {"size": square(448), "crop_to_patches": True, "min_patches": 1, "max_patches": 12}, {"image_seq_length": 256},
    ))  # fmt: skip


_CLIP_L = {**_vision(1024, 4096, 24, 336, 14), "projection_dim": 768}
_CLIP_IMAGES = {"size": {"shortest_edge": 336}, "crop_size": square(336)}
_LLAVA = {"image_seq_length": 576, "tie_word_embeddings": False}


def _llava() -> Made:
    text = text_of(32064, 4096, 11008, 32, 32, 32, max_position_embeddings=4096, rms_norm_eps=1e-5)
    return vlm_builders.llava(Sizes(text, _CLIP_L, _LLAVA, _CLIP_IMAGES))


def _llava_next() -> Made:
    text = text_of(32064, 4096, 14336, 32, 32, 8, max_position_embeddings=32768, rms_norm_eps=1e-5,
                   sliding_window=None, **_rope(1000000.0))  # fmt: skip
    grid = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    return vlm_builders.llava_next(Sizes(text, _CLIP_L, _LLAVA, {**_CLIP_IMAGES, "image_grid_pinpoints": grid}))


def _llava_onevision() -> Made:
    grid = [[384 * rows, 384 * columns] for rows, columns in product(range(1, 7), repeat=2)]
    return vlm_builders.llava_onevision(Sizes(
        text_of(152000, 896, 4864, 24, 14, 2, max_position_embeddings=32768, tie_word_embeddings=True,
                **_rope(1000000.0)),
        _so400m(384, 26), {"tie_word_embeddings": True}, {"size": square(384), "image_grid_pinpoints": grid},
        {"num_image_tokens": 729},
    ))  # fmt: skip


def _blip2() -> Made:
    qformer = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
               "encoder_hidden_size": 1408, "vocab_size": 30522}  # fmt: skip
    text = {"hidden_size": 2560, "ffn_dim": 10240, "num_hidden_layers": 32, "num_attention_heads": 32,
            "vocab_size": 50304, "word_embed_proj_dim": 2560}  # fmt: skip
    config = {"num_query_tokens": 32, "qformer_config": qformer}
    return vlm_builders.blip2(Sizes(text, _vision(1408, 6144, 39, 224, 14), config, {"size": square(224)}))


def blip_vqa(image: int = 384, layers: int = 12, width: int = 768, heads: int = 12, vocabulary: int = 30524) -> Made:
    """BLIP for questions; of blip-vqa-base, if not said otherwise."""
    processor = hf.BlipProcessor.from_pretrained(resolve_checkpoint("blip_vqa", "tiny"))
    processor.image_processor.size = square(image)
    tokenizer = processor.tokenizer
    common = {"hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
              "num_attention_heads": heads, "initializer_range": 0.02}  # fmt: skip
    special = {"bos_token_id": tokenizer.convert_tokens_to_ids("[DEC]"), "eos_token_id": tokenizer.sep_token_id,
               "sep_token_id": tokenizer.sep_token_id, "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    config = hf.BlipConfig(
        text_config={**common, **special, "vocab_size": vocabulary, "encoder_hidden_size": width},
        vision_config={**common, "image_size": image, "patch_size": 16},
    )
    return config, processor


def _janus_pro() -> Made:
    processor = build_processor()
    processor.num_image_tokens = 576
    processor.image_processor = hf.JanusImageProcessorPil(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    tokenizer = processor.tokenizer
    text = text_of(102400, 2048, 5632, 24, 16, 16, model_type="llama", max_position_embeddings=16384)
    config = hf.JanusConfig(
        text_config=vlm_builders.with_ids(tokenizer, text),
        vision_config=_vision(1024, 4096, 24, 384, 16, projection_dim=2048, num_image_tokens=576),
        vq_config={"projection_dim": 2048, "image_token_embed_dim": 2048},
        image_token_id=tokenizer.convert_tokens_to_ids(tokenizer.image_token), tie_word_embeddings=False,
    )  # fmt: skip
    return config, processor


PUBLISHED = {
    "blip-vqa-base": Published("Salesforce/blip-vqa-base", blip_vqa, "blip_vqa", 361_230_140),
    "janus-pro-1b": Published("deepseek-community/Janus-Pro-1B", _janus_pro, "januspro", 2_076_636_811),
    "smolvlm-256m": Published(
        "HuggingFaceTB/SmolVLM-256M-Instruct", lambda: _smolvlm(576, 1536, 30, 9, 3), total=256_484_928
    ),
    "smolvlm-500m": Published(
        "HuggingFaceTB/SmolVLM-500M-Instruct", lambda: _smolvlm(960, 2560, 32, 15, 5), total=507_482_304
    ),
    "qwen2.5-vl-3b": Published(
        "Qwen/Qwen2.5-VL-3B-Instruct", lambda: _qwen2_5_vl(True, 151936, 2048, 11008, 36, 16, 2), total=3_754_622_976
    ),
    "qwen2.5-vl-7b": Published(
        "Qwen/Qwen2.5-VL-7B-Instruct", lambda: _qwen2_5_vl(False, 152064, 3584, 18944, 28, 28, 4), total=8_292_166_656
    ),
    "qwen3-vl-2b": Published(
        "Qwen/Qwen3-VL-2B-Instruct", lambda: _qwen3_vl(2048, 6144, 28, 16, 8), total=2_127_532_032
    ),
    "qwen3-vl-4b": Published(
        "Qwen/Qwen3-VL-4B-Instruct", lambda: _qwen3_vl(2560, 9728, 36, 32, 8), total=4_437_815_808
    ),
    "paligemma-3b-224": Published("google/paligemma-3b-pt-224", _paligemma, total=2_923_466_480),
    "gemma-3-4b": Published("google/gemma-3-4b-it", _gemma3, total=4_300_079_472),
    "internvl3-1b": Published("OpenGVLab/InternVL3-1B-hf", _internvl3, total=938_193_024),
    "llava-1.5-7b": Published("llava-hf/llava-1.5-7b-hf", _llava, total=7_063_427_072),
    "llava-next-mistral-7b": Published("llava-hf/llava-v1.6-mistral-7b-hf", _llava_next, total=7_566_747_648),
    "llava-onevision-0.5b": Published("llava-hf/llava-onevision-qwen2-0.5b-ov-hf", _llava_onevision),
    "blip2-opt-2.7b": Published("Salesforce/blip2-opt-2.7b", _blip2, total=3_744_761_856, keeps_features=False),
}
"""By the name that ``make_random_checkpoint.py`` takes."""

_CLASSES = {"blip_vqa": hf.BlipForQuestionAnswering, "januspro": hf.JanusForConditionalGeneration}


def on_meta(config: Any, backend: str) -> Any:
    """The model of a configuration; its tensors have shapes, but no numbers."""
    with torch.device("meta"):
        if backend in _CLASSES:
            return _CLASSES[backend](config)
        return hf.AutoModelForImageTextToText.from_config(config)


def adapted(model: Any, backend: str, rank: int) -> Any:
    """The same with LoRA on the layers that its backend takes by default."""
    if backend == "hf_vlm":
        anatomy = Anatomy(model)
        targets = anatomy.expression(anatomy.chosen(ATTENTION))
    else:
        targets = LORA_TARGETS if backend == "blip_vqa" else lora_targets(False, False)
    with torch.device("meta"):
        return with_lora(model, rank, 2 * rank, 0.0, targets)
