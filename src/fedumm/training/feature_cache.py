"""What a backbone's frozen stages say about the images of its data sets, computed ahead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from fedumm.backends.protocol import HasFrozenStages, Progress
from fedumm.config import RunConfig
from fedumm.features import cache
from fedumm.features.options import CacheOptions, default_folder, is_named
from fedumm.features.report import CacheReport
from fedumm.training.backbone import Backbone


def cache_features(
    backbone: Backbone, datasets: Sequence[Any], config: RunConfig, progress: Progress, splits: Sequence[str] = ()
) -> list[CacheReport]:
    """Compute the frozen stages' outputs ahead where backend and options allow.

    Args:
        splits: what each of ``datasets`` is called in messages.
    """
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStages):
        return []
    reports: list[CacheReport] = []
    for stage in backbone.backend.frozen_stages(backbone.model, backbone.processor):
        named = zip(datasets, splits or [""] * len(datasets), strict=True)
        parts = [(part, split) for dataset, split in named if (part := dataset.part(stage.name)) is not None]
        used = sum(report.bytes for report in reports if report.kept == "memory")
        options = CacheOptions(
            mode=config.feature_cache,
            memory_bytes=int(config.feature_cache_gb * 1e9) - used,
            folder=Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder(),
            dtype=getattr(torch, config.feature_dtype),
            named=is_named(config.feature_cache_dir),
        )
        given, names = [part for part, _ in parts], [split for _, split in parts if split]
        reports.append(cache.cache_features(stage, given, options, backbone.device, progress, names))
    return reports
