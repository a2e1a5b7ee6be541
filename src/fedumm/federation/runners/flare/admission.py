"""A job at a site: refused, or its options with this site's own values in them.

A job is options that somebody else has chosen. Names in it (of a data set, of a model) mean what this site says they
mean; numbers keep to this site's bounds; places on this machine are this site's alone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedumm.aggregation.registry import aggregators
from fedumm.compression.registry import CODECS
from fedumm.config import FederateConfig
from fedumm.data.configurations import split_name
from fedumm.data.partition.registry import PARTITIONERS
from fedumm.errors import FedummError, PublicError
from fedumm.federation.runners.flare.job_options import config_of_job, mapping_of_job
from fedumm.federation.runners.flare.site_policy import FILE, MODES, MOST, SitePolicy, is_hub_id, read_policy
from fedumm.metrics.registry import METRICS
from fedumm.registry import Registry
from fedumm.run_options import from_mapping, to_mapping
from fedumm.texts import one_line

BUNDLED_DATA = ("easy_vqa", "shapes")
BUNDLED_MODEL = "tiny"
_OF_THE_SITE = ("data_path", "feature_cache_dir", "image_root", "answers")
"""Options that name places on a machine: a job must not have them."""

PARTS: dict[str, Registry[Any]] = {
    "aggregator": aggregators, "partition": PARTITIONERS, "answer_metric": METRICS,
    "wire": CODECS, "wire_up": CODECS, "wire_down": CODECS,
}  # fmt: skip
"""Options whose names can be those of installed packages' entry points. A backend's has a key of its own."""


def site_config(run_config: Any, folder: str | Path) -> FederateConfig:
    """The options of a job as the site whose folder ``local`` is ``folder`` carries them out.

    Where it allows no download, the Hugging Face libraries of this process and of its children take what they have.

    Raises:
        PublicError: the site does not let the job do what it asks for.
        FedummError: its own file can't be understood, or the job holds what no exported job does.
    """
    policy = read_policy(folder)
    config = admitted(mapping_of_job(run_config), policy)
    config_of_job(run_config)
    if not policy.allow_download:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return config


def admitted(run_config: Mapping[str, Any], policy: SitePolicy) -> FederateConfig:
    """The options of a job with this site's own values in them, if ``policy`` allows what it asks for.

    Raises:
        PublicError: it does not; the message holds the line that would allow it, and nothing else of the policy.
    """
    # First: what follows imports what the names stand for.
    _check_parts(run_config, policy)
    try:
        config = from_mapping(FederateConfig, run_config, "the job")
    except FedummError as error:  # it quotes the job alone
        raise PublicError(str(error)) from error
    _check_places(config, policy)
    _check_numbers(config, policy)
    _check_privacy(config, policy)
    columns = policy.partition_columns
    if config.partition_by not in columns:
        raise _refusal(f"--partition_by {one_line(config.partition_by, 60)}", "partition_columns", config.partition_by)
    own = {name: value for name in ("threads", "num_workers", "gpu") if (value := getattr(policy, name)) is not None}
    return replace(
        config,
        dataset=_dataset(config, policy),
        model_name_or_path=_model(config, policy),
        data_path=policy.data_path,
        feature_cache_dir=policy.feature_cache_dir,
        image_root=os.pathsep.join(policy.image_roots),
        answers=policy.answers,
        label_counts="ranks" if policy.label_counts and config.label_counts != "none" else "none",
        min_label_count=max(config.min_label_count, policy.min_label_count),
        min_train_rows=max(config.min_train_rows, policy.min_train_rows),
        **own,
    )


def _refusal(what: str, key: str, value: str) -> PublicError:
    return PublicError(
        f"This site does not allow {what}. Its administrator can, in local/{FILE}: {key}: [{one_line(value, 100)}]"
    )


def _check_parts(run_config: Mapping[str, Any], policy: SitePolicy) -> None:
    """By names alone: to import an installed package is to run its code."""
    for option, registry in PARTS.items():
        # A number is taken for a name, too.
        name = str(run_config.get(option, ""))
        if option == "partition":
            name = name.partition(":")[0]
        if name and name not in {*registry.shipped, *policy.parts} and (option, name) != ("partition", "own"):
            raise _refusal(f"the {registry.kind} {one_line(name, 60)} (--{option})", "parts", name)


def _check_places(config: FederateConfig, policy: SitePolicy) -> None:
    if config.plugin:
        raise PublicError("A job brings no code: --plugin is for runs on one machine.")
    for name in _OF_THE_SITE:
        if getattr(config, name):
            raise PublicError(f"--{name} is a path of another machine: a job must not have it, sites have their own.")
    if config.allow_remote_images and not policy.allow_remote_images:
        raise PublicError(
            "This site does not allow --allow_remote_images. Its administrator can, in "
            f"local/{FILE}: allow_remote_images: true"
        )
    if config.model_backend not in policy.backends:
        raise _refusal(f"the backend {one_line(config.model_backend, 60)}", "backends", config.model_backend)


def _check_numbers(config: FederateConfig, policy: SitePolicy) -> None:
    values = {**to_mapping(config), "lora_r": config.ranks.highest, "lora_alpha": config.alphas.highest}
    for name, most in {**MOST, **policy.most}.items():
        # An option of another aggregator than the job's is not there.
        asked = values.get(name, 0)
        # Of samples -1 are all.
        if asked > most or (asked == -1 and name in ("max_train_samples", "max_eval_samples")):
            raise PublicError(
                f"This site does not allow --{name} {asked}: at most {most:g}. Its administrator can, in "
                f"local/{FILE}, below 'most:', {name}: {asked}"
            )


def _check_privacy(config: FederateConfig, policy: SitePolicy) -> None:
    if policy.secure_aggregation_required and not config.secure_aggregation:
        raise PublicError("This site takes part only where the server gets sums of updates: --secure_aggregation.")
    floor = max(MODES.index(policy.dp_required), int(policy.min_noise_multiplier > 0 or policy.max_epsilon > 0))
    if MODES.index(config.dp) < floor:
        raise PublicError(f"This site takes part with differential privacy only: --dp {' or '.join(MODES[floor:])}.")
    if not floor:
        return
    from fedumm.privacy.plan import plan_for

    plan = plan_for(config, linear=True)
    assert plan is not None
    if plan.noise_multiplier < policy.min_noise_multiplier:
        raise PublicError(
            f"This site wants more noise: a --dp_noise_multiplier of {policy.min_noise_multiplier:g} or more, not "
            f"{plan.noise_multiplier:.4g}."
        )
    if config.dp_delta > policy.max_delta:
        raise PublicError(f"This site wants a --dp_delta of {policy.max_delta:g} or less, not {config.dp_delta:g}.")
    epsilon = plan.accountant.epsilon(config.num_rounds) if policy.max_epsilon else 0.0
    if epsilon > policy.max_epsilon:
        raise PublicError(
            f"This site wants an epsilon of {policy.max_epsilon:g} or less after all rounds, not {epsilon:.4g}."
        )


def _dataset(config: FederateConfig, policy: SitePolicy) -> str:
    name = config.dataset or _backend(config).hf_dataset_name()
    if place := policy.datasets.get(name):
        return _there(place, "datasets", name)
    where, configuration = split_name(name)
    if name in BUNDLED_DATA or where in policy.hub_datasets:
        return name
    if os.path.isabs(where):
        real = os.path.realpath(where)
        if any(os.path.join(real, "").startswith(os.path.join(os.path.realpath(r), "")) for r in policy.data_roots):
            return f"{real}:{configuration}" if configuration else real
    raise _unknown("data set", "datasets", name, policy)


def _model(config: FederateConfig, policy: SitePolicy) -> str:
    given = config.model_name_or_path
    name = given or getattr(_backend(config), "default_model", "")
    if place := policy.models.get(name):
        return _there(place, "models", name)
    if name in ("", BUNDLED_MODEL) or name in policy.hub_models:
        return given
    raise _unknown("model", "models", name, policy)


def _there(place: str, key: str, name: str) -> str:
    if os.path.isabs(place) and not os.path.exists(place):
        # Where it should be is nobody else's business.
        raise PublicError(f"What this site's local/{FILE} calls {one_line(name, 100)}, below '{key}:', is not there.")
    return place


def _unknown(kind: str, key: str, name: str, policy: SitePolicy) -> PublicError:
    said = one_line(name, 100)
    if is_hub_id(name):
        download = "" if policy.allow_download else ", and to download it: allow_download: true"
        return PublicError(f"{_refusal(f'the {kind} {said}', f'hub_{key}', name)}{download}")
    return PublicError(
        f"This site does not have the {kind} {said}. Its administrator says which one is meant, in local/{FILE}, below "
        f"'{key}:', {said}: /its/folder/on/this/site"
    )


def _backend(config: FederateConfig) -> Any:
    """Only for jobs that leave names to it: to import one takes seconds."""
    from fedumm.backends.registry import backend_for

    return backend_for(config)
