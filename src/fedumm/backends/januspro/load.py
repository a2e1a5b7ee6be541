"""Loading a Janus in the layout of ``transformers``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from transformers import JanusForConditionalGeneration, JanusProcessor
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.utils import logging

from fedumm.backends.januspro.prompts import Prompts
from fedumm.checkpoints import NATIVE, old_layout, resolve_checkpoint
from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.errors import FedummError
from fedumm.libraries import likely_cause

DEFAULT_MODEL = "deepseek-community/Janus-Pro-1B"


def load_pretrained(
    model_name_or_path: str, device: torch.device
) -> tuple[JanusForConditionalGeneration, JanusProcessor]:
    """Model and processor from ``tiny``, a folder or the Hub; the default is Janus-Pro-1B.

    The model is float32 on a CPU, where bfloat16 can be far slower, else of the checkpoint's type.

    Raises:
        FedummError: no such folder or repository, the Hub is out of reach, not a Janus, in the layout of the
            ``janus`` package, without Janus's special tokens, or a context too short for an image.
    """
    logging.disable_progress_bar()  # one for a file that loads in seconds; downloads keep theirs
    where = resolve_checkpoint("januspro", model_name_or_path or DEFAULT_MODEL)
    local = Path(where).is_dir()
    if local:
        _check_layout(Path(where))
    else:
        check_reachable("model", where)
    try:
        processor = _load_processor(where)
        dtype = torch.float32 if device.type == "cpu" else "auto"
        model = JanusForConditionalGeneration.from_pretrained(where, dtype=dtype)
    except FedummError:
        raise
    except Exception as error:
        if local:
            raise FedummError(
                f"{where} does not hold a Janus in the layout of transformers: {error}{likely_cause()}"
            ) from error
        raise explain_hub_error("model", where, error, "") from error
    _check_fit(model.config, Prompts(processor), where)
    return model, processor


def _check_layout(folder: Path) -> None:
    """The first publication of Janus-Pro needs code that came with it."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return  # loading will say what is wrong
    if isinstance(config, dict) and config.get("model_type") == "multi_modality":
        raise FedummError(old_layout(str(folder), NATIVE.get(f"deepseek-ai/{folder.name}", DEFAULT_MODEL)))


def _load_processor(where: str) -> Any:
    try:
        processor = JanusProcessor.from_pretrained(where)
    except AttributeError as error:
        raise FedummError(
            f"The tokenizer of {where} lacks Janus's special tokens (image_token, boi_token, eoi_token): {error}. "
            f"Take the tokenizer files of {DEFAULT_MODEL}."
        ) from error
    # The same pixels on every machine, whether or not torchvision is there.
    processor.image_processor = JanusImageProcessorPil.from_pretrained(where)
    return processor


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
