"""Image-text models of a third kind of families: with a processor or a cache of their own, or refused."""

from __future__ import annotations

from typing import Any

import transformers as hf

from support.vlm_families import IMAGE, SEEING, Absent, id_of, seeing, text_of, tokenizer

ROPE = {"rope_type": "default", "rope_theta": 10000.0}
SMALL = {"height": 28, "width": 28}
LINEAR = {
    "layer_types": ["linear_attention", "full_attention"], "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_conv_kernel_dim": 4,
}  # fmt: skip
"""Attention that is linear in the length, in every other layer."""


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
        image_token_index=id_of(tok, "<|patch|>"), boi_token_index=id_of(tok, "<|image_start|>"),
        eoi_token_index=id_of(tok, "<|image_end|>"),
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
        image_token_id=id_of(tok, "<|IMG_PATCH|>"), downsample_factor=2, alignment_intermediate_size=64,
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
        image_start_token_id=id_of(tok, "<im_start>"), image_end_token_id=id_of(tok, "<im_end>"),
        low_res_image_start_token_id=id_of(tok, "<low_res_im_start>"), image_patch_id=id_of(tok, "<im_patch>"),
        frame_start_token_id=id_of(tok, "<frame_start>"), frame_end_token_id=id_of(tok, "<frame_end>"),
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
        image_token_id=id_of(tok), pad_token_id=tok.pad_token_id,
    )  # fmt: skip
    return config, seeing(hf.GraniteDoclingProcessor, images, tok, image_seq_len=4)


def granite4_vision() -> Any:
    tok, grid = tokenizer([IMAGE]), [[56, 112], [112, 56], [112, 112]]
    images = hf.LlavaNextImageProcessorPil(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}, image_grid_pinpoints=grid
    )
    config = hf.Granite4VisionConfig(
        text_config=text_of(tok), image_token_index=id_of(tok), image_grid_pinpoints=grid, downsample_rate="1/2",
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
        image_token_id=id_of(tok, "|SPEAKER|"), **text_of(tok),
    )  # fmt: skip
    return config, processor


def chameleon() -> Any:
    visual = [f"IMGIMG{sign}Z" for sign in "ABCDEFGH"]
    tok = tokenizer([IMAGE, "<racm3:break>", "<eoss>", "<sep>", *visual])
    tok.sep_token = "<sep>"
    images = hf.ChameleonImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    config = hf.ChameleonConfig(
        **text_of(tok), rope_parameters=ROPE, vocabulary_map={token: id_of(tok, token) for token in (*visual, IMAGE)},
        vq_config={"embed_dim": 4, "num_embeddings": 8, "latent_channels": 4, "resolution": 32, "base_channels": 32,
                   "channel_multiplier": [1, 1, 1, 1, 1], "num_res_blocks": 1},
    )  # fmt: skip
    processor = hf.ChameleonProcessor(images, tok, image_seq_length=4)
    return config, processor


def minicpm() -> Any:
    kinds = ("image", "video", "image_start", "image_end", "slice_start", "slice_end", "image_id_start", "image_id_end")
    tok = tokenizer(named=_names(*((kind, f"<{kind}>") for kind in kinds)))
    images = hf.MiniCPMV4_6ImageProcessorPil(scale_resolution=64, patch_size=8, max_slice_nums=4)
    text = {"model_type": "qwen3_5_text", "head_dim": 16, "rope_parameters": ROPE, **LINEAR}
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
        image_token_id=id_of(tok),
    )  # fmt: skip
    return config, hf.Florence2Processor(images, tok)


def internvl_qwen3() -> Any:
    named = _names(("start_image", "<img>"), ("end_image", "</img>"), ("context_image", "<IMG_CONTEXT>"),
                   ("video", "<video>"))  # fmt: skip
    tok = tokenizer(named=named)
    vision = {**SEEING, "image_size": [28, 28], "patch_size": [14, 14], "use_absolute_position_embeddings": True}
    config = hf.InternVLConfig(
        text_config=text_of(tok, model_type="qwen3", head_dim=16), vision_config=vision, image_seq_length=1,
        image_token_id=id_of(tok, "<IMG_CONTEXT>"), downsample_ratio=0.5,
    )  # fmt: skip
    images = hf.GotOcr2ImageProcessorPil(size=SMALL, crop_to_patches=True, min_patches=1, max_patches=4)
    return config, seeing(hf.InternVLProcessor, images, tok, None, image="<IMG_CONTEXT>", image_seq_length=1)
