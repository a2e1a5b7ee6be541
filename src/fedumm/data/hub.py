"""Data sets on the Hugging Face Hub: one split, whole or only its first rows.

What was read is kept as Arrow files in ``CACHE/fedumm/OWNER--NAME-SPLIT-(N|all)-COMMIT``, so that
the next run, or another host, reads it from there, with or without a connection.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.data.places import Places, check_card, check_files
from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.splits import EVAL_SPLITS, SplitPart, pick_split
from fedumm.errors import FedummError

GONE = {"HuggingFaceM4/VQAv2": "It is a script, which 'datasets' no longer runs. Use --dataset vqav2."}


def load_hub(repo_id: str, request: DataRequest) -> DataSplits:
    """Training and evaluation split of one data set on the Hub.

    Raises:
        FedummError: it can't be had; the message says why and what else to do.
    """

    def part(split: str, others: Sequence[str], limit: int) -> Any:
        wanted = SplitPart.parse(split)
        rows = load_split(repo_id, [wanted.name, *others], wanted.rows_to_read(limit), request)
        return wanted.of(rows, limit)

    return DataSplits(
        part(request.train_split, ["train"], request.max_train_samples),
        part(request.eval_split, EVAL_SPLITS, request.max_eval_samples),
    )


def load_split(repo_id: str, splits: Sequence[str], limit: int, request: DataRequest) -> Any:
    """The first of ``splits`` that ``repo_id`` has: all of it, or at least its first ``limit`` rows.

    With a limit only these rows are read from the Hub, without one only this split's files.

    Raises:
        FedummError: there is no such data set or split, or it is neither in reach nor in the cache.
    """
    if repo_id in GONE:
        raise FedummError(f"--dataset {repo_id}: {GONE[repo_id]}")
    commit = check_reachable("dataset", repo_id)
    try:
        return _load(repo_id, splits, limit, request, commit)
    except FedummError:
        raise
    except Exception as error:
        raise explain_hub_error("dataset", repo_id, error, request.cache_dir) from error


def hub_places(repositories: Sequence[str], request: DataRequest) -> Places:
    """Where files of data sets on the Hub may lie: in their repositories, and in the caches of the libraries."""
    from datasets import config
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    downloads = Path(request.cache_dir, "downloads") if request.cache_dir else Path(config.DOWNLOADED_DATASETS_PATH)
    kept = [Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=name, repo_type="dataset")) for name in repositories]
    own = [f"hf://datasets/{name}{end}" for name in repositories for end in "@/"]
    own += [f"{constants.ENDPOINT}/datasets/{name}/resolve/" for name in repositories]
    return request.places(caches=(downloads.expanduser() / "extracted", *kept), own=tuple(own))


def check_split(repo_id: str, cache_dir: str) -> None:
    """Raise :class:`FedummError` if a data set is neither in reach nor in the cache. Nothing is downloaded.

    A split that the cache lacks of a data set that it holds is found out later, by :func:`load_split`.
    """
    from datasets import config

    if repo_id in GONE:
        raise FedummError(f"--dataset {repo_id}: {GONE[repo_id]}")
    if check_reachable("dataset", repo_id) is not None:
        return
    cache = Path(cache_dir or config.HF_DATASETS_CACHE).expanduser()
    ours, theirs = f"{repo_id.replace('/', '--')}-", repo_id.replace("/", "___").lower()
    if not list((cache / "fedumm").glob(f"{ours}*")) and not any(
        path.name.lower() == theirs for path in cache.glob("*___*")
    ):
        raise explain_hub_error("dataset", repo_id, FileNotFoundError(repo_id), cache_dir)


def _load(repo_id: str, splits: Sequence[str], limit: int, request: DataRequest, commit: str | None) -> Any:
    from datasets import config

    cache = Path(request.cache_dir or config.HF_DATASETS_CACHE).expanduser() / "fedumm"
    name = f"{repo_id.replace('/', '--')}-{'-'.join(dict.fromkeys(splits))}"
    version = commit[:12] if commit else "*"
    if kept := _kept(cache, name, limit, version):
        return _open(kept)
    if commit is None:
        return _cached_by_datasets(repo_id, splits, request.cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        kept = _kept(cache, name, limit, version)  # by another process meanwhile
        if kept is None:
            kept = cache / f"{name}-{'all' if limit == -1 else limit}-{version}"
            draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=cache))
            try:
                (_whole if limit == -1 else _first_rows)(repo_id, splits, limit, request, commit, draft / "rows")
                (draft / "rows").rename(kept)
            finally:
                shutil.rmtree(draft, ignore_errors=True)
    return _open(kept)


def _kept(cache: Path, name: str, limit: int, commit: str) -> Path | None:
    """The latest folder that holds ``limit`` rows or more."""

    def enough(folder: Path) -> bool:
        rows = folder.name.removeprefix(f"{name}-").split("-")[0]
        return rows == "all" or (rows.isdigit() and 0 <= limit <= int(rows))

    found = [folder for folder in cache.glob(f"{name}-*-{commit}") if enough(folder)]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _open(folder: Path) -> Any:
    from datasets import Dataset, concatenate_datasets

    return concatenate_datasets([Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))])


def _cached_by_datasets(repo_id: str, splits: Sequence[str], cache_dir: str) -> Any:
    """Not read by fedumm before, but perhaps by ``datasets.load_dataset``."""
    from datasets import load_dataset

    found = load_dataset(repo_id, cache_dir=cache_dir or None)
    return found[pick_split(list(found), splits, repo_id)]


def _builder(repo_id: str, splits: Sequence[str], request: DataRequest, commit: str) -> tuple[Any, str]:
    """What reads one split, and the split's name."""
    from datasets import load_dataset_builder

    places, what = hub_places((repo_id,), request), f"--dataset {repo_id}"
    check_card(_card(repo_id, commit), places, what)
    builder = load_dataset_builder(repo_id, cache_dir=request.cache_dir or None, revision=commit)
    files = builder.config.data_files
    split = pick_split(list(files), splits, repo_id)
    check_files(files[split], places, f"{what}: its list of data files")
    # A builder fetches all splits that it knows of: VQA v2's test images are larger than what is wanted.
    builder.config.data_files = type(files)({split: files[split]})
    return builder, split


def _card(repo_id: str, commit: str) -> Any:
    from huggingface_hub import hf_hub_download, metadata_load
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return metadata_load(hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=commit))
    except EntryNotFoundError:
        return None


def _whole(repo_id: str, splits: Sequence[str], _: int, request: DataRequest, commit: str, folder: Path) -> None:
    """Download one split's files (``datasets`` keeps them under ``HF_HOME``) and write its rows to ``folder``."""
    builder, _split = _builder(repo_id, splits, request, commit)
    builder.download_and_prepare(str(folder), verification_mode="no_checks")


def _first_rows(
    repo_id: str, splits: Sequence[str], limit: int, request: DataRequest, commit: str, folder: Path
) -> None:
    """Read the first rows and write them to ``folder``; images stay as the bytes they are stored as."""
    from datasets import Image
    from datasets.arrow_writer import ArrowWriter

    builder, split = _builder(repo_id, splits, request, commit)
    rows = builder.as_streaming_dataset(split=split)
    features = rows.features
    images = [name for name, feature in (features or {}).items() if isinstance(feature, Image)]
    if images:
        rows = rows.decode(False)
    folder.mkdir()
    places = hub_places((repo_id,), request)
    with ArrowWriter(path=str(folder / "rows.arrow"), features=features) as writer:
        for row in itertools.islice(rows, limit):
            writer.write(
                {
                    **row,
                    **{
                        name: _with_content(row[name], places, f"--dataset {repo_id}: the column {name}")
                        for name in images
                    },
                }
            )
        writer.finalize()


def _with_content(image: dict[str, Any] | None, places: Places, what: str) -> dict[str, Any] | None:
    """An image that is a file of its own on the Hub, with what is in it."""
    import fsspec

    if image is None:
        return None
    if image["bytes"] is not None:
        # With a path, 'datasets' would take a file of that name on this machine instead, should there be one.
        return {"bytes": image["bytes"], "path": None}
    check_files([image["path"]], places, what)
    with fsspec.open(image["path"], "rb") as file:
        return {"bytes": file.read(), "path": None}
