"""Records of a run, and the headings of the table that shows them."""

from __future__ import annotations

from typing import Any

HEADINGS = [
    "round",
    "clients",
    "train loss",
    "held-out",
    "after training",
    "common test",
    "MB down",
    "MB up",
    "seconds",
    "time left",
]
ROUND: dict[str, Any] = {
    "event": "round",
    "round": 2,
    "rounds": 10,
    "clients": 4,
    "roster": 4,
    "clients_per_round": 4,
    "heldout_clients": {"site-1": 0.5, "site-2": 0.5, "site-3": 0.5, "site-4": 0.5},
    "heldout_missing": [],
    "train_loss": 1.23456,
    "train_losses": {"vqa": 1.23456},
    "heldout": 0.5,
    "heldout_tasks": {"vqa": {"score": 0.5, "count": 35, "parts": {}}},
    "heldout_after_tasks": {"vqa": {"score": 2 / 3, "count": 35, "parts": {}}},
    "test_tasks": {"vqa": {"score": 0.125, "count": 4321, "parts": {}}},
    "bytes_down": 1_234_567,
    "bytes_up": 9_876_543,
    "seconds": 12.345,
    "elapsed": 25.0,
}
SETUP: dict[str, Any] = {
    "event": "setup",
    "hosts": {"host-1": {}, "host-2": {}},
    "clients": {
        "site-1": {"train": 1200, "heldout": 30, "tasks": {"vqa": 1200}},
        "site-2": {"train": 34, "heldout": 5, "tasks": {"vqa": 34}},
    },
    "test_samples": 4321,
    "trainable": 3_538_944,
    "total": 364_769_084,
    "adapter_bytes": 14_170_000,
    "findings": [],
    "features": [{"name": "vision features", "kept": "", "bytes": 0, "images": 0, "computed": 0, "note": ""}],
    "seconds": 0.0,
}
