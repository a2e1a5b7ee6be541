"""An adapter as part of its model: a checkpoint that needs neither PEFT nor fedumm, checked before it is handed out."""

from __future__ import annotations

import json
import random
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from PIL import Image

from fedumm.backends.protocol import Progress
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import RunConfig
from fedumm.errors import FedummError
from fedumm.tasks import I2T, T2I, VQA
from fedumm.training.backbone import Backbone, load_backbone

_BESIDE_THE_WEIGHTS = (
    "*token*.json", "vocab*", "merges.txt", "*processor*.json", "chat_template*", "generation_config.json", "*.jinja",
    "spiece.model", "sentencepiece*.model", "tokenizer.model", "*.tiktoken",
)  # fmt: skip
"""Files of a checkpoint that its processor is made of. A folder may hold anything else besides."""

_PATHS = ("name_or_path", "_name_or_path")
"""Entries of these files that say where they came from."""

_APART = 1e-3
"""Most that the losses of the merged model may differ from those of the model with its adapter, as a share."""


def save_merged(backbone: Backbone, config: RunConfig, folder: Path, progress: Progress) -> float:
    """Write the model of ``backbone`` with its adapter merged in, read it again, and compare the two.

    Args:
        backbone: it can't be used afterwards.
        folder: an empty one.

    Returns:
        The largest difference of the losses of a few made-up samples, as a share of them.

    Raises:
        FedummError: the model is not one of PEFT, has weights in four bits, or says something else when it is read
            again.
    """
    if not isinstance(backbone.model, PeftModel):
        raise FedummError("--merge: this backend's model is not one of PEFT, so that nothing can be merged.")
    if config.load_in_4bit:
        raise FedummError("--merge: weights in four bits can't take an adapter in. Leave --load_in_4bit out.")
    progress("merging", 0, 3)
    wanted = losses(backbone, config)
    source = checkpoint_folder(config, backbone)
    for file in sorted({found for pattern in _BESIDE_THE_WEIGHTS for found in source.glob(pattern)}):
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    merged: Any = backbone.model.merge_and_unload()
    merged.save_pretrained(folder)
    _forget_paths(folder)
    progress("merging", 1, 3)
    again = load_backbone(replace(config, model_name_or_path=str(folder.resolve())), backbone.device)
    progress("merging", 2, 3)
    found = losses(again, config)
    apart = max(abs(one - other) / max(abs(one), 1e-6) for one, other in zip(wanted, found, strict=True))
    if not apart <= _APART:
        raise FedummError(
            f"--merge: the merged model says something else than the model with its adapter (losses differ by "
            f"{100 * apart:.2g} %). It is not handed out; export the adapter without --merge."
        )
    progress("merging", 3, 3)
    return apart


def _forget_paths(folder: Path) -> None:
    for file in folder.glob("*.json"):
        content = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(content, dict) and any(name in content for name in _PATHS):
            kept = {name: value for name, value in content.items() if name not in _PATHS}
            file.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def checkpoint_folder(config: RunConfig, backbone: Backbone) -> Path:
    """The folder that the model was read from: a local one, or the Hub's cache."""
    name = config.model_name_or_path or getattr(backbone.backend, "default_model", "")
    where = resolve_checkpoint(config.model_backend, name) if name else ""
    if Path(where).is_dir():
        return Path(where)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(where, local_files_only=True))


@torch.no_grad()
def losses(backbone: Backbone, config: RunConfig) -> list[float]:
    """What the model loses on made-up samples of each of its tasks, in evaluation mode."""
    from datasets import Dataset, Features, Sequence, Value
    from datasets import Image as Pictures

    found = []
    for task in config.tasks:
        chance = random.Random(0)
        count = 3
        columns: dict[str, Any] = {
            "image": [Image.frombytes("RGB", (96, 80), chance.randbytes(96 * 80 * 3)) for _ in range(count)],
            "task": [task] * count,
        }
        kinds: dict[str, Any] = {"image": Pictures(), "task": Value("string")}
        texts = ["a red circle", "yes", "two blue squares"]
        columns |= {name: _column(name, texts) for name in _COLUMNS}
        kinds |= {name: Sequence(Value("string")) if name in _LISTS else Value("string") for name in _COLUMNS}
        rows = Dataset.from_dict(columns, features=Features(kinds))
        data = backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
        backbone.model.eval()
        batch = backbone.backend.collate_fn([data[place] for place in range(count)])
        torch.manual_seed(0)  # some leave a caption out now and then
        found.append(float(backbone.train_step(batch)))
    return found


_COLUMNS = [*VQA.columns, *I2T.columns, *T2I.columns]
_LISTS = {"answers", "texts"}


def _column(name: str, texts: list[str]) -> list[Any]:
    if name in _LISTS:
        return [[text] for text in texts]
    return [f"what is it, {place}?" for place in range(len(texts))] if name == VQA.column else texts


def without_paths(peft: dict[str, Any], base: str) -> str:
    """``adapter_config.json`` for others: the base model by its name on the Hub, and no path of this machine."""
    return json.dumps({**peft, "base_model_name_or_path": base or None}, indent=2, sort_keys=True) + "\n"
