"""What holds for every shipped backend and each of its tasks. A backend is a row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.backends.blip_vqa.model import load_pretrained
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import CentralConfig, FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits
from fedumm.training.evaluation import evaluate
from fedumm.training.feature_cache import cache_features
from fedumm.training.trainer import train_epochs
from support.vlm_families import save

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
CPU = torch.device("cpu")
ROWS = [
    ("blip_vqa", "tiny", "vqa"),
    ("januspro", "tiny", "vqa"),
    ("januspro", "tiny", "i2t"),
    ("januspro", "tiny", "t2i"),
    ("hf_vlm", "qwen3_vl", "vqa"),
    ("hf_vlm", "llava_onevision", "i2t"),
]
each = pytest.mark.parametrize(("backend", "model", "task"), ROWS)


def options(backend: str, model: str, task: str, folder: Path) -> dict[str, Any]:
    name = model if model == "tiny" else str(save(model, folder / "model"))
    return {
        "model_backend": backend, "model_name_or_path": name, "task": task, "dataset": "shapes", "threads": 1,
        "geneval_prompts": 0, "lora_dropout": 0.0, "batch_size": 8, "grad_accum": 1,
        "feature_cache_dir": str(folder / "features"), **({"max_a_len": 24} if task == "i2t" else {}),
    }  # fmt: skip


@pytest.mark.slow
@each
def test_eight_samples_are_learnt_by_heart(backend: str, model: str, task: str, tmp_path: Path) -> None:
    given = options(backend, model, task, tmp_path)
    wide = "attention" if backend == "blip_vqa" else "all"
    config = CentralConfig(
        **given, lr=2e-3, weight_decay=0.0, max_train_samples=8, max_eval_samples=8, lora_targets=wide
    )
    rows = load_splits(config).train
    backbone = load_backbone(config, CPU, references=rows["texts"][:] if task == "i2t" else ())
    data = backbone.backend.build_dataset(rows, backbone.processor, config.max_q_len, config.max_a_len)
    cache_features(backbone, [data], config, lambda *_: None)
    losses: list[float] = []
    before = evaluate(backbone, data, config)[task].score
    train_epochs(backbone, data, config, 200, 0, after_epoch=lambda _, loss: losses.append(loss))
    after = evaluate(backbone, data, config)[task].score
    # Every tenth caption is left out in training: images to draw are learnt with and without. Texts of images are
    # sentences, scored by ROUGE-L.
    assert after >= {"vqa": 1.0, "i2t": 0.9, "t2i": before + 0.1}[task]
    assert losses[-1] < 0.75 * losses[0]


@each
def test_hosts_do_not_change_a_federated_bit(backend: str, model: str, task: str, tmp_path: Path) -> None:
    given = options(backend, model, task, tmp_path)
    made = []
    for hosts in (1, 2):
        folder = tmp_path / str(hosts)
        config = FederateConfig(
            **given, num_clients=2, num_rounds=2, hosts=hosts,
            max_train_samples=32, max_eval_samples=8, lr=1e-3, in_process=True,
        )  # fmt: skip
        create(folder, config, "test").release()
        run_in_process(config, RunFolder(folder, config), lambda *_: None)
        made.append((folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes())
    assert made[0] == made[1]


def test_a_blip_in_the_old_layout_is_the_same_model(tmp_path: Path) -> None:
    """As it was published: ``pytorch_model.bin``, ``preprocessor_config.json``, ``vocab.txt``."""
    new = Path(resolve_checkpoint("blip_vqa", "tiny"))
    model, processor = load_pretrained(str(new))
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_bytes((new / "config.json").read_bytes())
    words = sorted(processor.tokenizer.get_vocab().items(), key=lambda pair: pair[1])
    (tmp_path / "vocab.txt").write_text("".join(f"{word}\n" for word, _ in words))
    settings = json.loads((new / "processor_config.json").read_text())["image_processor"]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**settings, "processor_class": "BlipProcessor"}))
    facts = {"tokenizer_class": "BertTokenizer", "do_lower_case": True, "bos_token": "[DEC]"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(facts))
    old, other = load_pretrained(str(tmp_path))
    assert all(torch.equal(own, model.state_dict()[name]) for name, own in old.state_dict().items())
    for text in ("What color is the shape?", "Is there a blue circle in the image?"):
        assert other.tokenizer(text).input_ids == processor.tokenizer(text).input_ids
    assert other.image_processor.to_dict() == processor.image_processor.to_dict()
