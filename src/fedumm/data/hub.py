"""Data sets on the Hugging Face Hub, whole or only their first rows."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedumm.data.folder import EVAL_SPLITS, pick_split
from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.data.source import DataRequest, DataSplits
from fedumm.errors import FedummError

GONE = {"HuggingFaceM4/VQAv2": "It is a script, which 'datasets' no longer runs. Use --dataset vqav2."}


def load_hub(repo_id: str, request: DataRequest) -> DataSplits:
    """Training and evaluation split of one data set on the Hub.

    Raises:
        FedummError: it can't be had; the message says why and what else to do.
    """
    return DataSplits(
        load_split(repo_id, [request.train_split, "train"], request.max_train_samples, request.cache_dir),
        load_split(repo_id, [request.eval_split, *EVAL_SPLITS], request.max_eval_samples, request.cache_dir),
    )


def load_split(repo_id: str, splits: Sequence[str], limit: int, cache_dir: str) -> Any:
    """The first of ``splits`` that ``repo_id`` has, or its first ``limit`` rows.

    With a limit only these rows are read from the Hub; they are kept in the cache, so that the
    next run, or another host, does not ask again.
    """
    if repo_id in GONE:
        raise FedummError(f"--dataset {repo_id}: {GONE[repo_id]}")
    commit = check_reachable("dataset", repo_id)
    try:
        if limit != -1:
            return _first_rows(repo_id, splits, limit, cache_dir, commit)
        return _whole(repo_id, splits, cache_dir)
    except FedummError:
        raise
    except Exception as error:
        raise explain_hub_error("dataset", repo_id, error, cache_dir) from error


def _whole(repo_id: str, splits: Sequence[str], cache_dir: str) -> Any:
    from datasets import load_dataset, load_dataset_builder

    builder = load_dataset_builder(repo_id, cache_dir=cache_dir or None)
    there = list(builder.config.data_files or builder.info.splits or ())
    return load_dataset(repo_id, split=pick_split(there, splits, repo_id), cache_dir=cache_dir or None)


def _first_rows(repo_id: str, splits: Sequence[str], limit: int, cache_dir: str, commit: str | None) -> Any:
    from datasets import Dataset, config, load_from_disk

    cache = Path(cache_dir or config.HF_DATASETS_CACHE) / "fedumm"
    prefix = f"{repo_id.replace('/', '--')}-{'-'.join(dict.fromkeys(splits))}-first-{limit}-"
    if commit is None:
        kept = sorted(cache.glob(f"{prefix}*"), key=lambda path: path.stat().st_mtime)
        if not kept:
            raise FileNotFoundError(f"the first {limit} rows are not in the cache")
        return load_from_disk(str(kept[-1]))
    folder = cache / f"{prefix}{commit[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{folder.name}.lock"):
        if not folder.exists():
            features, rows = _stream(repo_id, splits, limit)
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=cache))
            try:
                Dataset.from_list(rows, features=features).save_to_disk(str(draft))
                draft.rename(folder)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return load_from_disk(str(folder))


def _stream(repo_id: str, splits: Sequence[str], limit: int) -> tuple[Any, list[dict[str, Any]]]:
    """Features and first rows; images stay as the bytes they are stored as."""
    from datasets import Image, load_dataset

    found = load_dataset(repo_id, streaming=True)
    rows = found[pick_split(list(found), splits, repo_id)]
    features = rows.features
    for name, feature in (features or {}).items():
        if isinstance(feature, Image):
            rows = rows.cast_column(name, Image(decode=False))
    return features, list(itertools.islice(rows, limit))
