"""An adapter folder that was copied somewhere: which model it gets, and what no folder can make the program do."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import BlipForQuestionAnswering

from fedumm.adapters.folder import read_folder, save_folder
from fedumm.adapters.origin import Origin, read_origin
from fedumm.adapters.serialization import encode
from fedumm.checkpoints import resolve_checkpoint
from fedumm.cli import adapted
from fedumm.cli.main import main
from fedumm.config import FederateConfig, RunConfig
from fedumm.errors import FedummError
from fedumm.training import backbone as loading
from support.toy import LORA_TOY, Run, lora_options

OPTIONS = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "lora_r": 3, "lora_alpha": 5}
WEIGHTS, PEFT, ORIGIN = "adapter_model.safetensors", "adapter_config.json", "fedumm.json"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the small BLIP, of a rank and alpha that are not the defaults."""
    folder, config = tmp_path_factory.mktemp("run") / "adapter", RunConfig(**OPTIONS)
    backbone = loading.load_backbone(config, torch.device("cpu"))
    state = {name: t + 0.01 for name, t in backbone.adapter().items()}
    save_folder(folder, state, backbone.adapter_config(), "card", Origin.of(config))
    return folder


@pytest.fixture
def copied(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder without its run, beside an image; nothing else is there."""
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), "red").save("shape.png")
    return Path(shutil.copytree(original, tmp_path / "copy"))


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every backbone that is loaded."""
    seen: list[Any] = []
    load = loading.load_backbone
    monkeypatch.setattr(loading, "load_backbone", lambda *args: seen.append(load(*args)) or seen[-1])
    return seen


def ask(*options: str) -> int:
    return main(["ask", "shape.png", "what shape?", "--adapter", "copy", "--gpu", "cpu", *options])


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    output, errors = capsys.readouterr()
    assert output == ""
    assert len(errors.splitlines()) == 1
    assert errors.rstrip("\n").isprintable()
    return errors


def test_a_copied_adapter_knows_its_model(copied: Path, loaded: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert ask() == 0
    output, errors = capsys.readouterr()
    assert output.strip()
    assert errors == "Model: tiny (backend blip_vqa), as the adapter says\n"
    (backbone,) = loaded
    state, _ = read_folder(copied)
    assert all(torch.equal(t, state[name]) for name, t in backbone.adapter().items())
    assert (backbone.adapter_config()["r"], backbone.adapter_config()["lora_alpha"]) == (3, 5)


def test_what_the_user_says_wins_and_is_not_told_again(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(copied / ORIGIN, model_name_or_path="/moved/away")
    assert ask("--model_backend", "blip_vqa", "--model_name_or_path", resolve_checkpoint("blip_vqa", "tiny")) == 0
    assert capsys.readouterr().err == ""


def test_an_adapter_is_asked_as_it_was_trained_unless_the_user_says_otherwise(copied: Path) -> None:
    change(copied / ORIGIN, prompt="Be short.", model_backend="januspro")
    parser = argparse.ArgumentParser()
    adapted.add_model_options(parser)
    given = parser.parse_args(["--adapter", "copy"])
    assert adapted.adapted_config(given)[0].prompt == "Be short."
    given.prompt = "none"
    assert adapted.adapted_config(given)[0].prompt == "none"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT asks by an old name
def test_plain_peft_still_loads_the_folder(copied: Path) -> None:
    from peft import PeftModel

    base = BlipForQuestionAnswering.from_pretrained(resolve_checkpoint("blip_vqa", "tiny"), dtype=torch.float32)
    model = PeftModel.from_pretrained(base, str(copied))
    (name, factor) = next((n, t) for n, t in read_folder(copied)[0].items() if n.endswith("lora_A.weight"))
    assert torch.equal(model.state_dict()[name.replace(".weight", ".default.weight")], factor)


def test_nobody_elses_options_are_taken_and_no_file_of_theirs_is_run(
    copied: Path, loaded: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """A ``config.yaml`` beside the copy, of another run or of somebody who wants to run code here."""
    Path("other.py").write_text("open('ran', 'w').close()\n")
    Path("config.yaml").write_text(f"model_backend: januspro\nlora_r: 7\nplugin: {Path('other.py').resolve()}\n")
    assert ask() == 0
    assert not Path("ran").exists()
    (copied / ORIGIN).unlink()
    capsys.readouterr()
    assert ask() == 2
    assert "copy holds no fedumm.json, so it does not say which model it belongs to" in one_line(capsys)
    assert not Path("ran").exists()
    assert ask("--model_backend", "blip_vqa", "--model_name_or_path", "tiny") == 0


def test_a_plugin_is_run_only_if_the_user_names_it(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Path("bad.py").resolve()
    bad.write_text("open('ran', 'w').close()\n")
    for named in ("bad.py", str(bad), "./bad.py"):
        change(copied / ORIGIN, plugin=named)
        assert ask() == 2
        assert "is run only if you name it: --plugin FILE" in one_line(capsys)
        assert not Path("ran").exists()
    assert ask("--plugin", "bad.py") == 2
    assert Path("ran").exists()


@pytest.mark.parametrize("name", ["somebody/model", "not a name", "folder"])
def test_a_model_that_only_the_adapter_names_is_never_fetched(
    name: str, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*_: object) -> None:
        raise AssertionError("the Hub was asked")

    monkeypatch.setattr("fedumm.data.hub_access.check_reachable", asked)
    monkeypatch.setattr("fedumm.backends.blip_vqa.model.check_reachable", asked)
    Path("folder").mkdir()
    change(copied / ORIGIN, model_name_or_path=name)
    assert ask() == 2
    assert "is not on this machine. To fetch it, name it yourself: --model_name_or_path " in one_line(capsys)
    assert ask("--model_name_or_path", "somebody/model") == 1
    assert "the Hub was asked" in capsys.readouterr().err


def test_the_backends_own_model_may_be_fetched(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(kind: str, name: str) -> None:
        raise FedummError(f"{kind} {name}")

    monkeypatch.setattr("fedumm.backends.blip_vqa.model.check_reachable", asked)
    for name in ("", "Salesforce/blip-vqa-base"):
        change(copied / ORIGIN, model_name_or_path=name)
        assert ask() == 2
        told, error = capsys.readouterr().err.splitlines()
        assert told.startswith("Model: Salesforce/blip-vqa-base (backend blip_vqa)")
        assert error == "fedumm ask: model Salesforce/blip-vqa-base"


def test_a_model_folder_that_has_moved_is_asked_for(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    moved = shutil.copytree(resolve_checkpoint("blip_vqa", "tiny"), "moved")
    change(copied / ORIGIN, model_name_or_path="/away/models/blip")
    assert ask() == 2
    assert "the model in /away/models/blip, which is not there. Say where it is now: --model_name" in one_line(capsys)
    assert ask("--model_name_or_path", moved) == 0


def of_origin(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / ORIGIN, **values)


def of_peft(**values: Any) -> Callable[[Path], None]:
    return lambda folder: change(folder / PEFT, **values)


def content(file: str, data: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / file).write_bytes(data)

    return write


def missing(file: str) -> Callable[[Path], None]:
    return lambda folder: (folder / file).unlink()


def other_kind(file: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / file).unlink()
        make(folder / file)

    return replace


def weights(**tensors: torch.Tensor) -> Callable[[Path], None]:
    return content(WEIGHTS, encode(tensors))


def first_tensor(edit: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        state, _ = read_folder(folder)
        name = min(state)
        (folder / WEIGHTS).write_bytes(encode({**state, name: edit(state[name])}))

    return write


DEEP = b"[" * 100_000
DAMAGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "no weights": (missing(WEIGHTS), "does not hold an adapter"),
    "no configuration": (missing(PEFT), "does not hold an adapter"),
    "a folder for weights": (other_kind(WEIGHTS, os.mkdir), f"{WEIGHTS} is no file"),
    "a folder for the configuration": (other_kind(PEFT, os.mkdir), f"{PEFT} is no file"),
    "a folder for the origin": (other_kind(ORIGIN, os.mkdir), "it is no file"),
    "a pipe for weights": (other_kind(WEIGHTS, os.mkfifo), f"{WEIGHTS} is no file"),
    "a pipe for the origin": (other_kind(ORIGIN, os.mkfifo), "it is no file"),
    "a link to nowhere": (other_kind(ORIGIN, lambda path: path.symlink_to("nowhere")), "it is no file"),
    "empty weights": (content(WEIGHTS, b""), "not an adapter"),
    "weights of odd bytes": (content(WEIGHTS, b"\xff" * 64), "not an adapter"),
    "an odd header": (content(WEIGHTS, b"\x08\0\0\0\0\0\0\0\x1b[31mxyz"), "not an adapter"),
    "empty configuration": (content(PEFT, b""), "does not hold an adapter"),
    "deep configuration": (content(PEFT, DEEP), "does not hold an adapter"),
    "empty origin": (content(ORIGIN, b""), "does not tell which model"),
    "deep origin": (content(ORIGIN, DEEP[:60_000]), "does not tell which model"),
    "long origin": (content(ORIGIN, b" " * 100_000), "it is longer than 65,536 bytes"),
    "an origin of odd bytes": (content(ORIGIN, b"\xff\xfe\x00"), "does not tell which model"),
    "an origin of no object": (content(ORIGIN, b"[1]"), "it holds no object"),
    "an origin of nothing": (content(ORIGIN, b"{}"), "it lacks model_backend"),
    "a number for the backend": (of_origin(model_backend=3), "model_backend is no text"),
    "nothing for the model": (of_origin(model_name_or_path=None), "model_name_or_path is no text"),
    "text for the rank": (of_origin(lora_r="3"), "lora_r is no number"),
    "true for the rank": (of_origin(lora_r=True), "lora_r is no number"),
    "a rank of zero": (lambda f: (of_origin(lora_r=0)(f), content(PEFT, b"{}")(f))[0], "lora_r must be a positive"),
    "unknown layers": (of_origin(lora_targets="some("), "lora_targets is no regular expression"),
    "an unknown task": (of_origin(task="fly", lora_targets="all"), "task must be one of vqa, i2t, t2i, unified"),
    "an unknown entry": (of_origin(model_bakend="x"), "'model_bakend' is unknown. Did you mean 'model_backend'"),
    "an unknown backend": (of_origin(model_backend="nope"), "Unknown backend 'nope'"),
    "controls in the model": (of_origin(model_name_or_path="\x1b[2Jx"), "or holds some that can't be printed"),
    "controls in an entry": (of_origin(**{"\x1b[2J": 1}), "is unknown"),
    "text backwards": (of_origin(model_name_or_path="a\u202eb/c"), "or holds some that can't be printed"),
    "half a character": (of_origin(model_backend="\ud800"), "or holds some that can't be printed"),
    "a long name": (of_origin(model_name_or_path="x" * 5000), "model_name_or_path is longer than 4,096"),
    "a rank in text": (of_peft(r="3"), "r must be a positive whole number"),
    "no rank": (of_peft(r=None), "r must be a positive whole number"),
    "a rank that no memory holds": (of_peft(r=90_000_000), "says rank 90000000, but the weights beside it have 3"),
    "a rank below 1": (of_peft(r=-1), "r must be a positive whole number"),
    "an alpha of halves": (of_peft(lora_alpha=2.5), "lora_alpha must be a positive whole number"),
    "another scale": (of_peft(use_rslora=True), "sets use_rslora"),
    "scales by layer": (of_peft(alpha_pattern={"query": 64}), "sets alpha_pattern"),
    "no tensors": (weights(), "says rank 3, but the weights beside it have no LoRA"),
    "nothing in it": (lambda f: (weights()(f), content(PEFT, b"{}")(f))[0], "tensor(s) missing"),
    "another model's": (weights(**{"\x1b[2J.lora_A.weight": torch.zeros(3, 4)}), "does not fit the model 'tiny'"),
    "a number for a matrix": (weights(**{"x.lora_A.weight": torch.tensor(1.0)}), "the weights beside it have 0"),
    "another type": (first_tensor(torch.Tensor.double), "does not fit the model 'tiny'"),
    "NaN": (first_tensor(lambda t: t * float("nan")), "holds NaN or infinite values"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_folder_is_one_clear_message(
    damage: Callable[[Path], None], message: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(copied)
    assert ask() == 2
    *told, errors = capsys.readouterr().err.splitlines()
    assert message in errors
    assert len(errors) < 1500
    assert all(line.isprintable() for line in (*told, errors))


def test_all_adapters_of_a_run_know_their_model(run_toy: Run) -> None:
    folder, _ = run_toy(**lora_options(aggregator="fedsa_lora", num_rounds=1))
    own = sorted((folder / "clients").glob("*/adapter"))
    assert len(own) == 3
    for adapter in (folder / "adapter" / "best", folder / "adapter" / "last", *own):
        origin = read_origin(adapter)
        assert origin == Origin(
            model_backend="lora_toy", model_name_or_path="", plugin=LORA_TOY.name, lora_targets="attention",
            task="vqa", prompt="", lora_r=4, lora_alpha=6,
        )  # fmt: skip


def test_the_baselines_adapter_knows_its_model(tmp_path: Path) -> None:
    few = [
        "--max_train_samples",
        "8",
        "--max_eval_samples",
        "4",
        "--dataset",
        "easy_vqa",
        "--output_dir",
        str(tmp_path),
    ]
    model = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--lora_r", "2", "--gpu", "cpu"]
    assert main(["train", *few, *model, "--report_samples", "off"]) == 0
    origin = read_origin(tmp_path / "adapter")
    assert origin is not None
    assert (origin.model_name_or_path, origin.lora_r) == ("tiny", 2)


def test_a_local_model_is_kept_by_its_full_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    named = {
        name: Origin.of(FederateConfig(model_backend="b", model_name_or_path=name)) for name in ("model", "a/b", "")
    }
    assert [origin.model_name_or_path for origin in named.values()] == [str(tmp_path / "model"), "a/b", ""]


def test_a_cached_model_needs_no_second_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: "/cache/config.json")
    adapted._check_named("somebody/model")


def test_another_model_than_the_adapters_is_told(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(copied / ORIGIN, model_name_or_path="someone/another")
    assert ask("--model_backend", "blip_vqa", "--model_name_or_path", "tiny") == 0
    assert "The adapter was trained on someone/another" in one_line_of(capsys.readouterr().err)


def one_line_of(text: str) -> str:
    (line,) = text.splitlines()
    return line
