"""What a site lets a job do: its administrator's file ``local/fedumm.yaml``, and what holds where there is none."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig, option_types, read_yaml
from fedumm.errors import FedummError, did_you_mean
from fedumm.run_options import known_options
from fedumm.texts import one_line

FILE = "fedumm.yaml"
"""Its name in the site's folder ``local``, where FLARE's provisioning writes only ``*.default`` and ``*.sample``."""

MODES = ("off", "central", "local")
"""Of differential privacy, the weakest first."""

MOST: dict[str, float] = {
    "num_rounds": 10_000, "local_epochs": 100, "num_clients": 10_000, "batch_size": 1024, "grad_accum": 1024,
    "eval_batch_size": 4096, "lora_r": 1024, "max_q_len": 2048, "max_a_len": 2048, "num_workers": 8, "threads": 256,
    "geneval_prompts": 1000, "feature_cache_gb": 16,
}  # fmt: skip
"""The highest values that a job may ask for where the policy names no others: what no honest job reaches."""

Check = Callable[[Any], str | None]


def _list_of(good: Callable[[str], bool], what: str) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, list) and all(isinstance(entry, str) and good(entry) for entry in value)
        return None if fits else f"must be a list of {what}"

    return check


def _is_root(text: str) -> bool:
    return os.path.isabs(text) and os.pathsep not in text


def _is_place(text: Any) -> bool:
    """A full path, or a word: the name of a source."""
    return isinstance(text, str) and (os.path.isabs(text) or ("/" not in text and text[:1] not in ("", ".", "~")))


def _places(value: Any) -> str | None:
    fits = isinstance(value, dict) and all(isinstance(n, str) and n and _is_place(p) for n, p in value.items())
    return None if fits else "must be lines of the form 'name: full path'"


def _folder(value: Any) -> str | None:
    return None if value == "" or (isinstance(value, str) and os.path.isabs(value)) else "must be a full path"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a text in quotes"


def _count(value: Any) -> str | None:
    return None if type(value) is int and 0 <= value < 2**31 else "must be a whole number, 0 or more"


def _number(value: Any) -> str | None:
    return None if type(value) in (int, float) and 0 <= value < 1e12 else "must be a number, 0 or more"


def _mode(value: Any) -> str | None:
    return None if value in MODES else f"must be one of {', '.join(MODES)}"


def _most(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be lines of the form 'option: number'"
    for name, most in value.items():
        if name not in _numeric():
            hint = did_you_mean(str(name), _numeric())
            return f"must name options with a number, and {one_line(name, 60)!r} is none{hint}"
        if problem := _number(most):
            return f"({name}) {problem}"
    return None


def _numeric() -> list[str]:
    return [name for name, f in known_options(FederateConfig).items() if option_types(f)[0] in (int, float)]


def is_hub_id(name: str) -> bool:
    """Whether ``name`` is of the form ``OWNER/NAME``, or the one set that stands for two of them."""
    return name == "vqav2" or (name.count("/") == 1 and name[:1] not in (".", "/", "~"))


_NAMES = {"check": _list_of(bool, "names")}
_HUB_IDS = {"check": _list_of(is_hub_id, "names on the Hub: OWNER/NAME")}
_ROOTS = {"check": _list_of(_is_root, f"full paths without {os.pathsep!r}")}


@dataclass(frozen=True, kw_only=True)
class SitePolicy:
    """What ``local/fedumm.yaml`` can say; the defaults are what holds without it.

    Attributes:
        datasets: what a job calls a data set, and the folder on this site that it is (or the name of a source that an
            installed package registers).
        data_roots: folders below which a job may name a data set by its full path.
        hub_datasets: data sets on the Hugging Face Hub that a job may use: ``OWNER/NAME``, or ``vqav2``.
        image_roots: folders that images may lie in, besides the data's own.
        models: what a job calls a model, and the folder on this site that it is.
        hub_models: models on the Hub that a job may use.
        allow_download: whether what the two lists name may be downloaded; otherwise it is taken from the cache.
        allow_remote_images: whether images and data files that a data set names by an address may be fetched.
        backends: backends that a job may use.
        parts: aggregators, codecs, partitioners and metrics of installed packages that a job may use.
        partition_columns: columns that a job may split the data by.
        most: the highest value that a job may ask for, by option; :data:`MOST` where it says nothing.
        min_label_count: lowest ``--min_label_count`` that is applied.
        min_train_rows: lowest ``--min_train_rows`` that is applied.
        label_counts: whether the server may be told of answers' counts (by rank, never by text).
        dp_required: weakest mode of differential privacy: ``off``, ``central`` or ``local``.
        min_noise_multiplier: least noise, in units of ``--dp_clip``.
        max_epsilon: highest epsilon after all rounds; 0: any.
        secure_aggregation_required: whether the server may have a sum of updates only (``--secure_aggregation``).
        max_delta: highest ``--dp_delta`` where the three before ask for privacy.
        threads, num_workers, gpu: this site's own values; None: the job's.
        answers: this site's own file of known answers (``--answers``).
        data_path, feature_cache_dir: this site's own folders for what the libraries download and for features.
    """

    datasets: dict[str, str] = field(default_factory=dict, metadata={"check": _places})
    data_roots: list[str] = field(default_factory=list, metadata=_ROOTS)
    hub_datasets: list[str] = field(default_factory=list, metadata=_HUB_IDS)
    image_roots: list[str] = field(default_factory=list, metadata=_ROOTS)
    models: dict[str, str] = field(default_factory=dict, metadata={"check": _places})
    hub_models: list[str] = field(default_factory=list, metadata=_HUB_IDS)
    allow_download: bool = field(default=False, metadata={"check": _flag})
    allow_remote_images: bool = field(default=False, metadata={"check": _flag})
    backends: list[str] = field(default_factory=lambda: ["blip_vqa", "januspro"], metadata=_NAMES)
    parts: list[str] = field(default_factory=list, metadata=_NAMES)
    partition_columns: list[str] = field(default_factory=lambda: ["answer", "answer_type"], metadata=_NAMES)
    most: dict[str, float] = field(default_factory=dict, metadata={"check": _most})
    min_label_count: int = field(default=5, metadata={"check": _count})
    min_train_rows: int = field(default=0, metadata={"check": _count})
    label_counts: bool = field(default=True, metadata={"check": _flag})
    dp_required: str = field(default=MODES[0], metadata={"check": _mode})
    min_noise_multiplier: float = field(default=0.0, metadata={"check": _number})
    max_epsilon: float = field(default=0.0, metadata={"check": _number})
    secure_aggregation_required: bool = field(default=False, metadata={"check": _flag})
    max_delta: float = field(default=1e-5, metadata={"check": _number})
    threads: int | None = field(default=None, metadata={"check": _count})
    num_workers: int | None = field(default=None, metadata={"check": _count})
    gpu: str | None = field(default=None, metadata={"check": _text})
    answers: str = field(default="", metadata={"check": _folder})
    data_path: str = field(default="", metadata={"check": _folder})
    feature_cache_dir: str = field(default="", metadata={"check": _folder})

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            unset = value is None and f.default is None
            if not unset and (problem := f.metadata["check"](value)):
                raise FedummError(f"{f.name} {problem}, not {one_line(repr(value), 100)}.")


def read_policy(folder: str | Path) -> SitePolicy:
    """That of the site whose folder ``local`` is ``folder``; the defaults where it has none.

    Raises:
        FedummError: there is one, and it can't be read or does not say what it means. No job may run then.
    """
    path = Path(folder) / FILE
    if not os.path.lexists(path):
        return SitePolicy()
    known = [f.name for f in fields(SitePolicy)]
    try:
        content = read_yaml(path)
        for key in content:
            if key not in known:
                raise FedummError(f"there is no key {one_line(key, 60)!r}.{did_you_mean(str(key), known)}")
        if content.get("dp_required") is False:  # what YAML reads a bare off as
            content["dp_required"] = MODES[0]
        return SitePolicy(**content)
    except FedummError as error:
        raise FedummError(f"This site's policy local/{FILE} is invalid, so this site accepts no job: {error}") from None
