"""Write a folder with the real configuration of a published model and random weights.

    python scripts/make_random_checkpoint.py smolvlm-256m
    python scripts/make_random_checkpoint.py qwen2.5-vl-3b FOLDER --dtype bfloat16
    python scripts/make_random_checkpoint.py --list

Give the folder as --model_name_or_path. Nothing is downloaded. What such a model says means nothing; memory, time and
bytes are those of the real one. Weights are written a file of a gigabyte after the other.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import torch
from transformers import GenerationConfig

from fedumm.errors import FedummError, did_you_mean
from published_models import PUBLISHED, on_meta
from random_weights import write_weights
from vlm_builders import save_processor


def make(name: str, folder: Path, dtype: torch.dtype, seed: int) -> int:
    """Write the checkpoint of the model called ``name``.

    Returns:
        Bytes of its weights.

    Raises:
        FedummError: no such name, ``folder`` is there and not empty, or the disk has too little room.
    """
    if name not in PUBLISHED:
        raise FedummError(f"Unknown model: {name}. See --list.{did_you_mean(name, PUBLISHED)}")
    if folder.exists() and any(folder.iterdir()):
        raise FedummError(f"{folder} is not empty: name another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    published = PUBLISHED[name]
    config, processor = published.build()
    model = on_meta(config, published.backend)
    needed = dtype.itemsize * sum(own.numel() for own in model.parameters())
    if needed > (free := shutil.disk_usage(folder).free):
        raise FedummError(f"{name} needs {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left.")
    save_processor(processor, folder)
    config.architectures = [type(model).__name__]
    config.dtype = dtype
    config.save_pretrained(folder)
    if published.backend != "blip_vqa":
        GenerationConfig.from_model_config(config).save_pretrained(folder)
    return write_weights(model, folder, dtype, seed)


def main() -> int:
    """Parse, write, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?", help="of the model")
    parser.add_argument("folder", nargs="?", type=Path, help="where it goes (default: NAME)")
    parser.add_argument("--list", action="store_true", help="list the models")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="bfloat16", help="of the weights")
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    given = parser.parse_args()
    if given.list or given.name is None:
        for name, published in PUBLISHED.items():
            print(f"{name:24} {published.backend:10} {published.hub}")
        return 0
    folder = given.folder or Path(given.name)
    try:
        written = make(given.name, folder, getattr(torch, given.dtype), given.seed)
    except FedummError as error:
        print(error, file=sys.stderr)
        return 1
    backend = PUBLISHED[given.name].backend
    print(f"{folder}: {written / 1e9:.2f} GB. Use it with --model_backend {backend} --model_name_or_path {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
