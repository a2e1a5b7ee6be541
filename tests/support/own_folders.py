"""Clients with data of their own: a folder for each, with the same names of files in all of them."""

from __future__ import annotations

import csv
from pathlib import Path

from datasets import disable_progress_bars

from fedumm.data import DataRequest, load_data

CLIENTS = {"mainz": 40, "heidelberg": 24, "site-10": 30}
"""Their training rows."""

MODEL = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--lr", "1e-3", "--threads", "1"]


def own_folders(root: Path) -> Path:
    """``root`` with a folder for each of :data:`CLIENTS`, and ``sites.yaml``, which names them."""
    disable_progress_bars()
    columns = ("image", "question", "multiple_choice_answer")
    rows = load_data("easy_vqa", DataRequest(columns=columns, max_train_samples=150, max_eval_samples=30))
    begin = 0
    for name, count in CLIENTS.items():
        for split, own, first, many in (("train", rows.train, begin, count), ("test", rows.eval, begin // 6, 8)):
            (root / name / "images").mkdir(parents=True, exist_ok=True)
            with open(root / name / f"{split}.csv", "w", newline="") as file:
                table = csv.writer(file)
                table.writerow(["image", "question", "answer"])
                for number in range(many):
                    row = own[first + number]
                    row["image"].save(root / name / "images" / f"{split}{number}.png")
                    table.writerow([f"images/{split}{number}.png", row["question"], row["multiple_choice_answer"]])
        begin += count
    (root / "sites.yaml").write_text("".join(f"{name}: {name}\n" for name in CLIENTS))
    return root
