"""Image-text models federated: every family in process, and through FLARE to the same bits."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from PIL import Image
from transformers import AutoModelForImageTextToText

from fedumm.backends.hf_vlm.load import load_prompts
from fedumm.config import FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create, read_records
from support.vlm_families import FAMILIES, save

JOB = Path(__file__).parents[3] / "job.py"
QUICK = {"smolvlm", "qwen2_5_vl", "paligemma", "llava"}
OPTIONS: dict[str, Any] = {
    "model_backend": "hf_vlm", "dataset": "shapes", "num_clients": 2, "num_rounds": 2, "max_train_samples": 24,
    "max_eval_samples": 8, "threads": 1, "lr": 0.003, "lora_r": 4,
}  # fmt: skip
EXACT = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
pytestmark = [*EXACT, pytest.mark.timeout(240)]


def weights(folder: Path) -> bytes:
    return (folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes()


def in_process(folder: Path, model: Path, **more: Any) -> list[dict[str, Any]]:
    options = {**OPTIONS, "feature_cache_dir": str(folder.parent / "features"), **more}
    config = FederateConfig(**options, model_name_or_path=str(model), in_process=True)
    create(folder, config, "test").release()
    run_in_process(config, RunFolder(folder, config), lambda *_: None)
    return list(read_records(folder))


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_two_rounds_give_an_adapter_that_plain_peft_takes(name: str, tmp_path: Path) -> None:
    model = save(name, tmp_path / "model")
    records = in_process(tmp_path / "run", model)
    losses = [record["train_loss"] for record in records if record["event"] == "round"]
    assert losses[1] < losses[0]
    (setup,) = [record for record in records if record["event"] == "setup"]
    assert any(line.startswith("LoRA on 6 layers: ") for line in setup["findings"])
    folder = tmp_path / "run" / "adapter" / "last"
    base = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32)
    made = load_prompts(str(model)).encode([Image.new("RGB", (60, 50), "red")], "What?")
    inputs = {
        "input_ids": torch.tensor([made.ids]),
        **{k: torch.tensor([v]) for k, v in made.types.items()},
        **made.image,
    }
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    with torch.no_grad():
        before = base(**inputs).logits
        after = PeftModel.from_pretrained(base, folder).eval()(**inputs).logits
    assert not torch.equal(before, after)


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_flare_gives_the_same_bits(name: str, tmp_path: Path) -> None:
    model = save(name, tmp_path / "model")
    in_process(tmp_path / "run", model)
    flags = [str(part) for key, value in OPTIONS.items() for part in (f"--{key}", value)]
    result = subprocess.run(
        [sys.executable, str(JOB), *flags, "--model_name_or_path", str(model), "--simulator", "--hosts", "2",
         "--feature_cache_dir", str(tmp_path / "others"), "--name", str(tmp_path / "flare")],
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert weights(tmp_path / "run") == weights(tmp_path / "flare")
