"""Janus's adapter in plain PEFT, its size, and checkpoints that are refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import JanusConfig, JanusForConditionalGeneration, JanusProcessor, LlamaConfig
from transformers.models.janus.configuration_janus import JanusVisionConfig, JanusVQVAEConfig

from fedumm.adapters.folder import save_folder
from fedumm.adapters.lora import with_lora
from fedumm.adapters.model import AdapterSlot
from fedumm.backends.januspro import model as janus
from fedumm.backends.januspro.backend import JanusProBackend
from fedumm.backends.januspro.dataset import JanusDataset
from fedumm.backends.januspro.load import load_pretrained
from fedumm.errors import FedummError
from support.random_janus import BOTH, CPU, batch_of, build


def test_the_adapter_has_the_size_it_is_known_for() -> None:
    """On Janus-Pro-1B's architecture, rank 16: the language model's query, key and value, and nothing else."""
    text = LlamaConfig(
        vocab_size=102400, hidden_size=2048, intermediate_size=5632, num_hidden_layers=24, num_attention_heads=16,
        num_key_value_heads=16, max_position_embeddings=16384,
    )  # fmt: skip
    vision = JanusVisionConfig(
        hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, image_size=384, patch_size=16,
        projection_dim=2048, num_image_tokens=576,
    )  # fmt: skip
    vq = JanusVQVAEConfig(projection_dim=2048, image_token_embed_dim=2048)
    config = JanusConfig(text_config=text, vision_config=vision, vq_config=vq, tie_word_embeddings=False)

    def trained(wide: bool, draws: bool) -> dict[str, int]:
        with torch.device("meta"):
            model = with_lora(JanusForConditionalGeneration(config), 16, 32, 0.0, janus.lora_targets(wide, draws))
        return {name: p.numel() for name, p in model.named_parameters() if p.requires_grad}

    assert sum(trained(False, True).values()) == sum(trained(False, False).values()) == 4_718_592
    narrow, answers, draws = trained(False, True), trained(True, False), trained(True, True)
    assert narrow.keys() < answers.keys() < draws.keys()
    assert not any("vision_model" in name or "vqmodel" in name for name in draws)
    layer = 16 * (4 * (2048 + 2048) + 3 * (2048 + 5632))
    assert sum(answers.values()) == 24 * layer
    heads = {name.split(".lora_")[0].split("model.")[-1] for name in draws.keys() - answers.keys()}
    assert heads == {
        "generation_aligner.fc1", "generation_aligner.hidden_layers.0", "generation_head.proj_out",
        "generation_head.vision_head",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_the_adapter_loads_in_plain_peft_and_transformers(
    janus_folder: Path, tmp_path: Path, janus_data: JanusDataset
) -> None:
    backend, model, _ = build(janus_folder, BOTH, "all")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(torch.randn_like(parameter) * 0.05)
    config = json.loads(json.dumps(model.peft_config["default"].to_dict(), default=sorted))
    save_folder(tmp_path / "adapter", AdapterSlot(model).get(), config, "card")
    plain = PeftModel.from_pretrained(
        JanusForConditionalGeneration.from_pretrained(janus_folder, dtype=torch.float32), tmp_path / "adapter"
    ).eval()
    for task in BOTH:
        batch = batch_of(janus_data, task)
        with torch.no_grad():
            torch.manual_seed(5)
            ours = backend.train_step(model, batch, CPU)
            torch.manual_seed(5)
            theirs = backend.train_step(plain, batch, CPU)
        assert torch.equal(ours, theirs)


def copied(folder: Path, to: Path, file: str = "", **fields: Any) -> str:
    """A copy of the checkpoint with some fields of a JSON file replaced; None removes one."""
    shutil.copytree(folder, to, dirs_exist_ok=True)
    if file:
        content = json.loads((to / file).read_text())
        content = {name: value for name, value in {**content, **fields}.items() if value is not None}
        (to / file).write_text(json.dumps(content))
    return str(to)


def test_the_old_layout_is_refused_with_the_name_of_the_native_one(janus_folder: Path, tmp_path: Path) -> None:
    old = copied(janus_folder, tmp_path / "Janus-Pro-7B", "config.json", model_type="multi_modality")
    with pytest.raises(FedummError, match="native layout are deepseek-community/Janus-Pro-7B"):
        load_pretrained(old, CPU)
    with pytest.raises(FedummError, match="native layout are deepseek-community/Janus-Pro-1B"):
        load_pretrained("deepseek-ai/Janus-Pro-1B", CPU)


def test_a_tokenizer_without_the_special_tokens_is_refused(janus_folder: Path, tmp_path: Path) -> None:
    bare = json.loads((janus_folder / "tokenizer_config.json").read_text())
    gone = {name: None for name in bare if name in ("image_token", "boi_token", "eoi_token", "extra_special_tokens")}
    gone |= {name: None for name in bare if name == "model_specific_special_tokens"}
    path = copied(janus_folder, tmp_path / "bare", "tokenizer_config.json", **gone)
    with pytest.raises(FedummError, match="lacks Janus's special tokens"):
        load_pretrained(path, CPU)


def test_an_image_that_does_not_fit_the_context_is_refused(janus_folder: Path, tmp_path: Path) -> None:
    config = json.loads((janus_folder / "config.json").read_text())
    path = copied(
        janus_folder,
        tmp_path / "short",
        "config.json",
        text_config={**config["text_config"], "max_position_embeddings": 60},
    )
    with pytest.raises(FedummError, match="an image's 64 tokens do not fit the context of 60"):
        load_pretrained(path, CPU)


def test_files_of_different_checkpoints_are_refused(janus_folder: Path, tmp_path: Path) -> None:
    path = copied(janus_folder, tmp_path / "mixed", "config.json", image_token_id=3)
    with pytest.raises(FedummError, match="has the id 6 in the tokenizer and 3 in the model"):
        load_pretrained(path, CPU)
    processor = JanusProcessor.from_pretrained(janus_folder)
    other = tmp_path / "other"
    copied(janus_folder, other)
    processor.num_image_tokens = 576
    processor.save_pretrained(other)
    with pytest.raises(FedummError, match="the processor makes 576 tokens of an image, the model 64"):
        load_pretrained(str(other), CPU)


def test_other_models_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="does not hold a Janus"):
        load_pretrained(str(tmp_path), CPU)


def test_what_has_no_captions_has_no_default_data() -> None:
    assert JanusProBackend(("vqa",)).hf_dataset_name() == "vqav2"
    with pytest.raises(FedummError, match="which captioned images to learn from"):
        JanusProBackend(BOTH).hf_dataset_name()
