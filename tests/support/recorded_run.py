"""The folder of a run with made-up records, as a run would have left it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CLIENTS = 3
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}\x1b[31m\u202e\x00&amp;"


def version(number: int, names: list[str]) -> dict[str, Any]:
    """What a version of the adapter scored: better each time up to version 2, then worse."""
    value = (0.25, 0.5, 0.75, 0.625)[number]
    entry = {"vqa": {"score": value, "count": 8, "parts": {"yes/no": value - 0.1, "color": value}}}
    own = {name: max(0.0, value - 0.001 * place) for place, name in enumerate(names)}
    return {
        "heldout": value, "heldout_tasks": entry, "heldout_clients": own, "heldout_missing": [], "test": value,
        "test_tasks": entry,
    }  # fmt: skip


def record_run(
    folder: Path, *, rounds: int = 3, count: int = CLIENTS, over: bool = True, best: int = 2, partition: bool = True,
    clients: bool = True, label: str = "yes", client: str = "", reason: str = "its norm 9 is above 3",
    epsilon: float | None = None, config: str = "",
) -> Path:  # fmt: skip
    """Write one; site-2 is rejected in the second round.

    Args:
        best: the version that the run calls the best.
        client: the name of the last one.
        epsilon: of each round.
        config: further lines of the options.
    """
    folder.mkdir(parents=True)
    options = f"model_backend: blip_vqa\nmodel_name_or_path: tiny\ndataset: easy_vqa\nnum_clients: {count}\n"
    options += f"num_rounds: 3\ndirichlet_alpha: 0.5\naggregator: fedavg\nseed: 42\nlr: 0.001\n{config}"
    (folder / "config.yaml").write_text(f"# Repeat this run: fedumm federate --name x\n{options}")
    names = [f"site-{n}" for n in range(1, count + 1)]
    names = [*names[:-1], client or names[-1]]
    records: list[dict[str, Any]] = []
    setup = {"hosts": {"host-1": {"clients": names, "device": "cpu", "versions": {"torch": "2.1 of torch"}}}}
    sizes = {name: {"train": 4 + place, "heldout": 2, "tasks": {"vqa": 4}} for place, name in enumerate(names)}
    facts = {"trainable": 10, "total": 1000, "adapter_bytes": 4000, "test_samples": 8, "seconds": 1.5, "noise": None}
    records.append({"event": "setup", **setup, **facts, "clients": sizes if clients else {}})
    for number in range(1, rounds + 1):
        for place, name in enumerate(names if clients else ()):
            bad = number == 2 and name == "site-2"
            own = {"event": "client", "round": number, "client": name, "rejected": "norm" if bad else None}
            own |= {"reason": reason if bad else None, "train_loss": 1 / number, "norm": 0.1 * (place + 1)}
            own |= {"cosine": None if bad else 0.5, "heldout_after": 0.8, "seconds_train": 2.0, "seconds_eval": 0.5}
            records.append(own)
        before = version(number - 1, names if clients else [])
        costs = {"bytes_down": 1000, "bytes_up": 3000, "seconds": 9.0, "seconds_host": 8.0, "elapsed": 9.0 * number}
        losses = {"train_loss": 1 / number, "train_losses": {"vqa": 1 / number}, "aggregation_error": 0.1 / number}
        more = {"best_round": min(best, number - 1), "rounds": 3, "roster": count, "clients_per_round": count}
        spent = {"epsilon": None if epsilon is None else epsilon * number, "heldout_after_tasks": {}}
        records.append({"event": "round", "round": number, **before, **costs, **losses, **more, **spent})
    if over:
        scores = {name: {"round": v, **version(v, names if clients else [])}
                  for name, v in (("untrained", 0), ("best", best), ("last", rounds))}  # fmt: skip
        records.append({"event": "final", "round": rounds, **version(rounds, names if clients else [])})
        records.append({"event": "summary", "roster": count, **scores, "seconds": 30.0})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    if partition:
        own_labels = {
            name: {"train": 4, "heldout": 2, "labels": {label: 3, "no": 1 + p}} for p, name in enumerate(names)
        }
        split = {"method": "dirichlet", "alpha": 0.5, "by": "answer", "clients": own_labels}
        (folder / "partition.json").write_text(json.dumps(split))
        data = {"train": {"rows": {"samples": 12}, "images": 6, "types": {"yes/no": 12}}}
        (folder / "data.json").write_text(json.dumps(data))
    return folder
