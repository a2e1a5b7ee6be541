"""``fedumm export``: what others get says which model it is for, holds no path of this machine, and works."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, BlipForQuestionAnswering

import fedumm
from fedumm.cli.main import main
from fedumm.model_card import for_others
from support.hub_server import HubServer

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
MODEL = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu"]
FEW = ["--max_train_samples", "16", "--max_eval_samples", "6", "--report_samples", "off"]
TINY = Path(fedumm.__file__).parent / "checkpoints" / "tiny_blip_vqa"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A central run whose adapter is far from nothing."""
    folder = tmp_path_factory.mktemp("central") / "blip"
    assert main(["train", *MODEL, *FEW, "--output_dir", str(folder)]) == 0
    weights = folder / "adapter" / "adapter_model.safetensors"
    torch.manual_seed(0)
    save_file({name: own + 0.05 * torch.randn_like(own) for name, own in load_file(weights).items()}, weights)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_folder_is_the_adapter_without_paths(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "mine"
    assert main(["export", str(run), "--out", str(out), "--base_model", "owner/base"]) == 0
    found = files(out)
    assert sorted(found) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "fedumm.json"]
    assert found["adapter_model.safetensors"] == (run / "adapter" / "adapter_model.safetensors").read_bytes()
    assert json.loads(found["adapter_config.json"])["base_model_name_or_path"] == "owner/base"
    card = found["README.md"].decode()
    assert card.startswith("---\nlibrary_name: peft\nbase_model: owner/base\n")
    texts = b"".join(own for name, own in found.items() if not name.endswith(".safetensors"))
    assert str(run.parent).encode() not in texts
    assert b"/checkpoints/" not in texts
    # The copy answers as the original does.
    picture = tmp_path / "picture.png"
    from PIL import Image

    Image.new("RGB", (64, 64), "red").save(picture)
    capsys.readouterr()
    said = []
    for folder in (run / "adapter", out):
        assert main(["ask", str(picture), "what color is the shape?", "--adapter", str(folder), "--gpu", "cpu"]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_the_merged_model_is_the_model_with_its_adapter(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole"
    assert main(["export", str(run), "--merge", "--out", str(out)]) == 0
    base = BlipForQuestionAnswering.from_pretrained(TINY, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, run / "adapter").eval()
    merged = BlipForQuestionAnswering.from_pretrained(out, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(out)
    size = merged.config.vision_config.image_size
    inputs: dict[str, Any] = {
        "input_ids": processor.tokenizer(["what is it?"], return_tensors="pt").input_ids,
        "pixel_values": torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(1)),
        "labels": processor.tokenizer(["red"], return_tensors="pt").input_ids,
    }
    with torch.no_grad():
        ours, theirs = adapted(**inputs).loss, merged(**inputs).loss
        with adapted.disable_adapter():
            assert abs(float(adapted(**inputs).loss) - float(ours)) > 1e-2, "the adapter has an effect"
    assert float(ours) == pytest.approx(float(theirs), rel=1e-5)
    card = (out / "README.md").read_text()
    assert "merged into the weights" in card
    assert "\n# Centrally trained model\n" in card


def test_of_a_local_model_only_what_belongs_to_it_is_handed_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(TINY, mine)
    (mine / ".env").write_text("SECRET=1")
    (mine / "notes").mkdir()
    (mine / "notes" / "patients.txt").write_text("names")
    settings = mine / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "name_or_path": str(tmp_path / "alice")}))
    monkeypatch.setattr("fedumm.training.merging.checkpoint_folder", lambda config, backbone: mine)
    assert main(["export", str(run), "--merge", "--out", str(tmp_path / "whole")]) == 0
    found = files(tmp_path / "whole")
    assert all("/" not in name and not name.startswith(".") for name in found)
    assert b"alice" not in b"".join(own for name, own in found.items() if name.endswith(".json"))


def test_a_merged_model_that_is_another_is_not_handed_out(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = itertools.count(1)
    monkeypatch.setattr("fedumm.training.merging.losses", lambda backbone, config: [float(next(made))])
    assert main(["export", str(run), "--merge", "--out", str(tmp_path / "whole")]) == 2
    assert "says something else" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def pushed(server: HubServer, home: Path, *options: str, token: str = "hf_writer") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **server.env(home), "HF_TOKEN": token, "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-m", "fedumm", "export", *options]
    return subprocess.run(command, capture_output=True, text=True, env=env, cwd=home, timeout=120)


@pytest.mark.slow
def test_it_is_uploaded_to_a_private_repository(run: Path, tmp_path: Path) -> None:
    with HubServer({}, tmp_path / "hub") as server:
        done = pushed(server, tmp_path, str(run), "--push", "lab/adapter", "--base_model", "owner/base")
        assert done.returncode == 0, done.stderr
        assert f"Uploaded to {server.endpoint}/lab/adapter" in done.stdout
        assert server.created["lab/adapter"]["visibility"] == "private"
        uploaded = files(tmp_path / "hub" / "lab" / "adapter")
        assert uploaded["adapter_model.safetensors"] == (run / "adapter" / "adapter_model.safetensors").read_bytes()
        assert b"base_model: owner/base" in uploaded["README.md"]
        again = pushed(server, tmp_path, str(run), "--push", "lab/adapter", "--base_model", "owner/other")
        assert again.returncode == 0, again.stderr
        assert b"owner/other" in files(tmp_path / "hub" / "lab" / "adapter")["README.md"]
        server.readers.add("hf_reader")
        refused = pushed(server, tmp_path, str(run), "--push", "lab/second", token="hf_reader")
        assert refused.returncode == 2
        assert "Export with --out" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".export")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["nowhere"], "no run with an adapter"),
        (["{run}", "--push", "no owner"], "not a name on the Hub"),
        (["{run}", "--out", "{run}"], "exists. Choose a new folder"),
        (["{run}", "--out", "{run}/config.yaml/mine"], "--out {run}/config.yaml/mine can't be written to"),
    ],
)
def test_mistakes_are_told_before_any_work(
    options: list[str], told: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *(option.format(run=run) for option in options)]) == 2
    assert told.format(run=run) in capsys.readouterr().err


def test_a_card_for_others_names_no_folder_of_this_machine() -> None:
    card = (
        "---\nlibrary_name: peft\nbase_model: old/one\ntags:\n- lora\n---\n\n# Adapter of the run `r`\n\n"
        "| Base model | `/data/me/models/blip` |\n"
        "| Data | `C:\\me\\data.csv` |\n| Other | `shapes` | `a/b` |\n\nIn this folder:\n\n```\nfedumm ask\n```\n"
    )
    told = for_others(card, "new/one", merged=True)
    assert "`blip`" in told
    assert "`data.csv`" in told
    assert "`a/b`" in told
    assert "/me" not in told
    assert "\\me" not in told
    assert told.startswith("---\nlibrary_name: transformers\nbase_model: new/one\ntags:")
    assert "fedumm ask" not in told
    assert "\n# Model of the run `r`\n" in told
