"""Image-text models from folders: processors without torchvision, old files, and what is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedumm.backends.hf_vlm.load import load_model, load_prompts, settle
from fedumm.backends.hf_vlm.prompts import blank
from fedumm.errors import FedummError
from support.torchvision_stub import write_stub
from support.vlm_families import FAMILIES, build, save

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

_PIXELS = """
import hashlib, sys, warnings
warnings.simplefilter("ignore")
from transformers.utils import is_torchvision_available
from fedumm.backends.hf_vlm.load import load_prompts
from fedumm.backends.hf_vlm.prompts import blank
print(is_torchvision_available())
for folder in sys.argv[1:]:
    made = load_prompts(folder).encode([blank()], "What?")
    print(hashlib.sha256(made.image["pixel_values"].numpy().tobytes()).hexdigest(), *made.ids)
"""


def pixels(folders: list[Path], *first: Path) -> list[str]:
    paths = [*map(str, first), os.environ.get("PYTHONPATH", ""), *sys.path]
    result = subprocess.run(
        [sys.executable, "-c", _PIXELS, *map(str, folders)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


@pytest.mark.slow
def test_pixels_and_tokens_are_the_same_with_torchvision_and_without(tmp_path: Path) -> None:
    folders = [save(name, tmp_path / name) for name in FAMILIES]
    without, with_it = pixels(folders), pixels(folders, write_stub(tmp_path / "stub"))
    assert (without[0], with_it[0]) == ("False", "True")
    assert without[1:] == with_it[1:]
    assert len(set(without)) > 10


def test_a_torchvision_that_does_not_fit_torch_is_named_as_the_cause(tmp_path: Path) -> None:
    stub = write_stub(tmp_path / "stub", 'raise RuntimeError("operator torchvision::nms does not exist")\n')
    model = save("llava", tmp_path / "model")
    command = ["check", "shapes", "--model_backend", "hf_vlm", "--model_name_or_path", str(model)]
    result = subprocess.run(
        [sys.executable, "-m", "fedumm", *command, "--max_train_samples", "20", "--max_eval_samples", "10"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(stub), *sys.path])}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode
    assert "torchvision" in result.stderr.splitlines()[-1]
    assert "pip uninstall torchvision" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("name", ["qwen2_5_vl", "llava", "paligemma"])
def test_the_old_layout_of_a_checkpoint_is_read(name: str, tmp_path: Path) -> None:
    """Weights as ``pytorch_model.bin``, the image processor in ``preprocessor_config.json``."""
    folder = save(name, tmp_path / "new")
    model, _ = build(name)
    old = tmp_path / "old"
    old.mkdir()
    torch.save(model.state_dict(), old / "pytorch_model.bin")
    settings = json.loads((folder / "processor_config.json").read_text())
    images = settings.pop("image_processor")
    (old / "preprocessor_config.json").write_text(
        json.dumps({**images, "processor_class": settings["processor_class"]})
    )
    (old / "processor_config.json").write_text(json.dumps(settings))
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (old / file).write_bytes((folder / file).read_bytes())
    made, other = (load_prompts(str(where)).encode([blank()], "What?") for where in (folder, old))
    assert made.ids == other.ids
    assert torch.equal(made.image["pixel_values"], other.image["pixel_values"])
    one, two = (load_model(str(where), dtype=torch.float32).state_dict() for where in (folder, old))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_generation_is_greedy_whatever_the_checkpoint_says(tmp_path: Path) -> None:
    folder = save("llava", tmp_path)
    wild = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "num_beams": 3, "eos_token_id": [7, 9],
            "max_length": 3, "forced_eos_token_id": 7, "suppress_tokens": [1, 2, 3]}  # fmt: skip
    (folder / "generation_config.json").write_text(json.dumps(wild))
    prompts, model = load_prompts(str(folder)), load_model(str(folder), dtype=torch.float32)
    ends = settle(model, prompts)
    assert ends == [prompts.end_id, 7, 9]
    made = prompts.encode([blank()], "What?")
    inputs = {"input_ids": torch.tensor([made.ids]), **made.image}
    said = model.generate(**inputs, max_new_tokens=5)[0, len(made.ids) :].tolist()
    ids = list(made.ids)
    with torch.no_grad():
        for token in said:
            logits = model(input_ids=torch.tensor([ids]), **made.image).logits[0, -1]
            assert token == int(logits.argmax())
            ids.append(token)
    assert len(said) == 5 or said[-1] in ends


def test_what_does_not_fit_is_refused_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=r"'blip-2' model with an encoder and a decoder"):
        load_model(str(save("blip2_t5", tmp_path / "t5")), dtype=torch.float32)
    (tmp_path / "none").mkdir()
    with pytest.raises(FedummError, match="does not hold an image-text model that transformers can load"):
        load_model(str(tmp_path / "none"))
    with pytest.raises(FedummError, match="no such folder, and not a Hub id"):
        load_prompts("/nowhere/at/all")
    folder = save("llava", tmp_path / "short")
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    gone = next(name for name in weights if "k_proj" in name)
    save_file(
        {name: own for name, own in weights.items() if name != gone}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(FedummError, match="lacks 1 of the model's weights"):
        load_model(str(folder), dtype=torch.float32)


def test_code_that_comes_with_a_checkpoint_is_never_run(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = {"model_type": "a-model-of-its-own", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for load in (load_prompts, load_model):
        with pytest.raises(FedummError, match="does not hold an image-text model"):
            load(str(tmp_path))
    folder = save("llava", tmp_path / "llava")
    for name in ("config.json", "processor_config.json", "tokenizer_config.json"):
        own = json.loads((folder / name).read_text())
        own["auto_map"] = dict.fromkeys(("AutoConfig", "AutoProcessor", "AutoModelForImageTextToText"), "evil.Thing")
        (folder / name).write_text(json.dumps(own))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    load_prompts(str(folder))
    load_model(str(folder), dtype=torch.float32)
    assert not (tmp_path / "ran").exists()
