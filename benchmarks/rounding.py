#!/usr/bin/env python
"""What rounding on the wire costs in accuracy: float32 against int8, nf4 and int8 with top-k.

    python benchmarks/rounding.py

Federates the shipped `tiny` of `blip_vqa` on 1,600 questions of easy-VQA with FedAvg: 4 clients, Dirichlet 0.5, 10
rounds of one epoch, batches of 32, learning rate 1e-3, 5 seeds, and scores the last adapter on 1,000 questions of the
common test set. `--wire` holds both ways, with error feedback both ways; `--top_k` only on the way up. "Difference" is
that to float32 with the same seed. Bytes are those of a round after the first, of one client, tensors only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import mean
from typing import Any

from common import Table, main, run_once, spread
from fedumm.config import FederateConfig
from fedumm.training.threads import cores

SEEDS = (1, 2, 3, 4, 5)
SETTINGS: dict[str, dict[str, Any]] = {
    "float32": {},
    "int8": {"wire": "int8"},
    "nf4": {"wire": "nf4"},
    "int8, top_k 0.1": {"wire": "int8", "top_k": 0.1},
}
CONFIG = FederateConfig(
    model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", num_clients=4, num_rounds=10,
    dirichlet_alpha=0.5, batch_size=32, grad_accum=1, lr=1e-3, max_train_samples=1600, max_eval_samples=1000,
    threads=1, in_process=True,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Test accuracy before and after, and one client's bytes in a round after the first."""

    untrained: float
    last: float
    down: float
    up: float


def one_run(name: str, seed: int) -> Outcome:
    records = run_once(replace(CONFIG, seed=seed, **SETTINGS[name]))
    (summary,) = [r for r in records if r["event"] == "summary"]
    clients = [r for r in records if r["event"] == "client" and r["round"] > 1]
    down, up = (mean(r[key] for r in clients) for key in ("bytes_down", "bytes_up"))
    return Outcome(summary["untrained"]["test"], summary["last"]["test"], down, up)


def row(name: str, own: Sequence[Outcome], exact: Sequence[Outcome]) -> list[str]:
    """One codec against float32."""
    differences = [o.last - e.last for o, e in zip(own, exact, strict=True)]
    down, up = own[0].down / exact[0].down, own[0].up / exact[0].up
    return [name, f"{down:.3f}", f"{up:.3f}", spread([o.last for o in own]), spread(differences)]


def run() -> list[Table]:
    jobs = [(name, seed) for seed in SEEDS for name in SETTINGS]
    with ProcessPoolExecutor(max_workers=cores()) as pool:
        found = dict(zip(jobs, pool.map(one_run, *zip(*jobs, strict=True)), strict=True))
    by_name: Mapping[str, list[Outcome]] = {name: [found[name, seed] for seed in SEEDS] for name in SETTINGS}
    rows = [row(name, own, by_name["float32"]) for name, own in by_name.items()]
    untrained = 100 * by_name["float32"][0].untrained
    columns = ["`--wire`", "bytes down, x", "bytes up, x", "accuracy %", "difference, points"]
    title = f"After 10 rounds, mean ± standard deviation over {len(SEEDS)} seeds; untrained {untrained:.1f} %"
    return [Table(title, columns, rows)]


if __name__ == "__main__":
    main("rounding", __doc__, run)
