"""Tokenizers to test with: the shipped ones, and small ones of the kinds that published models have."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, JanusProcessor, PreTrainedTokenizerFast

from fedumm.backends.prompting import BARE
from fedumm.checkpoints import resolve_checkpoint
from support.answers import ANSWERS
from tiny_janus_model import BOI, BOS, CHAT_TEMPLATE, EOI, EOS, IMAGE, PAD, SPECIAL

OF_BERT = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
UNKNOWN = "[UNK]"
CHARACTERS = sorted({character for answer in ANSWERS for character in answer} - set(" 😀👍红色عربي"))


def tiny_bert(special_start: bool = True) -> Any:
    """That of the shipped BLIP; without ``special_start`` its decoder's start token is an ordinary word."""
    tokenizer = AutoTokenizer.from_pretrained(resolve_checkpoint("blip_vqa", "tiny"))
    if special_start:
        return tokenizer
    inner = tokenizer.backend_tokenizer
    plain = Tokenizer(models.WordPiece(inner.get_vocab(), unk_token=UNKNOWN))
    plain.normalizer, plain.pre_tokenizer, plain.decoder = inner.normalizer, inner.pre_tokenizer, decoders.WordPiece()
    plain.post_processor = inner.post_processor
    names = {"unk_token": UNKNOWN, "sep_token": "[SEP]", "cls_token": "[CLS]", "pad_token": "[PAD]"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, **names)


def cased_wordpiece() -> Tokenizer:
    """Characters and a few words; capitals and accents are kept."""
    pieces = [*CHARACTERS, *[f"##{character}" for character in CHARACTERS], "yes", "no", "red", "ray", "##ray"]
    tokenizer = Tokenizer(models.WordPiece(_numbered(pieces), unk_token=UNKNOWN, max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    return tokenizer


def byte_level() -> Tokenizer:
    """As GPT-2's and Janus-Pro's: there is nothing that it can't say."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([f" {answer}" for answer in ANSWERS], trainer)
    return tokenizer


def unigram() -> Tokenizer:
    """As SentencePiece's: spaces are a character of their own."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=400, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False)
    tokenizer.train_from_iterator([answer for answer in ANSWERS if set(answer) <= {*CHARACTERS, " "}], trainer)
    return tokenizer


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(dict.fromkeys([*OF_BERT, *SPECIAL, *pieces]))}


OWN: dict[str, tuple[Callable[[], Tokenizer], str | None]] = {
    "cased WordPiece": (cased_wordpiece, UNKNOWN),
    "byte-level BPE": (byte_level, None),
    "Unigram": (unigram, "<unk>"),
}


def blip_processors() -> dict[str, Any]:
    """What the backend reads of a ``BlipProcessor``, with each tokenizer."""
    tokenizers = {"tiny": tiny_bert(), "tiny, start token an ordinary word": tiny_bert(False)}
    for name, (make, unknown) in OWN.items():
        names = {"sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "bos_token": "[DEC]"}
        if unknown:
            names["unk_token"] = unknown
        tokenizers[name] = PreTrainedTokenizerFast(tokenizer_object=make(), **names)
    return {
        name: SimpleNamespace(
            tokenizer=tokenizer, image_processor=None, decoder_start_token_id=tokenizer.convert_tokens_to_ids("[DEC]")
        )
        for name, tokenizer in tokenizers.items()
    }


def janus_processors() -> dict[str, Any]:
    """A ``JanusProcessor`` with each tokenizer."""
    tiny = JanusProcessor.from_pretrained(resolve_checkpoint("januspro", "tiny"))
    processors = {"tiny": tiny}
    for name, (make, unknown) in OWN.items():
        names = {"bos_token": BOS, "eos_token": EOS, "pad_token": PAD, **({"unk_token": unknown} if unknown else {})}
        own = {"image_token": IMAGE, "boi_token": BOI, "eoi_token": EOI}
        fast = PreTrainedTokenizerFast(tokenizer_object=make(), extra_special_tokens=own, **names)
        fast.add_special_tokens({"additional_special_tokens": ["<|User|>", "<|Assistant|>"]})
        processors[name] = JanusProcessor(tiny.image_processor, fast, chat_template=CHAT_TEMPLATE, num_image_tokens=4)
    for processor in processors.values():
        processor.context, processor.own_prompt = 10**6, BARE
    return processors
