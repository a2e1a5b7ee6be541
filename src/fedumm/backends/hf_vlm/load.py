"""Loading any image-text model of ``transformers``, and its processor without torchvision."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import transformers
from transformers import (
    PROCESSOR_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageTextToText,
    AutoTokenizer,
    GenerationConfig,
    ProcessorMixin,
)
from transformers.utils import logging

from fedumm.backends.hf_vlm.prompts import Prompts
from fedumm.backends.loading import explained
from fedumm.checkpoints import resolve_checkpoint
from fedumm.data.hub_access import check_reachable
from fedumm.errors import FedummError

DEFAULT_MODEL = "HuggingFaceTB/SmolVLM-256M-Instruct"
_NO_CODE = {"trust_remote_code": False}
"""Code that comes with a checkpoint is never run: left out, the library would ask at the terminal."""

_WHAT = "an image-text model that transformers can load"

_UNSEEN = ("video_processor", "feature_extractor")
"""Parts of a processor that are left out: those for films, which need torchvision, and for sounds."""


def load_model(model_name_or_path: str, **options: Any) -> Any:
    """A model of ``AutoModelForImageTextToText``, from a folder or the Hub.

    Args:
        options: of ``from_pretrained``, for instance ``dtype``.

    Raises:
        FedummError: no such folder or repository, the Hub is out of reach, not such a model, or weights are missing.
    """
    logging.disable_progress_bar()  # one for a file that loads in seconds; downloads keep theirs
    with explained(where := place(model_name_or_path), _WHAT):
        model, report = AutoModelForImageTextToText.from_pretrained(
            where, output_loading_info=True, **_NO_CODE, **options
        )
        if missing := sorted(report["missing_keys"]):
            raise FedummError(f"{where} lacks {len(missing)} of the model's weights, among them {missing[0]}.")
        _check_writes_on(model.config, where)
    return model


def _check_writes_on(config: Any, where: str) -> None:
    if config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        raise FedummError(
            f"{where} holds a {config.model_type!r} model with an encoder and a decoder: the backend hf_vlm takes "
            "models that write on after their prompt (decoders only)."
        )


def load_prompts(model_name_or_path: str) -> Prompts:
    """The model's processor, with its image processor for PIL and without what is for videos.

    Equal pixels on every machine, whether or not torchvision is there.

    Raises:
        FedummError: as :func:`load_model`, or there is no processor for images and text.
    """
    where = place(model_name_or_path)
    if not Path(where).is_dir():
        check_reachable("model", where)
    with explained(where, _WHAT):
        config = AutoConfig.from_pretrained(where, **_NO_CODE)
        _check_writes_on(config, where)
        settings, _ = ProcessorMixin.get_processor_dict(where)
        family = _family(config, settings)
        if family is None:
            raise FedummError(f"{where}: transformers has no processor of images and text for {config.model_type!r}.")
        processor = _built(family, settings, where)
        try:
            return Prompts(processor, _image_id(config, processor))
        except FedummError as error:
            if not Path(where).is_dir() or (Path(where) / "processor_config.json").is_file():
                raise
            hint = f"{where} has no processor_config.json: a newer copy of the model may have one."
            raise FedummError(f"{error} {hint}") from error


def _family(config: Any, settings: dict[str, Any]) -> type[ProcessorMixin] | None:
    """The class that the checkpoint names, if ``transformers`` has it; else that of the model's type."""
    named = getattr(transformers, str(settings.get("processor_class")), None)
    if isinstance(named, type) and issubclass(named, ProcessorMixin):
        return named
    found: type[ProcessorMixin] | None = PROCESSOR_MAPPING.get(type(config), None)
    return found


def _image_id(config: Any, processor: Any) -> int:
    """The token that stands for a part of an image; -1: the model sees images in another way."""
    for owner, name in ((config, "image_token_id"), (config, "image_token_index"), (processor, "image_token_id")):
        if isinstance(found := getattr(owner, name, None), int):
            return found
    token = str(getattr(processor, "image_token", ""))
    number = processor.tokenizer.convert_tokens_to_ids(token) if token else None
    return -1 if number is None or number == processor.tokenizer.unk_token_id else int(number)


def place(model_name_or_path: str) -> str:
    """The folder or Hub id that a name stands for."""
    return resolve_checkpoint("hf_vlm", model_name_or_path or DEFAULT_MODEL)


def _built(family: type[ProcessorMixin], settings: dict[str, Any], where: str) -> Any:
    seeing = _seeing(family)
    parts = {name: _part(name, where) for name in seeing.get_attributes()}
    known = inspect.signature(family.__init__).parameters.keys() - parts.keys()
    options = {name: value for name, value in settings.items() if name in known and name not in _UNSEEN}
    template = _template(settings, parts.get("tokenizer"))
    if "chat_template" in known:
        options["chat_template"] = template
    unseen = {name: _Absent() for name in _UNSEEN if name in inspect.signature(family.__init__).parameters}
    processor = seeing(**parts, **unseen, **options)
    # Some constructors swallow it.
    processor.chat_template = template
    return processor


class _Absent:
    """Stands for a part that was left out: few constructors ask it for a setting, which is None."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


class _Partial(ProcessorMixin):  # type: ignore[misc]
    """A processor that is content without what is in ``_UNSEEN``."""

    def __init__(self, *parts: Any, **named: Any) -> None:
        super().__init__(
            *(own for own in parts if not isinstance(own, _Absent)),
            **{name: own for name, own in named.items() if not isinstance(own, _Absent)},
        )
        for name in _UNSEEN:
            setattr(self, name, _Absent())


def _seeing(family: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """``family`` that does not ask for what is in ``_UNSEEN``."""

    class Seeing(family, _Partial):  # type: ignore[misc]
        @classmethod
        def get_attributes(cls) -> list[str]:
            return [name for name in super().get_attributes() if name not in _UNSEEN]

    Seeing.__name__ = Seeing.__qualname__ = family.__name__
    return Seeing


def _part(name: str, where: str) -> Any:
    if name.endswith("tokenizer"):
        made = AutoTokenizer.from_pretrained(where, **_NO_CODE, **({} if name == "tokenizer" else {"subfolder": name}))
        if made.pad_token is None:
            # Few processors pad even a single text, which does nothing.
            made.pad_token = made.eos_token
        return made
    return AutoImageProcessor.from_pretrained(where, backend="pil", **_NO_CODE)


def _template(settings: dict[str, Any], tokenizer: Any) -> str | None:
    """The chat template of the processor's files, or of the tokenizer's; of several the one called default."""
    for found in (settings.get("chat_template"), getattr(tokenizer, "chat_template", None)):
        if isinstance(found, dict):
            found = found.get("default")
        if found:
            return str(found)
    return None


def settle(model: Any, prompts: Prompts) -> list[int]:
    """Let ``model`` generate greedily, whatever its checkpoint says of sampling, penalties and lengths.

    Returns:
        The tokens that end an answer: of the chat template, and those that the checkpoint names.
    """
    own = model.generation_config.eos_token_id
    named = own if isinstance(own, list) else [] if own is None else [own]
    ends = list(dict.fromkeys([prompts.end_id, *named]))
    pad = prompts.tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=ends[0] if pad is None else pad,
        bos_token_id=prompts.tokenizer.bos_token_id,
    )  # fmt: skip
    return ends
