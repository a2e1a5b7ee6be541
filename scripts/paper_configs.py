"""Write ``configs/paper/*.yaml``: the settings of the paper, a file for each cell of its tables.

    python scripts/paper_configs.py

The settings are those of the project's first description (docs/options.md, "Settings of the paper"). What it does not
say is left to the defaults. Of GenEval it says neither on which captions a model learnt to draw, nor how: these files
take the same numbers, Janus-Pro learns to answer and to draw, and ``--dataset`` must be added.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[1] / "configs" / "paper"
CLIENTS, ALPHAS = (2, 4, 8, 16), (0.1, 0.5, 1.0)
MODELS = {"blip_vqa": "BLIP-VQA", "januspro": "Janus-Pro"}
PAPER = "https://arxiv.org/abs/2601.15390"

SETTINGS: dict[str, Any] = {
    "num_rounds": 100,
    "local_epochs": 5,
    "batch_size": 32,
    "grad_accum": 1,
    "lr": 2e-5,
    "weight_decay": 0.05,
    "lora_r": 16,
    "lora_alpha": 32,
}
"""The same in every cell."""


def configs() -> Iterator[tuple[str, str]]:
    """Name and text of each file."""
    for backend, clients, alpha in product(MODELS, CLIENTS, ALPHAS):
        name = f"{backend}-k{clients}-alpha{alpha}.yaml"
        about = f"Table 1 of {PAPER}: {MODELS[backend]} on VQA v2, {clients} clients, alpha {alpha}."
        yield name, _text(name, about, "", {"model_backend": backend, "dataset": "vqav2"}, clients, alpha)
    for clients, alpha in product(CLIENTS, ALPHAS):
        name = f"geneval-januspro-k{clients}-alpha{alpha}.yaml"
        about = f"GenEval as in {PAPER}, with Janus-Pro: {clients} clients, alpha {alpha}."
        own = {"model_backend": "januspro", "task": "unified"}
        yield name, _text(name, about, " --dataset CAPTIONED", own, clients, alpha)


def _text(name: str, about: str, more: str, own: dict[str, Any], clients: int, alpha: float) -> str:
    options = {**own, "num_clients": clients, "dirichlet_alpha": alpha, **SETTINGS}
    lines = [about, f"fedumm federate --config configs/paper/{name}{more} --simulator"]
    if more:
        lines += [
            "fedumm geneval --adapter runs/NAME/adapter/best --out drawn --prompts evaluation_metadata.jsonl",
            "CAPTIONED: questions and captions to learn from, which the paper's description does not name.",
        ]
    lines += ["Written by scripts/paper_configs.py: change it there."]
    return "".join(f"# {line}\n" for line in lines) + yaml.safe_dump(options, sort_keys=False)


def main() -> None:
    """Write the files, and remove those that are none of them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    made = dict(configs())
    for file in FOLDER.glob("*.yaml"):
        if file.name not in made:
            file.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
