#!/usr/bin/env python
"""The table of published models in ``docs/models.md``, worked out from their real configurations.

    python benchmarks/models.py

No weights are made (meta device), nothing is downloaded, nothing is timed.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from PIL import Image

from common import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from fedumm.backends.hf_vlm.prompts import QUESTION, Prompts
from published_models import PUBLISHED, Published, adapted, on_meta

PAGE = ROOT / "docs" / "models.md"
START, END = "<!-- benchmarks/models.py -->", "<!-- end -->"
COLUMNS = [
    "name", "published as", "backend", "parameters", "weights GB, float32", "bfloat16", "24 GB hold the weights in",
    "LoRA layers", "trained", "adapter bytes", "image tokens", "features bytes",
]  # fmt: skip
RANK, BOARD = 16, 24 * 10**9
PICTURE = (640, 480)


def image_tokens(published: Published, config: Any, processor: Any) -> int:
    """Tokens of a picture of 640 x 480 pixels."""
    if published.backend == "januspro":
        return int(processor.num_image_tokens)
    if published.backend == "blip_vqa":
        return int((config.vision_config.image_size // config.vision_config.patch_size) ** 2 + 1)
    prompts = Prompts(processor, config.image_token_id)
    return prompts.encode([Image.new("RGB", PICTURE)], QUESTION).ids.count(config.image_token_id)


def feature_width(config: Any) -> int:
    """Numbers that are kept of an image's token."""
    levels = len(getattr(config.vision_config, "deepstack_visual_indexes", ()))
    return int((1 + levels) * config.get_text_config().hidden_size)


def row(name: str, published: Published) -> list[str]:
    """One model's numbers."""
    config, processor = published.build()
    tokens = image_tokens(published, config, processor)
    model = on_meta(config, published.backend)
    total = sum(own.numel() for own in model.parameters())
    model = adapted(model, published.backend, RANK)
    layers = sum(key.endswith("lora_A.default.weight") for key, _ in model.named_parameters())
    trained = sum(own.numel() for own in model.parameters() if own.requires_grad)
    kinds = [kind for kind, size in (("float32", 4), ("bfloat16", 2)) if size * total < BOARD]
    kept = f"{2 * tokens * feature_width(config):,}" if published.keeps_features else "not kept"
    return [
        name, f"`{published.hub}`", f"`{published.backend}`", f"{total:,}", f"{4 * total / 1e9:.1f}",
        f"{2 * total / 1e9:.1f}", ", ".join(kinds) or "neither", str(layers), f"{trained:,}", f"{4 * trained:,}",
        str(tokens), kept,
    ]  # fmt: skip


def table() -> str:
    """All models, as the page has them."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(row(name, published) for name, published in PUBLISHED.items())]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def written(page: str) -> str:
    """``page`` with the table between its marks."""
    pattern = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{START}\n\n{table()}\n\n{END}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.relative_to(ROOT)} written")
