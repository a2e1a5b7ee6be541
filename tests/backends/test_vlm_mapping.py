"""Every class of ``AutoModelForImageTextToText`` that can be built without weights, by its signature."""

from __future__ import annotations

import inspect
import re
from contextlib import suppress
from typing import Any

import pytest
import torch
from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoModelForImageTextToText

from fedumm.backends.hf_vlm.anatomy import Anatomy
from fedumm.errors import FedummError

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SEEING = re.compile(r"\b(vision|visual|vit|image|img|siglip|clip)\w*", re.IGNORECASE)


def built() -> dict[str, Any]:
    """Those whose default configuration makes a model; the others need a package or settings."""
    made = {}
    for config in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        with suppress(Exception), torch.device("meta"):
            made[config.__name__] = AutoModelForImageTextToText.from_config(config())
    return made


def test_lora_lies_on_the_language_model_of_every_class() -> None:
    models, fast = built(), []
    assert len(models) >= 75
    for name, model in models.items():
        if model.config.is_encoder_decoder:
            continue
        chosen: list[str] = []
        with suppress(FedummError):  # refused: it has no language model of its own, or no attention that is known
            anatomy = Anatomy(model)
            chosen = anatomy.chosen("attention")
        if not chosen:
            continue
        within = [own.removeprefix(f"{anatomy.tower}.") for own in chosen]
        assert within, name
        assert not [own for own in within if SEEING.search(own)], name
        assert not {"gate", "router", "lm_head"} & {own.rsplit(".", 1)[-1] for own in within}, name
        expression = anatomy.expression(chosen)
        assert {own for own, _ in model.named_modules() if re.fullmatch(expression, own)} == {*chosen}, name
        accepted = {
            *inspect.signature(model.forward).parameters,
            *inspect.signature(model.base_model.forward).parameters,
        }
        if "mm_encoder_outputs" in accepted and hasattr(model.base_model, "get_image_features"):
            fast.append(name)
    assert len(fast) >= 60
