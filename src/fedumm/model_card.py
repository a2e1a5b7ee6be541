"""The model card in an adapter folder (Hugging Face's format)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedumm.config import CentralConfig, FederateConfig, RunConfig
from fedumm.formatting import epsilon_text, others_text, score_text, scorers_text
from fedumm.shell import quoted
from fedumm.tasks import I2T, TASKS, VQA
from fedumm.texts import one_line as shown

Rows = list[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """What the options do not tell of a saved adapter.

    ``epsilon`` is None without differential privacy; ``rank`` None where it is that of the options; ``cut`` the share
    of its energy (sum of squared singular values) that ``--export_rank`` cut; ``whole`` False where the clients keep
    a part of it.
    """

    epsilon: float | None = None
    rank: int | None = None
    cut: float = 0.0
    whole: bool = True


def federated_card(
    config: FederateConfig,
    version: int,
    scores: Mapping[str, Any],
    run: str,
    facts: Facts = Facts(),
    plugins: Sequence[str] = (),
) -> str:
    """Card of the global adapter after ``version`` rounds; ``plugins`` are the files that its model needs."""
    split = (
        f"Dirichlet({config.dirichlet_alpha}) over {_plain(config.partition_by)}" if config.dirichlet_alpha else "IID"
    )
    if config.own_data:
        split = "each with its own data"
    elif config.task_share:
        split += f", {config.partition}"
    elif config.partition not in ("", "iid", "dirichlet"):
        split = f"split by {_plain(config.partition)}"
    bound = f", at most {config.round_minutes:g} min of training a client and round" if config.round_minutes else ""
    rows = [
        ("Clients", f"{config.num_clients}, {split}, seed {config.seed}"),
        ("Rounds", f"{version} of {config.num_rounds}, {config.local_epochs} local epoch(s) each{bound}"),
        ("Aggregation", aggregation_text(config)),
        *_fact_rows(config, facts),
        # Epsilon does not cover what clients' own data say of the adapter.
        *([] if facts.epsilon is not None else _score_rows(config, scores, "heldout", _heldout_of(config, scores))),
        *_score_rows(config, scores, "test", "the common test set"),
    ]
    travelled = "noisy updates" if config.dp == "local" else "adapters, losses, scores"
    text = (
        "Trained by federated averaging with FedUMM: the clients' images and texts stayed with them; "
        f"{travelled} and numbers of rows travelled.\n"
        "The held-out score is the mean over those clients' examples; a dash means not evaluated yet."
    )
    return _card(config, f"Adapter of the run {_code(run)}", text, rows, ["federated-learning"], plugins)


def _heldout_of(config: FederateConfig, scores: Mapping[str, Any]) -> str:
    count = len(scores.get("heldout_clients", ())) or config.num_clients
    if count == config.num_clients:
        return "the clients' held-out data"
    return f"the held-out data of {scorers_text([count], config.num_clients)}"


def aggregation_text(config: FederateConfig) -> str:
    """``fedavg``, with what else there is: weights, drift, wire."""
    extras = {
        f"weights {config.weights}": config.weights != "samples",
        f"FedProx {config.prox_mu:g}": config.prox_mu > 0,
        "SCAFFOLD": config.scaffold,
        f"wire {config.up} up, {config.down} down": (config.up, config.down) != ("float32", "float32"),
        f"top {config.top_k:g} up": config.top_k < 1,
    }
    return ", ".join([config.aggregator, *(text for text, given in extras.items() if given)])


def _fact_rows(config: FederateConfig, facts: Facts) -> Rows:
    rows = []
    if facts.epsilon is not None:
        what = "client-level" if config.dp == "central" else "each client against the server"
        rows.append(
            ("Differential privacy", f"epsilon {epsilon_text(facts.epsilon)}, delta {config.dp_delta:g} ({what})")
        )
    if facts.rank is not None:
        cut = f"; {100 * facts.cut:.2g} % of its energy was cut" if facts.cut else ""
        rows.append(("Saved at rank", f"{facts.rank}: what the backbone grew by is part of it{cut}"))
    if not facts.whole:
        rows.append(("Shared part", "this is what the clients share; each has an adapter of its own"))
    return rows


def own_card(config: FederateConfig, client: str, plugins: Sequence[str] = ()) -> str:
    """Card of a client's own adapter, of a method that leaves part of it with the client."""
    client = _plain(client)
    text = f"The adapter of {client}, of which {config.aggregator} shared one part; this one stays with the client."
    return _card(
        config,
        f"Adapter of {client}",
        text,
        [("Aggregation", aggregation_text(config))],
        ["federated-learning"],
        plugins,
    )


def central_card(config: CentralConfig, epochs: int, scores: Mapping[str, Any], plugins: Sequence[str] = ()) -> str:
    """Card of an adapter that was trained centrally for ``epochs`` epochs, fewer than were asked for by patience."""
    of = f" of {config.num_epochs} (patience {config.patience})" if epochs < config.num_epochs else ""
    rows = [
        ("Epochs", f"{epochs}{of}, seed {config.seed}"),
        *_score_rows(config, scores, "test", "the evaluation data"),
        *(_score_rows(config, scores, "heldout", "held-out rows") if "heldout" in scores else []),
    ]
    return _card(config, "Centrally trained adapter", "The centralised baseline of FedUMM.", rows, [], plugins)


def _score_rows(config: RunConfig, scores: Mapping[str, Any], name: str, where: str) -> Rows:
    """A row for each task."""
    tasks = scores.get(f"{name}_tasks") or {VQA.name: None}
    names = {task: TASKS[task].score for task in tasks}
    names |= {I2T.name: f"{I2T.score} ({config.metric})"} if I2T.name in names else {}
    rows = [(f"{names[task][0].upper()}{names[task][1:]} on {where}", score_text(tasks[task])) for task in tasks]
    return rows + ([(f"Beside it on {where}", others)] if (others := others_text(scores, name)) else [])


def for_others(card: str, base: str, *, merged: bool = False) -> str:
    """A card that leaves this machine: the base model by its name on the Hub (empty: unknown), and of local folders and
    files nothing but their own names.

    Args:
        card: of :func:`federated_card` or the like.
        merged: the adapter is part of the model.
    """
    card = re.sub(r"^base_model: .*\n", "", card, count=1, flags=re.MULTILINE)
    card = re.sub(r"`(?:[A-Za-z]:)?[/\\\\][^`\n]*[/\\\\]([^`/\\\\\n]+)`", r"`\1`", card)
    if base:
        card = re.sub(r"^(library_name: .*\n)", rf"\1base_model: {base}\n", card, count=1, flags=re.MULTILINE)
    if merged:
        card = re.sub(r"^library_name: peft$", "library_name: transformers", card, count=1, flags=re.MULTILINE)
        card = re.sub(r"^# Adapter of ", "# Model of ", card, count=1, flags=re.MULTILINE)
        card = re.sub(r"^# Centrally trained adapter$", "# Centrally trained model", card, count=1, flags=re.MULTILINE)
        card = card.partition("\nIn this folder:\n")[0] + "\nThe adapter is merged into the weights.\n"
    return card


def _code(text: str) -> str:
    """``text`` as code in a cell of a table, which some of its characters would end."""
    return f"`{shown(text).replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def _plain(text: str) -> str:
    """``text`` as running text, of which nothing is a sign of Markdown or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#!|~&$])", r"\\\1", shown(text))


def _schedule(config: RunConfig) -> str:
    """How the learning rate changes, in brackets; empty if it does not."""
    parts = [config.lr_schedule] if config.plans_lr else []
    parts += [f"warm-up over the first {100 * config.lr_warmup:g} %"] if config.lr_warmup else []
    return f" ({', '.join(parts)})" if parts else ""


def _card(config: RunConfig, title: str, text: str, rows: Rows, tags: list[str], plugins: Sequence[str]) -> str:
    base = config.model_name_or_path or "the backend's default"
    all_rows = [
        ("Base model", f"{_code(base)} (backend {_code(config.model_backend)})"),
        ("Data", _code(config.dataset or "the default of the backend")),
        *rows,
        ("Task", config.task if len(config.tasks) == 1 else f"{config.task}, questions to captions {config.task_mix}"),
        *([("Prompt", _code(config.prompt))] if config.prompt else []),
        (
            "Adapter",
            f"LoRA rank {config.lora_r}, alpha {config.lora_alpha}, dropout {config.lora_dropout} "
            f"({config.lora_targets})",
        ),
        (
            "Optimiser",
            f"AdamW, learning rate {config.lr}{_schedule(config)}, weight decay {config.weight_decay}, "
            f"{config.batch_size} x {config.grad_accum} samples a step",
        ),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in all_rows)
    # Only a Hub id makes a link; a shipped checkpoint or a folder does not.
    base_line = f"base_model: {base}\n" if re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", base) else ""
    own = "".join(f" --plugin {shown(quoted(Path(file).name))}" for file in plugins)
    usage = "\n".join(f"fedumm {TASKS[task].example} --adapter .{own}" for task in config.tasks)
    tag_lines = "\n".join(f"- {tag}" for tag in ["lora", "fedumm", *tags])
    return f"""---
library_name: peft
{base_line}tags:
{tag_lines}
---

# {title}

{text}

| | |
|---|---|
{table}

In this folder:

```
{usage}
```
"""
