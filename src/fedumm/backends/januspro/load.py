"""Loading a Janus in the layout of ``transformers``."""

from __future__ import annotations

import json
import logging as python_logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import JanusConfig, JanusForConditionalGeneration, JanusImageProcessorPil, JanusProcessor
from transformers.utils import logging

from fedumm.backends.januspro.prompts import Prompts
from fedumm.backends.loading import explained
from fedumm.backends.weights import DEFAULT_WEIGHTS, WeightOptions, count_parameters, loading_arguments
from fedumm.checkpoints import NATIVE, old_layout, resolve_checkpoint
from fedumm.data.hub_access import check_reachable
from fedumm.errors import FedummError

DEFAULT_MODEL = "deepseek-community/Janus-Pro-1B"
_WHAT = "a Janus in the layout of transformers"
_HEAD = "lm_head.weight"
_NOT_IN_4BIT = (
    *(f"model.{part}" for part in ("vision_model", "aligner", "vqmodel")),
    *(f"model.generation_{part}" for part in ("embeddings", "aligner", "head")),
    _HEAD.removesuffix(".weight"),
)
"""All but the layers of the language model: small, or what rounding would tell on most."""


def load_pretrained(
    model_name_or_path: str, device: torch.device, options: WeightOptions = DEFAULT_WEIGHTS
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Model and processor from ``tiny``, a folder or the Hub; the default is Janus-Pro-1B.

    The VQ-VAE is float32, whatever ``options`` say: in bfloat16 some tokens of an image would be others.

    Raises:
        FedummError: no such folder or repository, the Hub is out of reach, not a Janus, in the layout of the
            ``janus`` package, without Janus's special tokens or some weights, or a context too short for an image.
    """
    logging.disable_progress_bar()  # one for a file that loads in seconds; downloads keep theirs
    processor = load_processor(model_name_or_path)
    with explained(where := _place(model_name_or_path), _WHAT):
        arguments = loading_arguments(options, device, lambda: _parameters(where), _NOT_IN_4BIT)
        model = _load_model(where, arguments)
        _widen_vqmodel(model, where)
    _set_padding(processor.tokenizer, model.generation_config, where)
    _check_fit(model.config, Prompts(processor), where)
    return model, processor


def load_processor(model_name_or_path: str) -> JanusProcessor:
    """Tokenizer and image processor alone.

    Raises:
        FedummError: as :func:`load_pretrained`.
    """
    where = _place(model_name_or_path)
    if Path(where).is_dir():
        _check_layout(Path(where))
    else:
        check_reachable("model", where)
    with explained(where, _WHAT):
        return _load_processor(where)


def _place(model_name_or_path: str) -> str:
    return resolve_checkpoint("januspro", model_name_or_path or DEFAULT_MODEL)


def _parameters(where: str) -> int:
    config = JanusConfig.from_pretrained(where)
    return count_parameters(lambda: JanusForConditionalGeneration(config))


def _widen_vqmodel(model: JanusForConditionalGeneration, where: str) -> None:
    """The VQ-VAE in float32, from the checkpoint where it was rounded on the way."""
    vq = model.model.vqmodel
    stored, loaded = JanusConfig.from_pretrained(where).dtype or torch.float32, next(vq.parameters()).dtype
    vq.float()
    if loaded not in (torch.float32, stored):
        exact = JanusForConditionalGeneration.from_pretrained(where, dtype=torch.float32)
        vq.load_state_dict(exact.model.vqmodel.state_dict())


def _load_model(where: str, arguments: Mapping[str, Any]) -> JanusForConditionalGeneration:
    """With a head of its own if the checkpoint has one.

    Janus's configuration says by default that there is none. The library, which then finds one, keeps it with a
    warning, and would still overwrite it with the embeddings when it next ties weights.
    """

    def load(tied: bool) -> tuple[JanusForConditionalGeneration, set[str]]:
        model, report = JanusForConditionalGeneration.from_pretrained(
            where, **arguments, tie_word_embeddings=tied, output_loading_info=True
        )
        model.config.text_config.tie_word_embeddings = tied
        return model, set(report["missing_keys"])

    model, missing = load(tied=False)
    if missing == {_HEAD}:
        model, missing = load(tied=True)
    if missing:
        raise FedummError(f"{where} lacks {len(missing)} of a Janus's weights, among them {min(missing)}.")
    return model


def _set_padding(tokenizer: Any, generation: Any, where: str) -> None:
    """The published tokenizer names no padding token, the settings for generation do."""
    pad = generation.pad_token_id
    if pad is None:
        pad = (getattr(generation, "generation_kwargs", None) or {}).get("pad_token_id")
    if pad is None or tokenizer.pad_token_id is not None:
        return
    if not 0 <= pad < len(tokenizer):
        raise FedummError(
            f"{where}: padding is token {pad} in generation_config.json, and the tokenizer has {len(tokenizer)}. "
            "The files are of different checkpoints."
        )
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad)


def _check_layout(folder: Path) -> None:
    """The first publication of Janus-Pro needs code that came with it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return  # loading will say what is wrong
    if isinstance(config, dict) and config.get("model_type") == "multi_modality":
        raise FedummError(old_layout(str(folder), NATIVE.get(f"deepseek-ai/{folder.name}", DEFAULT_MODEL)))


def _load_processor(where: str) -> Any:
    try:
        with _quiet_about_tokenizers():
            processor = JanusProcessor.from_pretrained(where)
    except AttributeError as error:
        raise FedummError(
            f"The tokenizer of {where} lacks Janus's special tokens (image_token, boi_token, eoi_token): {error}. "
            f"Take the tokenizer files of {DEFAULT_MODEL}."
        ) from error
    # The same pixels on every machine, whether or not torchvision is there.
    processor.image_processor = JanusImageProcessorPil.from_pretrained(where)
    return processor


@contextmanager
def _quiet_about_tokenizers() -> Iterator[None]:
    """Without the advice to edit ``tokenizer_config.json``.

    The published one names ``LlamaTokenizer`` for a tokenizer of another kind (bytes). ``transformers`` notices, takes
    the right class, and says at each load what its owner should write there.
    """
    speaker = python_logging.getLogger("transformers.models.auto.tokenization_auto")

    def other(record: python_logging.LogRecord) -> bool:
        return "is ByteLevel; loading" not in record.getMessage()

    speaker.addFilter(other)
    try:
        yield
    finally:
        speaker.removeFilter(other)


def _check_fit(config: Any, prompts: Prompts, where: str) -> None:
    tokens, context = prompts.image_tokens, config.text_config.max_position_embeddings
    if tokens != config.vision_config.num_image_tokens:
        raise FedummError(
            f"{where}: the processor makes {tokens} tokens of an image, the model "
            f"{config.vision_config.num_image_tokens}. The files are of different checkpoints."
        )
    if tokens >= context:
        raise FedummError(f"{where}: an image's {tokens} tokens do not fit the context of {context} tokens.")
    if prompts.image_id != config.image_token_id:
        raise FedummError(
            f"{where}: the token {prompts.image_token} has the id {prompts.image_id} in the tokenizer and "
            f"{config.image_token_id} in the model. The files are of different checkpoints."
        )
