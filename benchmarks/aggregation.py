#!/usr/bin/env python
"""Every aggregator, on clients that differ much and on clients that differ little.

    python benchmarks/aggregation.py

Federates the shipped `tiny` of `blip_vqa` on 1,600 questions of easy-VQA: 8 clients, Dirichlet 0.1 and 1.0 over the
answers, 5 rounds of one epoch, batches of 32, learning rate 1e-3, LoRA of rank 16 with alpha 32, a fifth of the
images held out, 3 seeds. A seed decides split, first adapter and order of samples, the same ones for all methods.
"Test" is the last adapter on 600 questions of the common test set; "against fedavg" is the difference with the same
seed, in points; "held-out" is the last adapter on all clients' held-out questions, of `fedsa_lora` each client's own
adapter; "before averaging" is what clients' own adapters have there after the last round's training. Aggregation
error is that of `metrics.jsonl`. Bytes are one client's in a round after the first, tensors only; server seconds are
the median round's, on a machine with other work; "rejected" counts updates that the server's checks refused, of all
runs. Also draws `docs/aggregation.png`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

from common import ROOT, Table, main, run_once, spread
from fedumm.aggregation import available_aggregators
from fedumm.config import FederateConfig
from fedumm.run_options import from_mapping, to_mapping
from fedumm.training.threads import cores

SEEDS = (1, 2, 3)
ALPHAS, COLORS = (0.1, 1.0), ("tab:red", "tab:blue")
BASELINE = "fedavg"
LOW_RANKS = {
    "lora_r": "16,site-1=4,site-2=4,site-3=8,site-4=8",
    "lora_alpha": "32,site-1=8,site-2=8,site-3=16,site-4=16",
}
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"aggregator": name} for name in available_aggregators()},
    "fedavg, prox_mu 0.1": {"prox_mu": 0.1},
    "fedavg, scaffold": {"scaffold": True},
    "svd, ranks 4, 8, 16": {"aggregator": "svd", **LOW_RANKS},
    "flora, ranks 4, 8, 16": {"aggregator": "flora", **LOW_RANKS},
    "fedavgm, momentum 0.5": {"aggregator": "fedavgm", "server_momentum": 0.5},
    "fedadam, lr 5e-3, momentum 0": {"aggregator": "fedadam", "server_lr": 5e-3, "server_momentum": 0.0},
}
CONFIG = FederateConfig(
    model_backend="blip_vqa", model_name_or_path="tiny", dataset="easy_vqa", num_clients=8, num_rounds=5,
    batch_size=32, grad_accum=1, lr=1e-3, holdout=0.2, max_train_samples=1600, max_eval_samples=600, threads=1,
    in_process=True,
)  # fmt: skip
FIGURE = ROOT / "docs" / "aggregation.png"


@dataclass(frozen=True)
class Outcome:
    """One run. ``test`` is None where no adapter is everybody's, ``errors`` empty where none is defined."""

    untrained: float | None
    test: float | None
    heldout: float
    before_averaging: float
    errors: list[float]
    down: float
    up: float
    server_seconds: list[float]
    rejected: int


Outcomes = Mapping[tuple[str, float], Sequence[Outcome]]
"""By setting and alpha, a run for each seed."""


def one_run(name: str, alpha: float, seed: int) -> Outcome:
    values = {**to_mapping(CONFIG), "dirichlet_alpha": alpha, "seed": seed, **SETTINGS[name]}
    records = run_once(from_mapping(FederateConfig, values))
    (summary,) = [r for r in records if r["event"] == "summary"]
    rounds = [r for r in records if r["event"] == "round"]
    clients = [r for r in records if r["event"] == "client"]
    usual = [r for r in clients if r["round"] > 1 and not r["rejected"]]
    down, up = (mean(r[key] for r in usual) for key in ("bytes_down", "bytes_up"))
    errors = [r["aggregation_error"] for r in rounds if r["aggregation_error"] is not None]
    return Outcome(
        summary["untrained"]["test"], summary["last"]["test"], summary["last"]["heldout"],
        rounds[-1]["heldout_after"], errors, down, up, [r["seconds"] - r["seconds_host"] for r in rounds],
        sum(r["rejected"] is not None for r in clients),
    )  # fmt: skip


def spread_of(values: Sequence[float | None]) -> str:
    """As :func:`spread`, in percent; a dash where a run has none."""
    there = [v for v in values if v is not None]
    return spread(there) if len(there) == len(values) else "-"


def accuracy_table(alpha: float, outcomes: Outcomes) -> Table:
    base = outcomes[BASELINE, alpha]
    rows = []
    for name in SETTINGS:
        own = outcomes[name, alpha]
        differences = [
            o.test - b.test if o.test is not None and b.test is not None else None
            for o, b in zip(own, base, strict=True)
        ]
        cells = [spread_of([o.test for o in own]), spread_of(differences)]
        rows.append([name, *cells, spread([o.heldout for o in own]), spread([o.before_averaging for o in own])])
    untrained = 100 * (base[0].untrained or 0.0)
    title = (
        f"Accuracy at alpha {alpha}, %, mean ± standard deviation over {len(SEEDS)} seeds; untrained {untrained:.1f}"
    )
    return Table(title, ["method", "test", "against fedavg", "held-out", "before averaging"], rows)


def error_text(own: Sequence[Outcome], last: bool) -> str:
    """Aggregation error, of the last round or the mean over all, over seeds."""
    values = [o.errors[-1] if last else mean(o.errors) for o in own if o.errors]
    return f"{mean(values):.2g} ± {stdev(values):.1g}" if values else "-"


def cost_table(outcomes: Outcomes) -> Table:
    base = outcomes[BASELINE, ALPHAS[0]][0]
    rows = []
    for name in SETTINGS:
        both = [o for alpha in ALPHAS for o in outcomes[name, alpha]]
        errors = [error_text(outcomes[name, alpha], last) for alpha in ALPHAS for last in (False, True)]
        down, up = mean(o.down for o in both) / base.down, mean(o.up for o in both) / base.up
        seconds = median(s for o in both for s in o.server_seconds)
        rows.append([name, *errors, f"{down:.2f}", f"{up:.2f}", f"{seconds:.2f}", str(sum(o.rejected for o in both))])
    errors = [f"error at {alpha}, {which}" for alpha in ALPHAS for which in ("mean", "last")]
    title = f"Aggregation error, and bytes against fedavg's {base.down:,.0f} down and {base.up:,.0f} up"
    return Table(title, ["method", *errors, "down, x", "up, x", "server s", "rejected"], rows)


def save_figure(outcomes: Outcomes) -> None:
    """Accuracy, a panel for each alpha, and aggregation error, by method."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 0.9 + 0.27 * len(SETTINGS)), layout="constrained")
    FigureCanvasAgg(figure)
    *panels, last = figure.subplots(1, len(ALPHAS) + 1, sharey=True)
    for axes, alpha, color in zip(panels, ALPHAS, COLORS, strict=True):
        _draw_accuracy(axes, alpha, color, outcomes)
        _draw_errors(last, alpha, color, outcomes)
    panels[0].set_yticks(range(len(SETTINGS)), list(SETTINGS))
    panels[0].invert_yaxis()
    last.legend(loc="upper left", frameon=False)
    for axes in (*panels, last):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(FIGURE, dpi=110)


def _draw_accuracy(axes: Any, alpha: float, color: str, outcomes: Outcomes) -> None:
    """Mean and standard deviation, and a tick for each seed; dotted the untrained model, dashed the baseline."""
    base = outcomes[BASELINE, alpha]
    axes.axvline(100 * (base[0].untrained or 0.0), color="gray", linestyle=":")
    axes.axvline(100 * mean(o.test or 0.0 for o in base), color=color, linestyle="--", lw=0.8)
    for place, name in enumerate(SETTINGS):
        own = [100 * o.test for o in outcomes[name, alpha] if o.test is not None]
        if own:
            axes.errorbar(mean(own), place, xerr=stdev(own), fmt="o", color=color, capsize=3)
            axes.plot(own, [place] * len(own), "|", color="black", markersize=6, alpha=0.6)
        else:
            axes.text(100 * (base[0].untrained or 0.0) + 1, place, "no common test", va="center", color="gray")
    axes.set(title=f"test accuracy, alpha {alpha} (%)")


def _draw_errors(axes: Any, alpha: float, color: str, outcomes: Outcomes) -> None:
    points = [(mean(o.errors), place) for place, name in enumerate(SETTINGS) for o in outcomes[name, alpha] if o.errors]
    axes.plot(*zip(*points, strict=True), "o", color=color, markersize=5, alpha=0.5, label=f"alpha {alpha}")
    axes.set(title="aggregation error, mean over rounds", xscale="log")


def run() -> list[Table]:
    jobs = [(name, alpha, seed) for seed in SEEDS for alpha in ALPHAS for name in SETTINGS]
    found: dict[tuple[str, float], list[Outcome]] = {}
    with ProcessPoolExecutor(max_workers=cores()) as pool:
        for (name, alpha, seed), outcome in zip(jobs, pool.map(one_run, *zip(*jobs, strict=True)), strict=True):
            found.setdefault((name, alpha), []).append(outcome)
            print(name, alpha, seed, outcome, flush=True)
    save_figure(found)
    return [*(accuracy_table(alpha, found) for alpha in ALPHAS), cost_table(found)]


if __name__ == "__main__":
    main("aggregation", __doc__, run)
