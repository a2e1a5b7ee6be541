"""What a run on kits of its own asks for, and what its sites therefore allow: that, and nothing else."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fedumm.config import FederateConfig
from fedumm.data.configurations import split_name
from fedumm.errors import FedummError
from fedumm.federation.assignment import client_names
from fedumm.federation.runners.flare.admission import BUNDLED_DATA, BUNDLED_MODEL, PARTS
from fedumm.federation.runners.flare.site_policy import MOST, is_hub_id
from fedumm.run_options import to_mapping
from fedumm.training.threads import thread_count

_HERE = "local-"
"""Begins what a job calls a folder of this machine: no name that anything else has."""


_OWN = f"{_HERE}own"
"""What a job calls the data of sites that each have their own."""


def job_of(config: FederateConfig) -> FederateConfig:
    """``config`` as its job asks for it: a folder of this machine by a name, as on real sites."""
    data = _OWN if config.client_data else _data(config)[0]
    model = _named(config.model_name_or_path)
    return replace(config, dataset=data, client_data="", model_name_or_path=model, name="", overwrite=False)


def site_policies(config: FederateConfig) -> dict[str, dict[str, Any]]:
    """What each site's ``local/fedumm.yaml`` says, so that the job of ``config`` is let in and no other data or model.

    A site that has data of its own (``--client_data``) is told where these lie; otherwise every site is told where the
    one data set lies that the job names, of which each takes its share.
    """
    data, folder = (_OWN, "") if config.client_data else _data(config)
    shared = _policy(config, data, folder)
    own = config.client_folders or dict.fromkeys(client_names(config.num_clients), folder)
    every = {site: shared | ({"datasets": {data: place}} if place else {}) for site, place in own.items()}
    return {site: {key: value for key, value in policy.items() if value} for site, policy in every.items()}


def _policy(config: FederateConfig, data: str, folder: str) -> dict[str, Any]:
    model = config.model_name_or_path
    named = _named(model)
    known = to_mapping(config)
    here = folder or data in (*BUNDLED_DATA, _OWN)
    where = "" if here else split_name(data or _backend(config).hf_dataset_name())[0]
    model_id = model or getattr(_backend(config), "default_model", "")
    return {
        "datasets": {} if is_hub_id(where) or not where else {where: where},
        "hub_datasets": [where] if is_hub_id(where) else [],
        "image_roots": list(config.image_roots),
        "models": {named: model} if named != model else {},
        "hub_models": [model_id] if named == model and model != BUNDLED_MODEL and is_hub_id(model_id) else [],
        # What this machine may do, its sites may.
        "allow_download": True,
        "allow_remote_images": config.allow_remote_images,
        "backends": [config.model_backend],
        "parts": sorted(_parts(config)),
        "partition_columns": [config.partition_by],
        "most": {name: known[name] for name, most in MOST.items() if known.get(name, 0) > most},
        "min_label_count": config.min_label_count,
        "threads": thread_count(config, config.num_clients),
        "num_workers": config.num_workers,
        "gpu": config.gpu,
        "answers": config.answers,
        "data_path": config.data_path,
        "feature_cache_dir": config.feature_cache_dir,
    }


def _backend(config: FederateConfig) -> Any:
    """Only for runs that leave names to it: to import one takes seconds."""
    from fedumm.backends.registry import backend_for

    return backend_for(config)


def _data(config: FederateConfig) -> tuple[str, str]:
    """What the job calls the data set, and the folder that it is; empty if it is none of this machine."""
    where, configuration = split_name(config.dataset)
    name = _named(where)
    if name == where:
        return config.dataset, ""
    if configuration:
        raise FedummError(
            f"--dataset {config.dataset}: a site can't be told of one configuration of a folder. Name the folder of "
            "that configuration."
        )
    return name, where


def _named(place: str) -> str:
    """What a job calls a model or a data set: a name stays, a folder gets one."""
    if not os.path.isabs(place):
        return place
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", os.path.basename(place.rstrip(os.sep)))
    return f"{_HERE}{slug[:60]}"


def _parts(config: FederateConfig) -> set[str]:
    """Aggregators, codecs and so on of installed packages that the run names."""
    values: Mapping[str, Any] = to_mapping(config)
    named = {(option, str(values[option]).partition(":")[0]) for option in PARTS}
    return {name for option, name in named if name and name not in PARTS[option].shipped and name != "own"}


def check_poc(config: FederateConfig) -> None:
    """Raise :class:`FedummError` for what makes no sense on sites of this machine."""
    if config.plugin:
        raise FedummError(
            "--plugin can't travel in a job: install what it registers as a package with an entry point in a group "
            "such as 'fedumm.backends' or 'fedumm.aggregators'. (--simulator takes plugins.)"
        )
    if config.hosts:
        raise FedummError("--hosts is for simulations: here every site has a process of its own.")
    if config.own_data and not config.client_data:
        raise FedummError(
            "--partition own is for sites that each have data of their own: say where they lie, with --client_data, or "
            "leave it out, and each takes its share of one data set."
        )
    if config.resume or config.resume_if_exists:
        raise FedummError("--resume and --resume_if_exists are for --simulator and --in_process.")
