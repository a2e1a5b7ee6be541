"""A data set in a local folder: saved by ``datasets``, or files that ``datasets`` can read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fedumm.data.places import Places, check_card, check_files
from fedumm.data.request import DataRequest, DataSplits
from fedumm.data.splits import EVAL_SPLITS, SplitPart, pick_split
from fedumm.errors import FedummError


def load_folder(path: Path, request: DataRequest) -> DataSplits:
    """Training and evaluation split of the data set in ``path``.

    Raises:
        FedummError: it is no data set, lacks one of the splits, or is made of files that lie elsewhere.
    """
    from datasets import DatasetDict

    saved = any((path / name).exists() for name in ("dataset_dict.json", "dataset_info.json"))
    try:
        found = (_saved if saved else _read)(path, request)
    except FedummError:
        raise
    except Exception as error:
        reason = str(error.__cause__ or error).strip().split("\n")[0].rstrip(".")
        raise FedummError(f"--dataset {path} can't be read as a data set: {reason}.") from error
    if not isinstance(found, DatasetDict):
        raise FedummError(f"--dataset {path} has no splits: save a DatasetDict with 'train' and 'validation'.")

    def part(split: str, others: Sequence[str], limit: int) -> Any:
        wanted = SplitPart.parse(split)
        return wanted.of(found[pick_split(list(found), [wanted.name, *others], str(path))], limit)

    return DataSplits(
        part(request.train_split, ["train"], request.max_train_samples),
        part(request.eval_split, EVAL_SPLITS, request.max_eval_samples),
    )


def folder_places(path: Path, request: DataRequest) -> Places:
    """Where files of the data set in ``path`` may lie; archives in it are unpacked into the cache of ``datasets``."""
    from datasets import config

    cache = Path(request.cache_dir, "downloads") if request.cache_dir else Path(config.DOWNLOADED_DATASETS_PATH)
    return request.places(path, caches=(cache.expanduser() / "extracted",))


def _saved(path: Path, request: DataRequest) -> Any:
    from datasets import DatasetDict, load_from_disk

    found = load_from_disk(str(path))
    if isinstance(found, DatasetDict):
        files = [file["filename"] for part in found.values() for file in part.cache_files]
        check_files(files, folder_places(path, request), f"--dataset {path}: its list of data files")
    return found


def _read(path: Path, request: DataRequest) -> Any:
    """Through ``datasets``, which would take any file and any address that the folder's card names."""
    from datasets import load_dataset_builder

    places, what = folder_places(path, request), f"--dataset {path}"
    for card in _cards(path):
        check_card(card, places, what)
    builder = load_dataset_builder(str(path), cache_dir=request.cache_dir or None)
    for files in (builder.config.data_files or {}).values():
        check_files(files, places, f"{what}: its list of data files")
    builder.download_and_prepare()
    return builder.as_dataset()


def _cards(path: Path) -> Iterator[Any]:
    """What the folder says of itself in the two places where ``datasets`` reads it."""
    import yaml
    from huggingface_hub import metadata_load

    if (path / "README.md").is_file():
        yield metadata_load(path / "README.md")
    if (path / ".huggingface.yaml").is_file():
        yield yaml.safe_load((path / ".huggingface.yaml").read_text(encoding="utf-8"))
