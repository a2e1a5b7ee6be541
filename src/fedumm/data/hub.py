"""Data sets on the Hugging Face Hub: one split, whole or only its first rows.

What was read is kept as Arrow files in ``CACHE/fedumm/OWNER--NAME@CONFIGURATION-SPLIT-(N|all)-COMMIT``, so that
the next run, or another host, reads it from there, with or without a connection. Where a data set has one split, an
empty folder ``...-none-COMMIT`` says that there is no other to evaluate on.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from filelock import FileLock

from fedumm.data.configurations import pick_configuration
from fedumm.data.hub_access import check_reachable, explain_hub_error
from fedumm.data.places import Places, check_card, check_files
from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.splits import EVAL_SPLITS, TRAIN, SplitPart, check_no_column, one_split, pick_both, pick_split
from fedumm.errors import FedummError

GONE = {"HuggingFaceM4/VQAv2": "It is a script, which 'datasets' no longer runs. Use --dataset vqav2."}


def load_hub(repo_id: str, request: DataRequest, configuration: str = "") -> DataSplits:
    """Training and evaluation split of one data set on the Hub; of one split alone, this one and None.

    Args:
        configuration: which of the data set's configurations; empty: the default, or the only one.

    Raises:
        FedummError: it can't be had; the message says why and what else to do.
    """
    where = f"{repo_id}:{configuration}" if configuration else repo_id
    train, evaluation = SplitPart.parse(request.train_split), SplitPart.parse(request.eval_split)

    def read(place: int, part: SplitPart, others: Sequence[str], limit: int) -> Any:
        pick = Pick((part.name, *others), lambda there: pick_both(there, train, evaluation, where)[place])
        return read_split(where, pick, part.rows_to_read(limit), request)

    rows = read(0, train, [TRAIN], request.max_train_samples)
    rest = read(1, evaluation, EVAL_SPLITS, request.max_eval_samples)
    if rest is None:
        return one_split(rows, request, where)
    check_no_column((train.name, evaluation.name), request, where)
    return DataSplits(train.of(rows, request.max_train_samples), evaluation.of(rest, request.max_eval_samples))


def load_split(repo_id: str, splits: Sequence[str], limit: int, request: DataRequest) -> Any:
    """The first of ``splits`` that ``repo_id`` has: all of it, or at least its first ``limit`` rows.

    With a limit only these rows are read from the Hub, without one only this split's files.

    Raises:
        FedummError: there is no such data set or split, or it is neither in reach nor in the cache.
    """
    pick = Pick(tuple(splits), lambda there: pick_split(there, splits, repo_id))
    return read_split(repo_id, pick, limit, request)


class Pick(NamedTuple):
    """Which split of a data set to read.

    Attributes:
        names: what it may be called: under these it is kept.
        among: the one to read of those that are there; None: there is none to read.
    """

    names: tuple[str, ...]
    among: Callable[[Sequence[str]], str | None]


def read_split(dataset: str, pick: Pick, limit: int, request: DataRequest) -> Any:
    """One split of ``OWNER/NAME`` or ``OWNER/NAME:CONFIGURATION``, or at least its first ``limit`` rows; -1: all.

    Returns:
        Its rows; None if ``pick`` takes none.

    Raises:
        FedummError: there is no such data set, configuration or split, or it is neither in reach nor in the cache.
    """
    repo_id = dataset.partition(":")[0]
    if repo_id in GONE:
        raise FedummError(f"--dataset {repo_id}: {GONE[repo_id]}")
    commit = check_reachable("dataset", repo_id)
    try:
        return _load(dataset, pick, limit, request, commit)
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
    caches = (downloads.expanduser() / "extracted", kept_in(request.cache_dir), *kept)
    return request.places(caches=caches, own=tuple(own))


def kept_in(cache_dir: str) -> Path:
    """Where fedumm keeps what it read from the Hub."""
    from datasets import config

    return Path(cache_dir or config.HF_DATASETS_CACHE).expanduser() / "fedumm"


def check_split(dataset: str, cache_dir: str) -> None:
    """Raise :class:`FedummError` if a data set is neither in reach nor in the cache. Nothing is downloaded.

    A split that the cache lacks of a data set that it holds is found out later, when it is loaded.
    """
    repo_id = dataset.partition(":")[0]
    if repo_id in GONE:
        raise FedummError(f"--dataset {repo_id}: {GONE[repo_id]}")
    if check_reachable("dataset", repo_id) is not None:
        return
    cache, ours, theirs = kept_in(cache_dir), repo_id.replace("/", "--"), repo_id.replace("/", "___").lower()
    if not list(cache.glob(f"{ours}[@-]*")) and not any(
        path.name.lower() == theirs for path in cache.parent.glob("*___*")
    ):
        raise explain_hub_error("dataset", repo_id, FileNotFoundError(repo_id), cache_dir)


def _load(dataset: str, pick: Pick, limit: int, request: DataRequest, commit: str | None) -> Any:
    cache = kept_in(request.cache_dir)
    name = f"{file_name(dataset)}-{'-'.join(dict.fromkeys(pick.names))}"
    version = commit[:12] if commit else "*"
    if kept := _kept(cache, name, limit, version):
        return _open(kept)
    if commit is None:
        return _cached_by_datasets(dataset, pick, request.cache_dir)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{name}.lock"):
        kept = _kept(cache, name, limit, version)  # by another process meanwhile
        if kept is None:
            kept = _fetched(cache, name, dataset, pick, limit, request, commit)
    return _open(kept)


def _fetched(cache: Path, name: str, dataset: str, pick: Pick, limit: int, request: DataRequest, commit: str) -> Path:
    """The folder with the rows, which appears when it is complete."""
    builder, split = split_builder(dataset, pick, request, commit)
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=cache, ignore_cleanup_errors=True) as draft:
        rows = Path(draft, "rows")
        if split is None:
            rows.mkdir()
        elif limit == -1:
            # 'datasets' keeps the downloaded files under HF_HOME.
            builder.download_and_prepare(str(rows), verification_mode="no_checks")
        else:
            _first_rows(builder, split, limit, hub_places((builder.repo_id,), request), rows)
        count = "none" if split is None else "all" if limit == -1 else limit
        return rows.rename(cache / f"{name}-{count}-{commit[:12]}")


def file_name(dataset: str) -> str:
    """What ``OWNER/NAME:CONFIGURATION`` is called in the cache."""
    repo_id, _, configuration = dataset.partition(":")
    return repo_id.replace("/", "--") + (f"@{quote(configuration, safe='')}" if configuration else "")


def _kept(cache: Path, name: str, limit: int, commit: str) -> Path | None:
    """The latest folder that holds ``limit`` rows or more, or says that there is no such split."""

    def enough(folder: Path) -> bool:
        rows = folder.name.removeprefix(f"{name}-").split("-")[0]
        return rows in ("all", "none") or (rows.isdigit() and 0 <= limit <= int(rows))

    found = [folder for folder in cache.glob(f"{name}-*-{commit}") if enough(folder)]
    return max(found, key=lambda folder: folder.stat().st_mtime, default=None)


def _open(folder: Path) -> Any:
    from datasets import Dataset, concatenate_datasets

    parts = [Dataset.from_file(str(file)) for file in sorted(folder.glob("*.arrow"))]
    return concatenate_datasets(parts) if parts else None


def _cached_by_datasets(dataset: str, pick: Pick, cache_dir: str) -> Any:
    """Not read by fedumm before, but perhaps by ``datasets.load_dataset``."""
    from datasets import load_dataset

    repo_id, _, configuration = dataset.partition(":")
    found = load_dataset(repo_id, configuration or None, cache_dir=cache_dir or None)
    split = pick.among(list(found))
    return found[split] if split else None


def split_builder(dataset: str, pick: Pick, request: DataRequest, commit: str) -> tuple[Any, str | None]:
    """What reads one split, and the split's name; None for both if there is none to read.

    Raises:
        FedummError: no such configuration or split, or its files lie elsewhere.
    """
    from datasets import load_dataset_builder

    repo_id, _, configuration = dataset.partition(":")
    places, what = hub_places((repo_id,), request), f"--dataset {dataset}"
    card = data_card(repo_id, commit)
    check_card(card, places, what)
    name = pick_configuration(card, configuration, repo_id)
    builder = load_dataset_builder(repo_id, name, cache_dir=request.cache_dir or None, revision=commit)
    files = builder.config.data_files
    split = pick.among(list(files))
    if split is None:
        return None, None
    check_files(files[split], places, f"{what}: its list of data files")
    # A builder fetches all splits that it knows of: VQA v2's test images are larger than what is wanted.
    builder.config.data_files = type(files)({split: files[split]})
    return builder, split


def data_card(repo_id: str, commit: str) -> Any:
    """The metadata of a data set's README.md; None if it has none."""
    from huggingface_hub import hf_hub_download, metadata_load
    from huggingface_hub.errors import EntryNotFoundError

    try:
        return metadata_load(hf_hub_download(repo_id, "README.md", repo_type="dataset", revision=commit))
    except EntryNotFoundError:
        return None


def _first_rows(builder: Any, split: str, limit: int, places: Places, folder: Path) -> None:
    """Read the first rows and write them to ``folder``; images stay as the bytes they are stored as."""
    from datasets import Image
    from datasets.arrow_writer import ArrowWriter

    rows = builder.as_streaming_dataset(split=split)
    features = rows.features
    images = [name for name, feature in (features or {}).items() if isinstance(feature, Image)]
    if images:
        rows = rows.decode(False)
    folder.mkdir()
    what = f"--dataset {builder.repo_id}: the column"
    with ArrowWriter(path=str(folder / "rows.arrow"), features=features) as writer:
        for row in itertools.islice(rows, limit):
            writer.write({**row, **{name: with_content(row[name], places, f"{what} {name}") for name in images}})
        writer.finalize()


def with_content(image: dict[str, Any] | None, places: Places, what: str) -> dict[str, Any] | None:
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
