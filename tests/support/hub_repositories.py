"""Data sets and models as they are on the Hub, small: for ``hub_server``."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as Pillow

MODEL = "Salesforce/blip-vqa-base"
TRAIN, EVAL = "Multimodal-Fatima/VQAv2_train", "lmms-lab/VQAv2"
SHARDS, ROWS = 4, 24
TEXT, NUMBER = Value("string"), Value("int64")
RECORDS = List({"answer": TEXT, "answer_confidence": TEXT, "answer_id": NUMBER})
TRAIN_LAYOUT = Features(
    {
        "question_type": TEXT,
        "multiple_choice_answer": TEXT,
        "answers": List(TEXT),
        "answers_original": RECORDS,
        "id_image": NUMBER,
        "answer_type": TEXT,
        "question_id": NUMBER,
        "question": TEXT,
        "image": Image(),
        "id": NUMBER,
        "clip_tags_ViT_L_14": List(TEXT),
        "blip_caption": TEXT,
    }
)
EVAL_LAYOUT = Features(
    {
        "question_type": TEXT,
        "multiple_choice_answer": TEXT,
        "answers": RECORDS,
        "image_id": NUMBER,
        "answer_type": TEXT,
        "question_id": NUMBER,
        "question": TEXT,
        "image": Image(),
    }
)


def picture(seed: int, ballast: int = 0) -> dict[str, Any]:
    """A PNG of noise; ``ballast`` bytes after its end make the file large, and no decoder reads them."""
    rng = np.random.default_rng(seed)
    buffer = io.BytesIO()
    Pillow.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue() + rng.bytes(ballast), "path": f"{seed}.png"}


def row(layout: Features, number: int, seed: int, ballast: int = 0) -> dict[str, Any]:
    texts = ["yes"] * 7 + ["no"] * 3
    records = [{"answer": a, "answer_confidence": "maybe", "answer_id": i + 1} for i, a in enumerate(texts)]
    values = {
        "question_type": "is there",
        "multiple_choice_answer": "yes",
        "answers": texts if "answers_original" in layout else records,
        "answers_original": records,
        "id_image": seed + number // 3,
        "image_id": seed + number // 3,
        "answer_type": "yes/no",
        "question_id": 1000 * seed + number,
        "question": f"is there a red circle number {number}?",
        "image": picture(seed + number // 3, ballast),
        "id": number,
        "clip_tags_ViT_L_14": ["a", "b"],
        "blip_caption": "a circle",
    }
    return {name: values[name] for name in layout}


def shards(folder: Path, split: str, layout: Features, count: int = SHARDS, ballast: int = 0) -> None:
    """Parquet files in the Hub's way of naming them, ``ROWS`` rows in all, in groups of two rows."""
    (folder / "data").mkdir(parents=True, exist_ok=True)
    seed = sum(map(ord, split))
    rows = [row(layout, number, seed, ballast) for number in range(ROWS)]
    table = Dataset.from_list(rows, features=layout)
    for shard in range(count):
        name = f"{split}-{shard:05d}-of-{count:05d}-{seed:016x}.parquet"
        with (folder / "data" / name).open("wb") as file:
            table.shard(count, shard, contiguous=True).to_parquet(file, batch_size=2)


def folder_of_images(folder: Path, splits: tuple[str, ...]) -> None:
    """Files of their own, with compression that loses something each time."""
    for split in splits:
        (folder / split).mkdir(parents=True)
        lines = []
        for number in range(4):
            with Pillow.open(io.BytesIO(picture(number)["bytes"])) as image:
                image.save(folder / split / f"{number}.jpg", quality=40)
            lines.append({"file_name": f"{number}.jpg", "question": f"how many in {split}?", "answer": str(number)})
        (folder / split / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def card(folder: Path, *splits: str) -> None:
    """A data card like ``lmms-lab/VQAv2``'s: it names the splits and counts the bytes of all of them."""
    entries = "".join(f"  - split: {s}\n    path: data/{s}-*\n" for s in splits)
    sizes = "".join(f"  - name: {s}\n    num_bytes: {10**15}\n    num_examples: {ROWS}\n" for s in splits)
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{entries}"
        f"dataset_info:\n  splits:\n{sizes}  download_size: {10**15}\n  dataset_size: {10**15}\n---\n# VQA v2\n"
    )


def child_env(extra: dict[str, str]) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    return {**ours, "OMP_NUM_THREADS": "1", **extra}
