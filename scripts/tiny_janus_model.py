"""The untrained Janus of about 2.5 M parameters that ``make_tiny_janus.py`` trains, and its processor."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import (
    GenerationConfig,
    JanusConfig,
    JanusForConditionalGeneration,
    JanusImageProcessorPil,
    JanusProcessor,
    PreTrainedTokenizerFast,
)

from fedumm.backends.prompting import BARE
from fedumm.backends.wordpiece import wordpiece_decoder
from fedumm.data.shapes.questions import words

BOS, EOS, PAD = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜▁pad▁｜>"  # noqa: RUF001
IMAGE, BOI, EOI = "<image_placeholder>", "<begin_of_image>", "<end_of_image>"
SPECIAL = [PAD, BOS, EOS, "[UNK]", "<|User|>", "<|Assistant|>", IMAGE, BOI, EOI]
SIDE, PATCH, WIDTH, CODES = 32, 4, 128, 512
TOKENS = (SIDE // PATCH) ** 2
# Words of everyday prompts that the pretraining never shows.
EXTRA_WORDS = (
    "any at big bottom can contain dog does door five has here it its large left man next no not object objects on one "
    "or person photo picture present right scene see show side small than that this top two under "
    "what where which white who with woman you zero"
)
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}<|User|>: {%- else -%}<|Assistant|>: {% endif -%}"
    "{%- for part in message['content'] -%}"
    "{%- if part['type'] == 'image' -%}<image_placeholder>{{ '\\n' }}{%- else -%}{{ ' ' + part['text'] }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if message['role'] == 'user' -%}{{ '\\n\\n' }}{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|Assistant|>:{%- endif -%}"
)


VISION = {
    "hidden_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": PATCH,
    "mlp_ratio": 2.0,
    "projection_dim": WIDTH,
    "num_image_tokens": TOKENS,
    "initializer_range": 0.05,
}
VQ = {
    "embed_dim": 8,
    "num_embeddings": CODES,
    "latent_channels": 32,
    "base_channels": 32,
    "channel_multiplier": [1, 1, 2],
    "num_res_blocks": 1,
    "projection_dim": WIDTH,
    "image_token_embed_dim": WIDTH,
}


def build_processor() -> JanusProcessor:
    """A WordPiece tokenizer (whole words, then single characters) and a 32 x 32 image processor."""
    characters = list("abcdefghijklmnopqrstuvwxyz0123456789")
    known = sorted({*words(), *EXTRA_WORDS.split()} - set(characters))
    vocab = [*SPECIAL, *"?.,!'\"-/:;()", *characters, *["##" + c for c in characters], *known]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(vocab)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = wordpiece_decoder()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocab.index(BOS))]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        unk_token="[UNK]",
        padding_side="left",
        model_max_length=512,
        extra_special_tokens={"image_token": IMAGE, "boi_token": BOI, "eoi_token": EOI},
    )
    images = JanusImageProcessorPil(
        size={"height": SIDE, "width": SIDE}, min_size=4, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return JanusProcessor(images, fast, chat_template=CHAT_TEMPLATE, num_image_tokens=TOKENS)


def build_model(processor: JanusProcessor) -> JanusForConditionalGeneration:
    """4 layers in the tower and in the language model; patches of 4 pixels, for both ways of seeing an image."""
    tokenizer = processor.tokenizer
    config = JanusConfig(
        text_config=_text_config(tokenizer),
        vision_config=VISION,
        vq_config=VQ,
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        tie_word_embeddings=False,
        fedumm_prompt=BARE,
    )
    model = JanusForConditionalGeneration(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        guidance_scale=2,
        generation_kwargs={"boi_token_id": tokenizer.convert_tokens_to_ids(BOI)},
    )
    return model


def _text_config(tokenizer: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "intermediate_size": 3 * WIDTH,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 512,
        "initializer_range": 0.05,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "tie_word_embeddings": False,
    }


@torch.no_grad()
def enlarge_normalised_states(model: JanusForConditionalGeneration, factor: float) -> None:
    """Scale what the language model's norms pass on, and undo it where it is read: the function stays the same.

    A step of LoRA's factors then changes the function ``factor`` times as much. The commands' default
    learning rate is one for Janus-Pro-1B, with 24 layers of width 2048; here are 4 of width 128.
    """
    for layer in model.model.language_model.layers:
        layer.input_layernorm.weight.mul_(factor)
        layer.post_attention_layernorm.weight.mul_(factor)
        attention, mlp = layer.self_attn, layer.mlp
        for reader in (attention.q_proj, attention.k_proj, attention.v_proj, mlp.gate_proj, mlp.up_proj):
            reader.weight.div_(factor)
