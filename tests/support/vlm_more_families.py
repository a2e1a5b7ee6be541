"""More small random image-text models, with the real classes of model and processor, made without a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from support import vlm_further_families as further
from support.vlm_families import IMAGE, QWEN, SEEING, awake, id_of, qwen, seeing, text_of, tokenizer
from support.vlm_further_families import LINEAR, ROPE, SMALL


def qwen2_vl() -> Any:
    vision = {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    rope = {"mrope_section": [2, 3, 3]}
    return qwen(14, hf.Qwen2VLProcessor, hf.Qwen2VLConfig, rope, vision, drop=("intermediate_size", "out_hidden_size"))


def _qwen3(config: Any, vision: dict[str, Any], **text: Any) -> Any:
    rope = {"mrope_section": [4, 2, 2], "mrope_interleaved": True}
    seen = {"num_position_embeddings": 16, **vision}
    return qwen(16, hf.Qwen3VLProcessor, config, rope, seen, head_dim=16, **text)


_EXPERTS = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}


def qwen3_vl_moe() -> Any:
    return _qwen3(hf.Qwen3VLMoeConfig, {"deepstack_visual_indexes": [0, 1]}, **_EXPERTS)


def _qwen3_5(config: Any, **text: Any) -> Any:
    rope = {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.5}
    seen = {"num_position_embeddings": 16}
    return qwen(16, hf.Qwen3VLProcessor, config, rope, seen, head_dim=16, **LINEAR, **text)


def qwen3_5() -> Any:
    return _qwen3_5(hf.Qwen3_5Config)


def qwen3_5_moe() -> Any:
    return _qwen3_5(hf.Qwen3_5MoeConfig, shared_expert_intermediate_size=32, **_EXPERTS)


_PIXTRAL = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 64, "patch_size": 8, "head_dim": 16}  # fmt: skip


def _pixtral(config: Any, merge: int, **more: Any) -> Any:
    tok = tokenizer(["[IMG]", "[IMG_BREAK]", "[IMG_END]"])
    images = hf.PixtralImageProcessorPil(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8})
    made = config(
        text_config=text_of(tok, model_type="mistral", head_dim=16),
        vision_config={**_PIXTRAL, "model_type": "pixtral"}, image_token_index=id_of(tok, "[IMG]"), **more,
    )  # fmt: skip
    return made, seeing(hf.PixtralProcessor, images, tok, image="[IMG]", patch_size=8, spatial_merge_size=merge)


def mistral3() -> Any:
    return _pixtral(hf.Mistral3Config, 2, spatial_merge_size=2, tie_word_embeddings=False)


def pixtral() -> Any:
    return _pixtral(hf.LlavaConfig, 1, vision_feature_layer=-1, vision_feature_select_strategy="full")


def gemma4(**text: Any) -> Any:
    names = {"image": "<|image|>", "boi": "<|boi|>", "eoi": "<|eoi|>", "audio": "<|audio|>", "boa": "<|boa|>",
             "eoa": "<|eoa|>"}  # fmt: skip
    tok = tokenizer(["<|video|>"], {f"{name}_token": token for name, token in names.items()})
    images = hf.Gemma4ImageProcessorPil(patch_size=4, pooling_kernel_size=2, max_soft_tokens=70)
    processor = seeing(hf.Gemma4Processor, None, images, tok, None, image="<|image|>")
    ids = {f"{name}_token_id": id_of(tok, token) for name, token in names.items() if name != "eoa"}
    config = hf.Gemma4Config(
        text_config=text_of(tok, head_dim=16, global_head_dim=16, sliding_window=16, hidden_size_per_layer_input=8,
                            vocab_size_per_layer_input=len(tok),
                            **{"layer_types": ["sliding_attention", "full_attention"], **text}),
        vision_config={**SEEING, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "pooling_kernel_size": 2,
                       "position_embedding_size": 64},
        audio_config=None, video_token_id=id_of(tok, "<|video|>"), eoa_token_index=id_of(tok, "<|eoa|>"), **ids,
    )  # fmt: skip
    return config, processor


def gemma4_both_ways() -> Any:
    """Its picture's tokens see each other."""
    return gemma4(use_bidirectional_attention="vision", num_kv_shared_layers=2, num_hidden_layers=4,
                  layer_types=["sliding_attention", "full_attention"] * 2)  # fmt: skip


def mllama() -> Any:
    tok = tokenizer(["<|image|>", "<|python_tag|>"])
    images = hf.MllamaImageProcessorPil(size=SMALL, max_image_tiles=4)
    config = hf.MllamaConfig(
        text_config=text_of(tok, num_hidden_layers=3, cross_attention_layers=[1], rope_parameters=ROPE),
        vision_config={"hidden_size": 32, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 2,
                       "intermediate_size": 64, "vision_output_dim": 64, "image_size": 28, "patch_size": 14,
                       "intermediate_layers_indices": [1]},
        image_token_index=id_of(tok, "<|image|>"),
    )  # fmt: skip
    return config, seeing(hf.MllamaProcessor, images, tok, image="<|image|>")


def _glm(config: Any, images: Any, family: Any, kind: str = "glm4v", **text: Any) -> Any:
    names = {"image": "<|image|>", "video": "<|video|>", "image_start": "<|begin_of_image|>",
             "image_end": "<|end_of_image|>", "video_start": "<|begin_of_video|>",
             "video_end": "<|end_of_video|>"}  # fmt: skip
    tok = tokenizer(list(names.values()))
    seen = images(
        size={"shortest_edge": 112 * 14, "longest_edge": 64 * 14 * 14 * 2}, patch_size=14, merge_size=2,
        temporal_patch_size=2,
    )  # fmt: skip
    made = config(
        text_config=text_of(
            tok, model_type=f"{kind}_text", **text,
            rope_parameters={**ROPE, "mrope_section": [2, 3, 3], "partial_rotary_factor": 1.0},
        ),
        vision_config={"model_type": f"{kind}_vision", "depth": 2, "hidden_size": 32, "intermediate_size": 64,
                       "num_heads": 2, "out_hidden_size": 64, "patch_size": 14, "image_size": 56},
        **{f"{name}_token_id": id_of(tok, token) for name, token in names.items()},
    )  # fmt: skip
    return made, seeing(family, seen, tok, None, image="<|begin_of_image|><|image|><|end_of_image|>")


def glm4v() -> Any:
    return _glm(hf.Glm4vConfig, hf.Glm4vImageProcessorPil, hf.Glm4vProcessor)


def glm46v() -> Any:
    return _glm(hf.Glm46VConfig, hf.Glm46VImageProcessorPil, hf.Glm46VProcessor)


def glm_ocr() -> Any:
    return _glm(hf.GlmOcrConfig, hf.Glm46VImageProcessorPil, hf.Glm46VProcessor, "glm_ocr", head_dim=16)


def glm4v_moe() -> Any:
    experts = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1,
               "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "head_dim": 16}  # fmt: skip
    return _glm(hf.Glm4vMoeConfig, hf.Glm4vImageProcessorPil, hf.Glm4vProcessor, "glm4v_moe", **experts)


def exaone4_5() -> Any:
    vision = {"window_size": 56, "fullatt_block_indexes": [1], "num_key_value_heads": 1}
    text = {"model_type": "exaone4", "head_dim": 16, "layer_types": ["sliding_attention", "full_attention"]}
    return qwen(14, hf.Exaone4_5_Processor, hf.Exaone4_5_Config, {}, vision, sliding_window=16, **text)


def ernie4_5_vl() -> Any:
    kinds = ("image", "image_start", "image_end", "video", "video_start", "video_end")
    tok = tokenizer(named={f"{kind}_token": f"<|{kind}|>" for kind in kinds})
    images = hf.Ernie4_5_VLMoeImageProcessorPil(
        size={"shortest_edge": 4 * 196, "longest_edge": 64 * 196}, patch_size=14, merge_size=2
    )
    config = hf.Ernie4_5_VLMoeConfig(
        text_config=text_of(tok, moe_intermediate_size=[32, 32], moe_k=2, moe_num_experts=4, moe_num_shared_experts=1,
                            mlp_layer_types=["dense", "sparse"], rope_parameters={**ROPE, "mrope_section": [3, 3, 2]}),
        vision_config={"depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 64},
        **{f"{kind}_token_id": id_of(tok, f"<|{kind}|>") for kind in kinds},
    )  # fmt: skip
    mark = "<|image_start|><|image|><|image_end|>"
    return config, seeing(hf.Ernie4_5_VLMoeProcessor, images, tok, None, image=mark)


def idefics2() -> Any:
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>"])
    images = hf.Idefics2ImageProcessorPil(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False)
    config = hf.Idefics2Config(
        text_config=text_of(tok, model_type="mistral"), vision_config={**SEEING, "image_size": 56},
        perceiver_config={"hidden_size": 64, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 16, "num_key_value_heads": 1},
        image_token_id=id_of(tok),
    )  # fmt: skip
    return config, seeing(hf.Idefics2Processor, images, tok, image_seq_len=4)


def ovis2() -> Any:
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tok = tokenizer([IMAGE, "<IMG_ATOM>", *marks])
    images = hf.Ovis2ImageProcessorPil(size=SMALL, crop_to_patches=True, min_patches=1, max_patches=4)
    config = hf.Ovis2Config(
        text_config=text_of(tok, model_type="qwen2"),
        vision_config={**SEEING, "vocab_size": 48, "hidden_stride": 1},
        image_token_id=id_of(tok, "<IMG_ATOM>"), visual_indicator_token_ids=[id_of(tok, mark) for mark in marks],
        vocab_size=len(tok), hidden_size=64,
    )  # fmt: skip
    return config, seeing(hf.Ovis2Processor, images, tok, image_seq_length=4)


def lfm2_vl() -> Any:
    tiles = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 5) for col in range(1, 5)]
    tok = tokenizer([IMAGE, "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>", *tiles])
    images = hf.Lfm2VlImageProcessor(
        tile_size=32, encoder_patch_size=8, downsample_factor=2, min_tiles=2, max_tiles=4, min_image_tokens=2,
        max_image_tokens=8, max_num_patches=32,
    )  # fmt: skip
    config = hf.Lfm2VlConfig(
        text_config=text_of(tok, model_type="lfm2", layer_types=["conv", "full_attention"], block_ff_dim=128),
        vision_config={"model_type": "siglip2_vision_model", "hidden_size": 32, "intermediate_size": 64,
                       "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8, "num_patches": 16,
                       "vision_use_head": False},
        image_token_id=id_of(tok), projector_hidden_size=64, downsample_factor=2,
    )  # fmt: skip
    return config, seeing(hf.Lfm2VlProcessor, images, tok)


def aya_vision() -> Any:
    tiles = [f"TILE_{tile}" for tile in range(1, 13)]
    marks = ["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"]
    tok = tokenizer([IMAGE, *marks, *tiles])
    images = hf.GotOcr2ImageProcessorPil(size=SMALL, crop_to_patches=True, min_patches=1, max_patches=4)
    config = hf.AyaVisionConfig(
        text_config=text_of(tok, model_type="cohere2", sliding_window=16, logit_scale=1.0,
                            layer_types=["sliding_attention", "full_attention"]),
        vision_config={**SEEING, "patch_size": 7, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_index=id_of(tok, "<|IMG_PATCH|>"), downsample_factor=2,
    )  # fmt: skip
    return config, seeing(hf.AyaVisionProcessor, images, tok, patch_size=7, img_size=28, downsample_factor=2)


def deepseek_vl() -> Any:
    tok = tokenizer(named={"image_token": "<image_placeholder>"})
    images = hf.DeepseekVLImageProcessorPil(size=SMALL, min_size=4)
    config = hf.DeepseekVLConfig(
        text_config=text_of(tok, model_type="llama"),
        vision_config={**SEEING, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_id=id_of(tok, "<image_placeholder>"),
    )  # fmt: skip
    return config, seeing(hf.DeepseekVLProcessor, images, tok, image="<image_placeholder>", num_image_tokens=4)


def paddleocr_vl() -> Any:
    names = {"image": "<|IMAGE_PLACEHOLDER|>", "video": "<|video_pad|>", "vision_start": "<|IMAGE_START|>",
             "vision_end": "<|IMAGE_END|>"}  # fmt: skip
    tok = tokenizer([names[key] for key in ("video", "vision_start", "vision_end")], {"image_token": names["image"]})
    images = hf.PaddleOCRVLImageProcessorPil(
        size={"shortest_edge": 4 * 196, "longest_edge": 64 * 196}, patch_size=14, merge_size=2, temporal_patch_size=1
    )
    config = hf.PaddleOCRVLConfig(
        text_config=text_of(tok, head_dim=16, rope_parameters={**ROPE, "mrope_section": [2, 3, 3]}),
        vision_config={**SEEING, "image_size": 56},
        **{f"{name}_token_id": id_of(tok, token) for name, token in names.items()},
    )  # fmt: skip
    mark = f"{names['vision_start']}{names['image']}{names['vision_end']}"
    return config, seeing(hf.PaddleOCRVLProcessor, images, tok, image=mark)


def lighton_ocr() -> Any:
    marks = ["<|image_pad|>", "<|vision_pad|>", "<|vision_end|>"]
    named = dict(zip(("image_token", "image_break_token", "image_end_token"), marks, strict=True))
    tok = tokenizer(marks, named)
    images = hf.PixtralImageProcessorPil(size={"longest_edge": 64}, patch_size={"height": 8, "width": 8})
    config = hf.LightOnOcrConfig(
        text_config=text_of(tok, model_type="qwen3", head_dim=16), vision_config={**_PIXTRAL, "model_type": "pixtral"},
        image_token_id=id_of(tok, marks[0]), spatial_merge_size=2,
    )  # fmt: skip
    return config, seeing(hf.LightOnOcrProcessor, images, tok, image=marks[0], patch_size=8, spatial_merge_size=2)


def got_ocr2() -> Any:
    tok = tokenizer(["<img>", "</img>", "<imgpad>", "<|im_start|>", "<|im_end|>"])
    images = hf.GotOcr2ImageProcessorPil(size={"height": 256, "width": 256})
    config = hf.GotOcr2Config(
        text_config=text_of(tok, model_type="qwen2"),
        vision_config={"hidden_size": 32, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                       "image_size": 256, "patch_size": 4, "mlp_dim": 64, "window_size": 4, "global_attn_indexes": [1],
                       "initializer_range": 0.02},
        image_token_index=id_of(tok, "<imgpad>"), image_seq_length=256,
    )  # fmt: skip
    return config, seeing(hf.GotOcr2Processor, images, tok, image="<imgpad>")


def vipllava() -> Any:
    tok = tokenizer([IMAGE])
    config = hf.VipLlavaConfig(
        text_config=text_of(tok, model_type="llama"), vision_feature_layer=[-1, -2],
        vision_config={**SEEING, "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=id_of(tok),
    )  # fmt: skip
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SMALL)
    options = {"patch_size": 14, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    return config, seeing(hf.LlavaProcessor, images, tok, **options)


def aria() -> Any:
    tok = tokenizer(named={"image_token": IMAGE})
    images = hf.AriaImageProcessorPil(max_image_size=980, min_image_size=336, split_image=False)
    config = hf.AriaConfig(
        text_config=text_of(tok, moe_num_experts=4, moe_topk=2, moe_num_shared_experts=1),
        vision_config={**SEEING, "model_type": "idefics3_vision", "image_size": 980, "patch_size": 140},
        image_token_index=id_of(tok), projector_patch_to_query_dict={49: 4},
    )  # fmt: skip
    return config, seeing(hf.AriaProcessor, images, tok, size_conversion={980: 4})


def video_llama_3() -> Any:
    tok = tokenizer(list(QWEN.values()))
    images = hf.VideoLlama3ImageProcessorPil(size={"shortest_edge": 4 * 196, "longest_edge": 64 * 196}, patch_size=14,
                                             merge_size=2)  # fmt: skip
    config = hf.VideoLlama3Config(
        text_config=text_of(tok, model_type="qwen2"), vision_config=SEEING,
        **{name: id_of(tok, token) for name, token in QWEN.items() if name[:5] in ("image", "video")},
    )  # fmt: skip
    return config, seeing(hf.VideoLlama3Processor, images, tok, None, image="<|image_pad|>")


MORE: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        glm_ocr, glm4v_moe, exaone4_5, ernie4_5_vl, qwen2_vl, qwen3_vl_moe, qwen3_5, qwen3_5_moe, mistral3, pixtral,
        gemma4, gemma4_both_ways, mllama, glm4v, glm46v, idefics2, ovis2, lfm2_vl, aya_vision, deepseek_vl,
        paddleocr_vl, lighton_ocr, got_ocr2, vipllava, aria, video_llama_3, further.llama4, further.cohere2_vision,
        further.molmo2, further.granite_docling, further.granite4_vision, further.kosmos2, further.kosmos2_5,
        further.fuyu, further.chameleon, further.minicpm, further.git, further.idefics, further.gemma3n,
        further.florence2, further.internvl_qwen3,
    )
}  # fmt: skip

ONE_BY_ONE = {"mllama", "kosmos2", "kosmos2_5", "git", "idefics"}
"""Families whose rows are read one by one."""

REFUSED = {
    "llama4": "fails at reading a picture with transformers",
    "fuyu": "makes no prompt with an image",
    "florence2": "with an encoder and a decoder",
}
"""Families that can't be used, each with what is said of it."""

NEEDS = {"mistral3": "torchvision", "pixtral": "torchvision", "lfm2_vl": "torchvision", "llama4": "torchvision",
         "cohere2_vision": "torchvision", "molmo2": "torchvision", "gemma3n": "timm"}  # fmt: skip
"""Packages that fedumm does not come with."""

QUICK = {"qwen3_5", "gemma4", "mllama", "ovis2", "florence2"}
"""Families in the quick tests."""

LOUDER = {
    "kosmos2": {
        "image_to_text_projection.dense.weight": 10.0,
        "image_to_text_projection.latent_query": 0.01,
        "image_to_text_projection.x_attn.out_proj.weight": 10.0,
    },
    "kosmos2_5": {
        "image_to_text_projection.dense.weight": 10.0,
        "image_to_text_projection.latent_query": 0.01,
        "image_to_text_projection.x_attn.out_proj.weight": 10.0,
    },
    "idefics2": {"model.connector.perceiver_resampler.latents": 0.05},
}
"""Weights that let the image have more of an effect."""


def build(name: str) -> tuple[Any, Any]:
    """The model (float32) and processor of a family."""
    config, processor = MORE[name]()
    torch.manual_seed(0)
    model = awake(hf.AutoModelForImageTextToText.from_config(config))
    with torch.no_grad():
        for own in model.parameters():
            if own.numel() == 1 and not own.any():  # gates that are shut
                own.fill_(0.7)
        for part, times in LOUDER.get(name, {}).items():
            model.get_parameter(part).mul_(times)
    return model, processor


def save(name: str, folder: Path) -> Path:
    """A family's checkpoint in ``folder``."""
    model, processor = build(name)
    model.save_pretrained(folder)
    for part in ("video_processor", "feature_extractor"):
        vars(processor).pop(part, None)  # a stand-in, which can't be saved
    hf.ProcessorMixin.save_pretrained(processor, folder)  # few want to save what belongs to their videos
    return folder
