"""What a backbone's frozen stages say about the images of its data sets, computed ahead."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import compress
from pathlib import Path
from typing import Any

from fedumm.backends.protocol import HasFrozenStages, Progress
from fedumm.config import RunConfig
from fedumm.features import cache
from fedumm.features.numbers import kept_as
from fedumm.features.options import CacheOptions, default_folder, is_named
from fedumm.features.report import CacheReport
from fedumm.training.backbone import Backbone


def cache_features(
    backbone: Backbone,
    datasets: Sequence[Any],
    config: RunConfig,
    progress: Progress,
    splits: Sequence[str] = (),
    passes: Sequence[float] = (),
) -> list[CacheReport]:
    """Compute the frozen stages' outputs ahead where backend and options allow.

    Args:
        splits: what each of ``datasets`` is called in messages.
        passes: how often the run needs each of them; empty: not known.
    """
    if config.feature_cache == "off" or not isinstance(backbone.backend, HasFrozenStages):
        return []
    reports: list[CacheReport] = []
    for stage in backbone.backend.frozen_stages(backbone.model, backbone.processor):
        parts = [dataset.part(stage.name) for dataset in datasets]
        taking = [part is not None for part in parts]
        used = sum(report.bytes for report in reports if report.kept == "memory")
        options = CacheOptions(
            mode=config.feature_cache,
            memory_bytes=int(config.feature_cache_gb * 1e9) - used,
            folder=Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder(),
            dtype=kept_as(config.feature_dtype, backbone.dtype, stage.module),
            named=is_named(config.feature_cache_dir),
            disk_bytes=int(config.feature_cache_disk_gb * 1e9),
            arithmetic=backbone.dtype,
            model=config.model_name_or_path,
            say=backbone.say,
        )
        given, names, often = (list(compress(every, taking)) for every in (parts, splits, passes))
        reports.append(cache.cache_features(stage, given, options, backbone.device, progress, names, often))
    return reports
