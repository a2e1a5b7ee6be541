"""What a site lets a job do: its administrator's file ``local/fedumm.yaml``, and what holds where there is none.

A job is options that somebody else has chosen. Names in it (of a data set, of a model) mean what this site says they
mean; numbers keep to this site's bounds; places on this machine are this site's alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig, field_type, from_mapping, read_yaml
from fedumm.errors import FedummError, did_you_mean, shown

FILE = "fedumm.yaml"
"""Its name in the site's folder ``local``, where FLARE's provisioning writes only ``*.default`` and ``*.sample``."""

MOST: dict[str, float] = {
    "num_rounds": 10_000, "local_epochs": 100, "num_clients": 10_000, "batch_size": 1024, "grad_accum": 1024,
    "eval_batch_size": 4096, "lora_r": 1024, "max_q_len": 2048, "max_a_len": 2048, "num_workers": 8, "threads": 256,
    "geneval_prompts": 1000, "feature_cache_gb": 16,
}  # fmt: skip
"""The highest values that a job may ask for where the policy names no others: what no honest job reaches."""

BUNDLED_DATA = ("easy_vqa", "shapes")
BUNDLED_MODEL = "tiny"
_DP = ("off", "central", "local")
_OF_THE_SITE = ("data_path", "feature_cache_dir", "image_root")
"""Options that name places on a machine: a job must not have them."""

Check = Callable[[Any], str | None]


def _names(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
    return None if good else "must be a list of names"


def _folders(value: Any) -> str | None:
    good = isinstance(value, list) and all(isinstance(name, str) and os.path.isabs(name) for name in value)
    return None if good else "must be a list of full paths"


def _folder(value: Any) -> str | None:
    good = isinstance(value, str) and (not value or os.path.isabs(value))
    return None if good else "must be a full path"


def _places(value: Any) -> str | None:
    good = isinstance(value, dict) and all(
        isinstance(name, str)
        and name
        and isinstance(place, str)
        and place
        and (os.path.isabs(place) or "/" not in place)
        for name, place in value.items()
    )
    return None if good else "must be lines of the form 'name: full path'"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "must be true or false"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) else "must be a text in quotes"


def _count(value: Any) -> str | None:
    return None if type(value) is int and 0 <= value < 2**31 else "must be a whole number, 0 or more"


def _number(value: Any) -> str | None:
    return None if type(value) in (int, float) and 0 <= value < 1e9 else "must be a number, 0 or more"


def _mode(value: Any) -> str | None:
    # YAML reads a bare off as false.
    return None if value in _DP or value is False else f"must be one of {', '.join(_DP)}"


def _most(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "must be lines of the form 'option: number'"
    for name, most in value.items():
        if not isinstance(name, str) or name not in _numeric():
            return (
                f"names {shown(name, 60)!r}, which is no option with a number.{did_you_mean(str(name), _numeric())} It"
            )
        if (problem := _number(most)) is not None:
            return f"({name}) {problem}"
    return None


def _numeric() -> list[str]:
    kinds = {int, float, int | str}
    return [f.name for f in fields(FederateConfig) if field_type(FederateConfig, f.name) in kinds]


def _key(check: Check, default: Any = None, factory: Callable[[], Any] | None = None) -> Any:
    if factory is None:
        return field(default=default, metadata={"check": check})
    return field(default_factory=factory, metadata={"check": check})


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
        partition_columns: columns that a job may split the data by.
        most: the highest value that a job may ask for, by option; :data:`MOST` where it says nothing.
        min_label_count: lowest ``--min_label_count`` that is applied.
        label_counts: whether the server may be told of answers' counts (by rank, never by text).
        dp_required: weakest mode of differential privacy: ``off``, ``central`` or ``local``.
        min_noise_multiplier: least noise, in units of ``--dp_clip``.
        max_epsilon: highest epsilon after all rounds; 0: any.
        max_delta: highest ``--dp_delta`` where the three before ask for privacy.
        threads, num_workers, gpu: this site's own values; None: the job's.
        data_path, feature_cache_dir: this site's own folders for what the libraries download and for features.
    """

    datasets: dict[str, str] = _key(_places, factory=dict)
    data_roots: list[str] = _key(_folders, factory=list)
    hub_datasets: list[str] = _key(_names, factory=list)
    image_roots: list[str] = _key(_folders, factory=list)
    models: dict[str, str] = _key(_places, factory=dict)
    hub_models: list[str] = _key(_names, factory=list)
    allow_download: bool = _key(_flag, False)
    allow_remote_images: bool = _key(_flag, False)
    backends: list[str] = _key(_names, factory=lambda: ["blip_vqa", "januspro"])
    partition_columns: list[str] = _key(_names, factory=lambda: ["answer", "answer_type"])
    most: dict[str, float] = _key(_most, factory=dict)
    min_label_count: int = _key(_count, 5)
    label_counts: bool = _key(_flag, True)
    dp_required: str = _key(_mode, "off")
    min_noise_multiplier: float = _key(_number, 0.0)
    max_epsilon: float = _key(_number, 0.0)
    max_delta: float = _key(_number, 1e-5)
    threads: int | None = _key(_count)
    num_workers: int | None = _key(_count)
    gpu: str | None = _key(_text)
    data_path: str = _key(_folder, "")
    feature_cache_dir: str = _key(_folder, "")

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is None and f.default is None:
                continue
            if problem := f.metadata["check"](value):
                raise FedummError(f"{f.name} {problem}, not {shown(repr(value), 100)}.")


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
                raise FedummError(f"there is no key {shown(key, 60)!r}.{did_you_mean(str(key), known)}")
        return SitePolicy(**content)
    except FedummError as error:
        raise FedummError(f"This site's policy local/{FILE} is no good, so it takes no job: {error}") from None


def site_config(run_config: Mapping[str, Any], folder: str | Path) -> FederateConfig:
    """The options of a job as the site whose folder ``local`` is ``folder`` carries them out.

    Where it allows no download, the Hugging Face libraries of this process and of its children take what they have.

    Raises:
        FedummError: the site does not let the job do what it asks for.
    """
    policy = read_policy(folder)
    config = admitted(run_config, policy)
    if not policy.allow_download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return config


def admitted(run_config: Mapping[str, Any], policy: SitePolicy) -> FederateConfig:
    """The options of a job with this site's own values in them, if ``policy`` allows what it asks for.

    Raises:
        FedummError: it does not; the message holds the line that would allow it, and nothing else of the policy.
    """
    config = from_mapping(FederateConfig, run_config, "the job")
    _check_places(config, policy)
    _check_numbers(config, policy)
    _check_privacy(config, policy)
    columns = policy.partition_columns
    if config.partition_by not in columns:
        raise _refusal(f"--partition_by {shown(config.partition_by, 60)}", "partition_columns", config.partition_by)
    own = {name: value for name in ("threads", "num_workers", "gpu") if (value := getattr(policy, name)) is not None}
    return replace(
        config,
        dataset=_dataset(config, policy),
        model_name_or_path=_model(config, policy),
        data_path=policy.data_path,
        feature_cache_dir=policy.feature_cache_dir,
        image_root=os.pathsep.join(policy.image_roots),
        label_counts="ranks" if policy.label_counts and config.label_counts != "none" else "none",
        min_label_count=max(config.min_label_count, policy.min_label_count),
        **own,
    )


def _refusal(what: str, key: str, value: str) -> FedummError:
    return FedummError(f"This site does not allow {what}. Its administrator can, in local/{FILE}: {_line(key, value)}")


def _line(key: str, value: str) -> str:
    return f"{key}: [{shown(value, 100)}]"


def _check_places(config: FederateConfig, policy: SitePolicy) -> None:
    if config.backend_file:
        raise FedummError("A job brings no code: --backend_file is for runs on one machine.")
    for name in _OF_THE_SITE:
        if getattr(config, name):
            raise FedummError(
                f"--{name} is a folder of another machine: leave it out of the job. Sites have their own."
            )
    if config.allow_remote_images and not policy.allow_remote_images:
        raise FedummError(
            "This site does not allow --allow_remote_images. Its administrator can, in "
            f"local/{FILE}: allow_remote_images: true"
        )
    if config.model_backend not in policy.backends:
        raise _refusal(f"the backend {shown(config.model_backend, 60)}", "backends", config.model_backend)


def _check_numbers(config: FederateConfig, policy: SitePolicy) -> None:
    for name, most in {**MOST, **policy.most}.items():
        asked = {"lora_r": config.ranks.highest, "lora_alpha": config.alphas.highest}.get(name, getattr(config, name))
        # Of samples -1 are all.
        if asked > most or (asked == -1 and name in ("max_train_samples", "max_eval_samples")):
            raise FedummError(
                f"This site does not allow --{name} {asked}: at most {most:g}. Its administrator can, in "
                f"local/{FILE}, below 'most:', {name}: {asked}"
            )


def _check_privacy(config: FederateConfig, policy: SitePolicy) -> None:
    least = _DP[0] if policy.dp_required is False else policy.dp_required
    floor = max(_DP.index(least), int(policy.min_noise_multiplier > 0 or policy.max_epsilon > 0))
    if _DP.index(config.dp) < floor:
        raise FedummError(f"This site takes part with differential privacy only: --dp {' or '.join(_DP[floor:])}.")
    if not floor:
        return
    from fedumm.privacy.plan import plan_for

    plan = plan_for(config, linear=True)
    assert plan is not None
    if plan.noise_multiplier < policy.min_noise_multiplier:
        raise FedummError(
            f"This site wants more noise: a --dp_noise_multiplier of {policy.min_noise_multiplier:g} or more, not "
            f"{plan.noise_multiplier:.4g}."
        )
    if config.dp_delta > policy.max_delta:
        raise FedummError(f"This site wants a --dp_delta of {policy.max_delta:g} or less, not {config.dp_delta:g}.")
    epsilon = plan.accountant.epsilon(config.num_rounds) if policy.max_epsilon else 0.0
    if epsilon > policy.max_epsilon:
        raise FedummError(
            f"This site wants an epsilon of {policy.max_epsilon:g} or less after all rounds, not {epsilon:.4g}."
        )


def _dataset(config: FederateConfig, policy: SitePolicy) -> str:
    name = config.dataset or _backend(config).hf_dataset_name()
    if place := policy.datasets.get(name):
        return place
    if name in BUNDLED_DATA or name in policy.hub_datasets:
        return name
    if os.path.isabs(name):
        real = os.path.realpath(name)
        if any(real.startswith(os.path.join(os.path.realpath(root), "")) for root in policy.data_roots):
            return real
    what = f"the data set {shown(name, 100)}"
    if name == "vqav2" or (name.count("/") == 1 and not os.path.isabs(name)):
        raise _hub_refusal(what, "hub_datasets", name, policy)
    raise FedummError(
        f"This site does not have {what}. Its administrator says which one is meant, in local/{FILE}, below "
        f"'datasets:', {shown(name, 100)}: /its/folder/on/this/site"
    )


def _model(config: FederateConfig, policy: SitePolicy) -> str:
    given = config.model_name_or_path
    name = given or getattr(_backend(config), "default_model", "")
    if place := policy.models.get(name):
        return place
    if name in ("", BUNDLED_MODEL) or name in policy.hub_models:
        return given
    raise _hub_refusal(f"the model {shown(name, 100)}", "hub_models", name, policy)


def _hub_refusal(what: str, key: str, name: str, policy: SitePolicy) -> FedummError:
    download = "" if policy.allow_download else ", and to download it: allow_download: true"
    return FedummError(f"{_refusal(what, key, name)}{download}")


def _backend(config: FederateConfig) -> Any:
    """Only for jobs that leave names to it: to import one takes seconds."""
    from fedumm.backends.registry import backend_for

    return backend_for(config)
