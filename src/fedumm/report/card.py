"""The model card in an adapter folder (Hugging Face's format)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedumm.config import CentralConfig, FederateConfig, RunConfig

Rows = list[tuple[str, str]]


def percent(value: float | None) -> str:
    """``0.5`` as ``50.00 %``; a dash for None."""
    return "-" if value is None else f"{100 * value:.2f} %"


def federated_card(config: FederateConfig, version: int, scores: Mapping[str, Any], run: str) -> str:
    """Card of the global adapter after ``version`` rounds."""
    split = f"Dirichlet({config.dirichlet_alpha}) over {config.partition_by}" if config.dirichlet_alpha else "IID"
    rows = [
        ("Clients", f"{config.num_clients}, {split}, seed {config.seed}"),
        ("Rounds", f"{version} of {config.num_rounds}, {config.local_epochs} local epoch(s) each, FedAvg"),
        ("Score on the clients' held-out data", percent(scores.get("heldout"))),
        ("Score on the common test set", percent(scores.get("test"))),
    ]
    text = (
        "Trained by federated averaging with FedUMM: the clients' data stayed with them, only adapters travelled.\n"
        "The held-out score is the mean over all clients' examples; a dash means not evaluated yet."
    )
    return _card(config, f"Adapter of the run `{run}`", text, rows, ["federated-learning"])


def central_card(config: CentralConfig, scores: Mapping[str, Any]) -> str:
    """Card of a centrally trained adapter."""
    rows = [
        ("Epochs", f"{config.num_epochs}, seed {config.seed}"),
        ("Score on the evaluation data", percent(scores.get("test"))),
    ]
    return _card(config, "Centrally trained adapter", "The centralised baseline of FedUMM.", rows, [])


def _card(config: RunConfig, title: str, text: str, rows: Rows, tags: list[str]) -> str:
    base = config.model_name_or_path or "the backend's default"
    all_rows = [
        ("Base model", f"`{base}` (backend `{config.model_backend}`)"),
        ("Data", f"`{config.dataset or 'the default of the backend'}`"),
        *rows,
        ("Adapter", f"LoRA rank {config.lora_r}, alpha {config.lora_alpha}, dropout {config.lora_dropout}"),
        (
            "Optimiser",
            f"AdamW, learning rate {config.lr}, weight decay {config.weight_decay}, "
            f"{config.batch_size} x {config.grad_accum} samples a step",
        ),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in all_rows)
    # Only a Hub id makes a link; a shipped checkpoint or a folder does not.
    hub_id = base.count("/") == 1 and not base.startswith((".", "/", "~"))
    base_line = f"base_model: {base}\n" if hub_id else ""
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

```
fedumm ask IMAGE "what color is the shape?" --adapter <this folder>
```
"""
