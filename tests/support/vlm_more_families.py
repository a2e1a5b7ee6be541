"""More small random image-text models, with the real classes of model and processor, made without a file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf

from support.vlm_families import IMAGE, QWEN, Absent, SEEING, awake, named_id, qwen, seeing, text_of, tokenizer

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SMALL = {"height": 28, "width": 28}


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


_LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_conv_kernel_dim": 4,
}  # fmt: skip


def _qwen3_5(config: Any, **text: Any) -> Any:
    rope = {"mrope_section": [2, 1, 1], "mrope_interleaved": True, "partial_rotary_factor": 0.5}
    seen = {"num_position_embeddings": 16}
    return qwen(16, hf.Qwen3VLProcessor, config, rope, seen, head_dim=16, **_LINEAR, **text)


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
        vision_config={**_PIXTRAL, "model_type": "pixtral"}, image_token_index=named_id(tok, "[IMG]"), **more,
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
    ids = {f"{name}_token_id": named_id(tok, token) for name, token in names.items() if name != "eoa"}
    config = hf.Gemma4Config(
        text_config=text_of(tok, head_dim=16, global_head_dim=16, sliding_window=16, hidden_size_per_layer_input=8,
                            vocab_size_per_layer_input=len(tok),
                            **{"layer_types": ["sliding_attention", "full_attention"], **text}),
        vision_config={**SEEING, "num_key_value_heads": 2, "head_dim": 16, "patch_size": 4, "pooling_kernel_size": 2,
                       "position_embedding_size": 64},
        audio_config=None, video_token_id=named_id(tok, "<|video|>"), eoa_token_index=named_id(tok, "<|eoa|>"), **ids,
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
        image_token_index=named_id(tok, "<|image|>"),
    )  # fmt: skip
    return config, seeing(hf.MllamaProcessor, images, tok, image="<|image|>")


def _glm(config: Any, images: Any, family: Any) -> Any:
    names = {"image": "<|image|>", "video": "<|video|>", "image_start": "<|begin_of_image|>",
             "image_end": "<|end_of_image|>", "video_start": "<|begin_of_video|>",
             "video_end": "<|end_of_video|>"}  # fmt: skip
    tok = tokenizer(list(names.values()))
    seen = images(
        size={"shortest_edge": 112 * 14, "longest_edge": 64 * 14 * 14 * 2}, patch_size=14, merge_size=2,
        temporal_patch_size=2,
    )  # fmt: skip
    made = config(
        text_config=text_of(tok, model_type="glm4v_text", rope_parameters={**ROPE, "mrope_section": [2, 3, 3]}),
        vision_config={"model_type": "glm4v_vision", "depth": 2, "hidden_size": 32, "intermediate_size": 64,
                       "num_heads": 2, "out_hidden_size": 64, "patch_size": 14, "image_size": 56},
        **{f"{name}_token_id": named_id(tok, token) for name, token in names.items()},
    )  # fmt: skip
    return made, seeing(family, seen, tok, None, image="<|begin_of_image|><|image|><|end_of_image|>")


def glm4v() -> Any:
    return _glm(hf.Glm4vConfig, hf.Glm4vImageProcessorPil, hf.Glm4vProcessor)


def glm46v() -> Any:
    return _glm(hf.Glm46VConfig, hf.Glm46VImageProcessorPil, hf.Glm46VProcessor)


def idefics2() -> Any:
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>"])
    images = hf.Idefics2ImageProcessorPil(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False)
    config = hf.Idefics2Config(
        text_config=text_of(tok, model_type="mistral"), vision_config={**SEEING, "image_size": 56},
        perceiver_config={"hidden_size": 64, "resampler_n_latents": 4, "resampler_depth": 1, "resampler_n_heads": 2,
                          "resampler_head_dim": 16, "num_key_value_heads": 1},
        image_token_id=named_id(tok),
    )  # fmt: skip
    return config, seeing(hf.Idefics2Processor, images, tok, image_seq_len=4)


def ovis2() -> Any:
    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tok = tokenizer([IMAGE, "<IMG_ATOM>", *marks])
    images = hf.Ovis2ImageProcessorPil(size=SMALL, crop_to_patches=True, min_patches=1, max_patches=4)
    config = hf.Ovis2Config(
        text_config=text_of(tok, model_type="qwen2"),
        vision_config={**SEEING, "vocab_size": 48, "hidden_stride": 1},
        image_token_id=named_id(tok, "<IMG_ATOM>"), visual_indicator_token_ids=[named_id(tok, mark) for mark in marks],
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
        image_token_id=named_id(tok), projector_hidden_size=64, downsample_factor=2,
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
        image_token_index=named_id(tok, "<|IMG_PATCH|>"), downsample_factor=2,
    )  # fmt: skip
    return config, seeing(hf.AyaVisionProcessor, images, tok, patch_size=7, img_size=28, downsample_factor=2)


def deepseek_vl() -> Any:
    tok = tokenizer(named={"image_token": "<image_placeholder>"})
    images = hf.DeepseekVLImageProcessorPil(size=SMALL, min_size=4)
    config = hf.DeepseekVLConfig(
        text_config=text_of(tok, model_type="llama"),
        vision_config={**SEEING, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_id=named_id(tok, "<image_placeholder>"),
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
        **{f"{name}_token_id": named_id(tok, token) for name, token in names.items()},
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
        image_token_id=named_id(tok, marks[0]), spatial_merge_size=2,
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
        image_token_index=named_id(tok, "<imgpad>"), image_seq_length=256,
    )  # fmt: skip
    return config, seeing(hf.GotOcr2Processor, images, tok, image="<imgpad>")


def vipllava() -> Any:
    tok = tokenizer([IMAGE])
    config = hf.VipLlavaConfig(
        text_config=text_of(tok, model_type="llama"), vision_feature_layer=[-1, -2],
        vision_config={**SEEING, "model_type": "clip_vision_model", "projection_dim": 32},
        image_token_index=named_id(tok),
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
        image_token_index=named_id(tok), projector_patch_to_query_dict={49: 4},
    )  # fmt: skip
    return config, seeing(hf.AriaProcessor, images, tok, size_conversion={980: 4})


def video_llama_3() -> Any:
    tok = tokenizer(list(QWEN.values()))
    images = hf.VideoLlama3ImageProcessorPil(size={"shortest_edge": 4 * 196, "longest_edge": 64 * 196}, patch_size=14,
                                             merge_size=2)  # fmt: skip
    config = hf.VideoLlama3Config(
        text_config=text_of(tok, model_type="qwen2"), vision_config=SEEING,
        **{name: named_id(tok, token) for name, token in QWEN.items() if name[:5] in ("image", "video")},
    )  # fmt: skip
    return config, seeing(hf.VideoLlama3Processor, images, tok, None, image="<|image_pad|>")


def _names(*pairs: tuple[str, str]) -> dict[str, str]:
    return {f"{name}_token": token for name, token in pairs}


def llama4() -> Any:
    marks = ["<|image|>", "<|patch|>", "<|image_start|>", "<|image_end|>", "<|tile_x_separator|>",
             "<|tile_y_separator|>"]  # fmt: skip
    tok = tokenizer(marks)
    images = hf.Llama4ImageProcessor(size=SMALL, max_patches=4)
    config = hf.Llama4Config(
        text_config=text_of(tok, head_dim=16, intermediate_size_mlp=64, num_local_experts=2, rope_parameters=ROPE,
                            moe_layers=[1], attention_chunk_size=64),
        vision_config={"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128,
                       "vision_output_dim": 64, "image_size": 28, "patch_size": 7, "projector_input_dim": 64,
                       "projector_output_dim": 64},
        image_token_index=named_id(tok, "<|patch|>"), boi_token_index=named_id(tok, "<|image_start|>"),
        eoi_token_index=named_id(tok, "<|image_end|>"),
    )  # fmt: skip
    return config, seeing(hf.Llama4Processor, images, tok, image="<|image|>", patch_size=7)


def cohere2_vision() -> Any:
    named = _names(("image", "<|IMG_PATCH|>"), ("boi", "<|START_OF_IMG|>"), ("eoi", "<|END_OF_IMG|>"),
                   ("img_line_break", "<|IMG_LINE_BREAK|>"))  # fmt: skip
    tok = tokenizer(named=named)
    images = hf.Cohere2VisionImageProcessor(size=SMALL, max_patches=4, patch_size=2)
    config = hf.Cohere2VisionConfig(
        text_config=text_of(tok, model_type="cohere2", sliding_window=16, logit_scale=1.0,
                            layer_types=["sliding_attention", "full_attention"]),
        vision_config={**SEEING, "patch_size": 7, "model_type": "siglip_vision_model", "vision_use_head": False},
        image_token_id=named_id(tok, "<|IMG_PATCH|>"), downsample_factor=2, alignment_intermediate_size=64,
    )  # fmt: skip
    return config, seeing(hf.Cohere2VisionProcessor, images, tok, image="<|IMG_PATCH|>")


def molmo2() -> Any:
    marks = ["<|image|>", "<|video|>", "<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<frame_start>",
             "<im_end>", "<frame_end>", "<im_low>"]  # fmt: skip
    tok = tokenizer(marks)
    images = hf.Molmo2ImageProcessor(size=SMALL, patch_size=7, max_crops=2, overlap_margins=[0, 0], pooling_size=[2, 2])
    seen = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
            "intermediate_size": 64}  # fmt: skip
    config = hf.Molmo2Config(
        text_config=text_of(tok, head_dim=16, additional_vocab_size=8, rope_parameters=ROPE),
        vision_config={**seen, "num_hidden_layers": 2, "image_size": [28, 28], "patch_size": 7},
        adapter_config={**seen, "vision_feature_layer": [-1, -2], "text_hidden_size": 64},
        image_start_token_id=named_id(tok, "<im_start>"), image_end_token_id=named_id(tok, "<im_end>"),
        low_res_image_start_token_id=named_id(tok, "<low_res_im_start>"), image_patch_id=named_id(tok, "<im_patch>"),
        frame_start_token_id=named_id(tok, "<frame_start>"), frame_end_token_id=named_id(tok, "<frame_end>"),
    )  # fmt: skip
    return config, seeing(hf.Molmo2Processor, images, None, tok, image="<|image|>")


_TILES = [f"<row_{row}_col_{col}>" for row in range(1, 5) for col in range(1, 5)]


def granite_docling() -> Any:
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>", "<global-img>", *_TILES])
    images = hf.GraniteDoclingImageProcessorPil(
        size={"height": 32, "width": 32}, crop_to_patches=True, max_patches=4, fine_route=False
    )
    config = hf.GraniteDoclingConfig(
        text_config=text_of(tok, embedding_multiplier=1.0, logits_scaling=1.0, attention_multiplier=0.25),
        vision_config={**SEEING, "image_size": 32, "patch_size": 8, "out_hidden_size": 64, "scale_factor": 2,
                       "use_fine_route": False, "deepstack_visual_indexes": [0]},
        image_token_id=named_id(tok), pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    return config, seeing(hf.GraniteDoclingProcessor, images, tok, image_seq_len=4)


def granite4_vision() -> Any:
    tok, grid = tokenizer([IMAGE]), [[56, 112], [112, 56], [112, 112]]
    images = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=grid
    )
    config = hf.Granite4VisionConfig(
        text_config=text_of(tok), image_token_index=named_id(tok), image_grid_pinpoints=grid, downsample_rate="1/2",
        vision_config={**SEEING, "hidden_size": 64, "image_size": 56, "model_type": "siglip_vision_model",
                       "vision_use_head": False},
        vision_feature_select_strategy="full", deepstack_layer_map=[[-1, 0]], spatial_target_layers=[1],
        qformer_config={"model_type": "blip_2_qformer", "hidden_size": 64, "num_attention_heads": 1,
                        "intermediate_size": 64, "num_hidden_layers": 1, "encoder_hidden_size": 64,
                        "cross_attention_frequency": 1},
    )  # fmt: skip
    return config, seeing(hf.Granite4VisionProcessor, images, tok, patch_size=14, vision_feature_select_strategy="full",
                          downsample_rate="1/2")  # fmt: skip


def kosmos2() -> Any:
    tok = tokenizer(["<image>", "</image>", "<unk>"])
    tok.unk_token = "<unk>"
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SMALL)
    processor = hf.Kosmos2Processor(images, tok, num_patch_index_tokens=4)
    config = hf.Kosmos2Config(
        text_config={"vocab_size": len(tok) + 80, "max_position_embeddings": 2048, "embed_dim": 64, "layers": 2,
                     "ffn_dim": 128, "attention_heads": 4, "dropout": 0.0, "attention_dropout": 0.0,
                     **{k: v for k, v in text_of(tok).items() if k.endswith("token_id")}},
        vision_config=SEEING, latent_query_num=64,
    )  # fmt: skip
    return config, processor


def kosmos2_5() -> Any:
    tok = tokenizer(named=_names(("boi", "<image>"), ("eoi", "</image>"), ("image", "<|image|>")))
    images = hf.Kosmos2_5ImageProcessorPil(patch_size={"height": 8, "width": 8}, max_patches=32)
    processor = hf.Kosmos2_5Processor(images, tok, num_image_tokens=4)
    config = hf.Kosmos2_5Config(
        text_config={"vocab_size": len(tok), "embed_dim": 64, "layers": 2, "ffn_dim": 128, "attention_heads": 4,
                     "dropout": 0.0, **{k: v for k, v in text_of(tok).items() if k.endswith("token_id")}},
        vision_config={"hidden_size": 32, "patch_embed_hidden_size": 192, "intermediate_size": 64, "head_dim": 16,
                       "num_hidden_layers": 2, "num_attention_heads": 2},
        latent_query_num=4,
    )  # fmt: skip
    return config, processor


def fuyu() -> Any:
    tok = tokenizer(["|SPEAKER|", "|NEWLINE|", "<0x04>", "<0x00>", "<0x01>", "<0x02>", "<0x03>"])
    images = hf.FuyuImageProcessorPil(size={"height": 64, "width": 64}, patch_size={"height": 16, "width": 16})
    processor = hf.FuyuProcessor(images, tok)
    config = hf.FuyuConfig(
        text_config={"model_type": "persimmon", **text_of(tok)}, image_size=64, patch_size=16,
        image_token_id=named_id(tok, "|SPEAKER|"), **text_of(tok),
    )  # fmt: skip
    return config, processor


def chameleon() -> Any:
    visual = [f"IMGIMG{sign}Z" for sign in "ABCDEFGH"]
    tok = tokenizer([IMAGE, "<racm3:break>", "<eoss>", "<sep>", *visual])
    tok.sep_token = "<sep>"
    images = hf.ChameleonImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    config = hf.ChameleonConfig(
        **text_of(tok), rope_parameters=ROPE, vocabulary_map={token: named_id(tok, token) for token in (*visual, IMAGE)},
        vq_config={"embed_dim": 4, "num_embeddings": 8, "latent_channels": 4, "resolution": 32, "base_channels": 32,
                   "channel_multiplier": [1, 1, 1, 1, 1], "num_res_blocks": 1},
    )  # fmt: skip
    processor = hf.ChameleonProcessor(images, tok, image_seq_length=4)
    return config, processor


def minicpm() -> Any:
    kinds = ("image", "video", "image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")
    tok = tokenizer(named=_names(*((kind, f"<{kind}>") for kind in kinds)))
    images = hf.MiniCPMV4_6ImageProcessorPil(scale_resolution=64, patch_size=8, max_slice_nums=4)
    text = {"model_type": "qwen3_5_text", "head_dim": 16, "rope_parameters": ROPE, **_LINEAR}
    config = hf.MiniCPMV4_6Config(
        text_config=text_of(tok, **text), vision_config={**SEEING, "image_size": 64, "patch_size": 8,
        "insert_layer_id": 0}, insert_layer_id=0, image_size=64, image_token_id=tok.image_token_id,
        video_token_id=tok.video_token_id,
    )  # fmt: skip
    return config, seeing(hf.MiniCPMV4_6Processor, images, Absent(), tok, image="<image>")


def git() -> Any:
    tok = tokenizer()
    images = hf.CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size=SMALL)
    config = hf.GitConfig(vision_config=SEEING, **text_of(tok))
    return config, hf.GitProcessor(images, tok)


def idefics() -> Any:
    tok = tokenizer([IMAGE, "<fake_token_around_image>", "<end_of_utterance>"])
    images = hf.IdeficsImageProcessorPil(image_size=28)
    config = hf.IdeficsConfig(
        vision_config={"embed_dim": 32, "image_size": 28, "intermediate_size": 64, "patch_size": 14,
                       "num_hidden_layers": 2, "num_attention_heads": 2}, **text_of(tok), use_resampler=False,
        cross_layer_interval=1, alpha_initializer="ones",
    )  # fmt: skip
    return config, hf.IdeficsProcessor(images, tok)


def gemma3n() -> Any:
    named = _names(("image", "<|image|>"), ("boi", "<|boi|>"), ("eoi", "<|eoi|>"), ("audio", "<|audio|>"),
                   ("boa", "<|boa|>"), ("eoa", "<|eoa|>"))  # fmt: skip
    tok = tokenizer(named=named)
    images = hf.SiglipImageProcessorPil(size={"height": 256, "width": 256})
    config = hf.Gemma3nConfig(
        text_config=text_of(tok, head_dim=16, sliding_window=16, layer_types=["sliding_attention", "full_attention"],
                            num_kv_shared_layers=0, hidden_size_per_layer_input=8, laurel_rank=4,
                            vocab_size_per_layer_input=len(tok), activation_sparsity_pattern=[0.0, 0.0]),
        vision_config={"architecture": "mobilenetv3_small_050", "hidden_size": 288, "vocab_size": 8},
        audio_config={"hidden_size": 32, "conf_num_hidden_layers": 1, "conf_num_attention_heads": 2, "vocab_size": 8},
        vision_soft_tokens_per_image=64, boi_token_id=tok.boi_token_id, eoi_token_id=tok.eoi_token_id,
        image_token_id=tok.image_token_id, audio_token_id=tok.audio_token_id,
    )  # fmt: skip
    return config, seeing(hf.Gemma3nProcessor, None, images, tok, image="<|image|>", image_seq_length=64)


def florence2() -> Any:
    tok = tokenizer(named={"image_token": IMAGE})
    images = hf.CLIPImageProcessorPil(size=SMALL, crop_size=SMALL)
    config = hf.Florence2Config(
        text_config={"vocab_size": len(tok), "d_model": 32, "encoder_layers": 1, "decoder_layers": 1,
                     "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
                     "decoder_ffn_dim": 32},
        vision_config={"embed_dim": [8, 16], "depths": [1, 1], "num_heads": [2, 2], "num_groups": [2, 2],
                       "patch_size": [7, 3], "patch_stride": [4, 2], "patch_padding": [3, 1],
                       "patch_prenorm": [False, True], "projection_dim": 32},
        image_token_id=named_id(tok),
    )  # fmt: skip
    return config, hf.Florence2Processor(images, tok)


def internvl_qwen3() -> Any:
    named = _names(("start_image", "<img>"), ("end_image", "</img>"), ("context_image", "<IMG_CONTEXT>"),
                   ("video", "<video>"))  # fmt: skip
    tok = tokenizer(named=named)
    vision = {**SEEING, "image_size": [28, 28], "patch_size": [14, 14], "use_absolute_position_embeddings": True}
    config = hf.InternVLConfig(
        text_config=text_of(tok, model_type="qwen3", head_dim=16), vision_config=vision, image_seq_length=1,
        image_token_id=named_id(tok, "<IMG_CONTEXT>"), downsample_ratio=0.5,
    )  # fmt: skip
    images = hf.GotOcr2ImageProcessorPil(size=SMALL, crop_to_patches=True, min_patches=1, max_patches=4)
    return config, seeing(hf.InternVLProcessor, images, tok, None, image="<IMG_CONTEXT>", image_seq_length=1)


MORE: dict[str, Callable[[], Any]] = {
    made.__name__: made
    for made in (
        qwen2_vl, qwen3_vl_moe, qwen3_5, qwen3_5_moe, mistral3, pixtral, gemma4, gemma4_both_ways, mllama, glm4v,
        glm46v, idefics2, ovis2, lfm2_vl, aya_vision, deepseek_vl, paddleocr_vl, lighton_ocr, got_ocr2, vipllava, aria,
        video_llama_3, llama4, cohere2_vision, molmo2, granite_docling, granite4_vision, kosmos2, kosmos2_5, fuyu, chameleon,
        minicpm, git, idefics, gemma3n, florence2, internvl_qwen3,
    )
}  # fmt: skip


def build(name: str) -> tuple[Any, Any]:
    """The model (float32) and processor of a family."""
    config, processor = MORE[name]()
    torch.manual_seed(0)
    model = awake(hf.AutoModelForImageTextToText.from_config(config))
    with torch.no_grad():
        for own in model.parameters():
            if own.numel() == 1 and not own.any():  # gates that are shut
                own.fill_(0.7)
    return model, processor


def save(name: str, folder: Path) -> Path:
    """A family's checkpoint in ``folder``."""
    model, processor = build(name)
    model.save_pretrained(folder)
    for part in ("video_processor", "feature_extractor"):
        vars(processor).pop(part, None)  # a stand-in, which can't be saved
    processor.save_pretrained(folder)
    return folder
