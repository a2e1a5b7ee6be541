"""Published models without their weights: real numbers of parameters, and random weights that a backend can use."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

import make_random_checkpoint
import vlm_builders
from fedumm.backends.hf_vlm.backend import HfVlmBackend
from fedumm.backends.hf_vlm.load import load_model
from fedumm.backends.hf_vlm.vision import Vision
from fedumm.errors import FedummError
from models import feature_width
from published_models import PUBLISHED, Published, adapted, on_meta
from random_weights import INDEX, random_weights, write_weights
from support.vlm_families import FAMILIES

CPU = torch.device("cpu")
SIZES = {
    # Layers, width, heads, heads of keys and values, width of a head: of each model's own description.
    "smolvlm-256m": (30, 576, 9, 3, 64),
    "smolvlm-500m": (32, 960, 15, 5, 64),
    "qwen2.5-vl-3b": (36, 2048, 16, 2, 128),
    "qwen2.5-vl-7b": (28, 3584, 28, 4, 128),
    "qwen3-vl-2b": (28, 2048, 16, 8, 128),
    "qwen3-vl-4b": (36, 2560, 32, 8, 128),
    "paligemma-3b-224": (18, 2048, 8, 1, 256),
    "gemma-3-4b": (34, 2560, 8, 4, 256),
    "internvl3-1b": (24, 896, 14, 2, 64),
    "llava-1.5-7b": (32, 4096, 32, 32, 128),
    "llava-next-mistral-7b": (32, 4096, 32, 8, 128),
    "llava-onevision-0.5b": (24, 896, 14, 2, 64),
    "blip2-opt-2.7b": (32, 2560, 32, 32, 80),
    "janus-pro-1b": (24, 2048, 16, 16, 128),
    # A text encoder and a text decoder, each of which attends to itself and to the other input.
    "blip-vqa-base": (48, 768, 12, 12, 64),
}

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_model_has_as_many_parameters_as_the_published_one(name: str) -> None:
    published = PUBLISHED[name]
    config, _ = published.build()
    model = on_meta(config, published.backend)
    total = sum(own.numel() for own in model.parameters())
    if published.total:
        assert total == published.total
    layers, width, heads, few, head = SIZES[name]
    lora = 16 * layers * ((width + heads * head) + 2 * (width + few * head))
    trained = [own for own in adapted(model, published.backend, 16).parameters() if own.requires_grad]
    assert sum(own.numel() for own in trained) == lora
    assert sum(own.numel() for own in model.parameters()) == total + lora


def small(name: str) -> Any:
    config, _ = FAMILIES[name]()
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)


@pytest.mark.parametrize("name", vlm_builders.FAMILIES)
def test_an_image_has_an_effect_and_no_weight_is_missing(name: str, tmp_path: Path) -> None:
    """And its features are as many numbers as ``benchmarks/models.py`` says."""
    config, processor = FAMILIES[name]()
    vlm_builders.save_processor(processor, tmp_path)
    config.save_pretrained(tmp_path)
    write_weights(small(name), tmp_path, torch.float32, 0)
    model = load_model(str(tmp_path), dtype=torch.float32).eval()
    made = [dict(_asked(FAMILIES[name]()[1], shade)) for shade in (0, 255)]
    with torch.no_grad():
        black, white = (model(**own).logits[0, -1] for own in made)
        features = Vision(model).encode(made[0]) if name != "instructblip" else None
    assert float(black.std()) > 0.1
    assert float((black - white).abs().max()) > 0.02 * float(black.std())
    if features is not None:
        assert features.shape == (int((made[0]["input_ids"] == config.image_token_id).sum()), feature_width(config))


def _asked(processor: Any, shade: int) -> Any:
    from PIL import Image

    picture = Image.new("RGB", (56, 28), (shade, 128, 255 - shade))
    if processor.chat_template is None:
        return processor(images=picture, text="What?", return_tensors="pt")
    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]}
    text = processor.apply_chat_template([turn], add_generation_prompt=True)
    made = processor(text=[text], images=[[picture]], return_tensors="pt")
    made.pop("labels", None)
    return made


def test_weights_depend_on_the_seed_alone(tmp_path: Path) -> None:
    model = small("gemma3")
    whole, parts, other = (tmp_path / name for name in ("whole", "parts", "other"))
    for folder, seed, most in ((whole, 3, 1 << 30), (parts, 3, 20_000), (other, 4, 1 << 30)):
        folder.mkdir()
        write_weights(model, folder, torch.float32, seed, most)
    files = [len(list(folder.glob("*.safetensors"))) for folder in (whole, parts)]
    assert files[0] == 1 < files[1]
    config, _ = FAMILIES["gemma3"]()
    states = []
    for folder in (whole, parts, other):
        config.save_pretrained(folder)
        states.append(load_model(str(folder), dtype=torch.float32).state_dict())
    assert all(torch.equal(own, states[1][name]) for name, own in states[0].items())
    assert not all(torch.equal(own, states[2][name]) for name, own in states[0].items())
    assert json.loads((parts / INDEX).read_text())["metadata"]["total_size"] == sum(
        own.nbytes for name, own in states[0].items() if name != "lm_head.weight"  # which is the table of tokens
    )  # fmt: skip


@pytest.mark.parametrize("name", ["gemma3", "qwen3_vl", "llava", "internvl"])
def test_norms_only_normalise(name: str) -> None:
    """Their weights are those that the library gives a new model, whether it adds one to them or not."""
    config, _ = FAMILIES[name]()
    fresh = dict(AutoModelForImageTextToText.from_config(config).named_parameters())
    made = {key: own for key, own in random_weights(small(name), torch.float32, 0) if "norm" in key}
    assert made
    assert all(torch.equal(own, fresh[key]) for key, own in made.items())


def test_the_command_writes_what_the_backend_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(PUBLISHED, "small", Published("nobody/small", vlm_builders.qwen3_vl))
    folder = tmp_path / "made"

    def said(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["make_random_checkpoint.py", *words])
        code = make_random_checkpoint.main()
        return code, "".join(capsys.readouterr())

    code, text = said("small", str(folder), "--dtype", "bfloat16")
    assert code == 0
    assert f"--model_backend hf_vlm --model_name_or_path {folder}" in text
    _, processor = HfVlmBackend().for_tasks(["vqa"], "attention").build_model_and_processor(str(folder), 4, 8, 0.0, CPU)
    assert processor.known.features
    assert processor.known.composed
    code, text = said("small", str(folder))
    assert code == 1
    assert "is not empty" in text
    code, text = said("smolvlm-255m", str(tmp_path / "other"))
    assert code == 1
    assert "Did you mean 'smolvlm-256m'?" in text
    code, text = said("--list")
    assert code == 0
    assert all(name in text for name in PUBLISHED)


def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**9}))
    with pytest.raises(FedummError, match=r"llava-1.5-7b needs 14.1 GB, and .* has 1.0 GB left"):
        make_random_checkpoint.make("llava-1.5-7b", tmp_path / "large", torch.bfloat16, 0)
    assert not list((tmp_path / "large").iterdir())
