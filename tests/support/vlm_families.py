"""Small random image-text models of many families: configurations and processors of ``scripts/vlm_builders.py``.

Weights are enlarged, so that differences show, and those that start at zero and would hide the image are filled.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf

import vlm_builders
from vlm_builders import (
    IMAGE,
    PATCHES,
    QWEN,
    SEEING,
    TEXT,
    Absent,
    Sizes,
    id_of,
    save_processor,
    seeing,
    tokenizer,
    with_ids,
)

__all__ = ["IMAGE", "QWEN", "SEEING", "Absent", "id_of", "seeing", "tokenizer"]


def text_of(tok: Any, **more: Any) -> dict[str, Any]:
    """The small language model's settings."""
    return with_ids(tok, {**TEXT, **more})


def qwen(
    patch: int, family: Any, config: Any, rope: dict[str, Any], vision: dict[str, Any], drop: Sequence[str] = (),
    **text: Any,
) -> Any:  # fmt: skip
    """A small model of one of Qwen's families."""
    seen = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": patch, **PATCHES, **vision}  # fmt: skip
    for name in drop:
        del seen[name]
    spoken = {**TEXT, "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, **rope}, **text}
    size = {"shortest_edge": 4 * patch * patch, "longest_edge": 64 * patch * patch}
    return vlm_builders.qwen(family, config, Sizes(spoken, seen, images={"size": size}))


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
        vq_config=codes, text_config=text_of(tok, attention_dropout=0.0), image_token_id=id_of(tok),
        vocabulary_map={token: id_of(tok, token) for token in (*visual, IMAGE, "<|extra_200|>")},
    )  # fmt: skip
    return config, seeing(hf.Emu3Processor, images, tok)


FAMILIES = {**vlm_builders.FAMILIES, "emu3": emu3}


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
    config, processor = FAMILIES[name]() if name in FAMILIES else getattr(vlm_builders, name)()
    torch.manual_seed(0)
    return awake(hf.AutoModelForImageTextToText.from_config(config)), processor


def save(name: str, folder: Path) -> Path:
    """A family's checkpoint in ``folder``."""
    model, processor = build(name)
    model.save_pretrained(folder)
    save_processor(processor, folder)
    return folder
