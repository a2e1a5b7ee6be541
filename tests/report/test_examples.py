"""Examples of a report: what the model says before and after, kept, and made only where everything is at hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters.folder import save_folder
from fedumm.cli.main import run as run_command
from fedumm.config import CentralConfig, FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners import launch
from fedumm.plugins import load_plugins
from fedumm.report.page import examples, making
from fedumm.report.page.examples import make_examples, read_examples, read_options
from fedumm.report.run_folder import read_records
from fedumm.run_options import from_mapping, to_mapping
from support.commands import prepare
from support.recorded_run import record_run
from support.toy import LORA_TOY, lora_options, toy_config

OPTIONS = {"max_train_samples": 40, "max_eval_samples": 60, "threads": 1, "feature_cache": "off"}


def quiet(text: str, done: int, total: int) -> None: ...


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with an adapter that answers otherwise than the untrained one."""
    from fedumm.training.backbone import load_backbone

    lines = "".join(f"{name}: {json.dumps(value)}\n" for name, value in OPTIONS.items())
    folder = record_run(tmp_path_factory.mktemp("runs") / "trained", config=lines)
    config = options_of(folder)
    backbone = load_backbone(config, torch.device("cpu"))
    torch.manual_seed(1)
    state = {name: t + 0.3 * torch.randn_like(t) for name, t in backbone.adapter().items()}
    save_folder(folder / "adapter" / "best", state, backbone.adapter_config(), "card")
    return folder


def options_of(folder: Path) -> FederateConfig | CentralConfig:
    from fedumm.config import read_yaml

    return read_options(folder, read_yaml(folder / "config.yaml"))


class TestExamples:
    def test_are_what_both_adapters_say_of_each_row(self, trained: Path) -> None:
        from fedumm.training.backbone import load_backbone
        from fedumm.training.data import load_splits
        from fedumm.training.predictions import predict

        config = options_of(trained)
        assert make_examples(trained, config, 5, quiet)
        found = read_examples(trained)
        rows = load_splits(config).eval
        backbone = load_backbone(config, torch.device("cpu"))
        said = {one.source_row: one for one in predict(backbone, rows, config)}
        assert len(found) == 5
        assert {one.type for one in found} == {"color", "shape", "yes/no"}
        assert len({one.image_id for one in found}) == 5, "of different images"
        for one in found:
            own = said[one.source_row]
            assert (one.question, one.before, one.score_before) == (own.question, own.answer, own.score)
            assert one.references == own.references
            assert (trained / one.image).read_bytes().startswith(b"\xff\xd8\xff")
        assert any(one.before != one.after for one in found)

    def test_are_made_again_only_if_they_would_be_others(self, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        config = options_of(trained)
        make_examples(trained, config, 4, quiet)
        monkeypatch.setattr(examples, "_ask", lambda *_: ([], {}))
        assert not make_examples(trained, config, 4, quiet), "the model is not loaded"
        assert len(read_examples(trained)) == 4
        elsewhere = from_mapping(FederateConfig, {**to_mapping(config), "gpu": "cpu"})
        assert not make_examples(trained, elsewhere, 4, quiet), "where it is asked is no difference"
        other = from_mapping(FederateConfig, {**to_mapping(config), "max_a_len": 8})
        assert make_examples(trained, other, 4, quiet)
        assert read_examples(trained) == []

    def test_stand_in_the_page(self, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert run_command("report", [str(trained), "--samples", "3"], "fedumm report") == 0
        assert capsys.readouterr().out == f"Report: {trained / 'report.html'}\n"
        text = (trained / "report.html").read_text()
        assert text.count('<article class="example') == 3
        assert text.count("data:image/jpeg;base64,") == 3
        for one in read_examples(trained):
            assert one.question in text

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"model_name_or_path": "somebody/model"}, "somebody/model"),
            ({"dataset": "somebody/data"}, "somebody/data"),
            ({"dataset": "https://example.org/data.csv"}, "nothing is fetched"),
            ({"model_backend": "of_a_plugin"}, "of_a_plugin"),
        ],
    )  # fmt: skip
    def test_what_is_not_here_is_not_fetched(
        self, change: dict[str, str], why: str, trained: Path, tmp_path: Path
    ) -> None:
        """And the page says why there are none."""
        from fedumm.report.page.making import make_report

        folder = record_run(tmp_path / "run")
        text = (folder / "config.yaml").read_text()
        for name, value in change.items():
            text = "\n".join(f"{name}: {value}" if line.startswith(f"{name}:") else line for line in text.splitlines())
        (folder / "config.yaml").write_text(text + "\n")
        (folder / "adapter").mkdir()
        (folder / "adapter" / "best").symlink_to(trained / "adapter" / "best", target_is_directory=True)
        note = make_report(folder, folder / "report.html", 2, quiet)
        assert note.startswith("No example answers: ")
        assert why in note
        assert not (folder / "samples.jsonl").exists()

    def test_damaged_ones_are_none(self, tmp_path: Path) -> None:
        for text in ("no json\n", "[1]\n", '{"task": 1}\n', '{"question": null}\n'):
            (tmp_path / "samples.jsonl").write_text(text)
            assert read_examples(tmp_path) == []


class TestAtTheEndOfARun:
    @pytest.fixture
    def run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
        prepare(monkeypatch)
        monkeypatch.chdir(tmp_path)

        def work(**options: Any) -> Path:
            folder = tmp_path / "run"
            load_plugins([str(LORA_TOY)], again=True)
            config = toy_config(**lora_options(**{"num_rounds": 1, "name": str(folder), **options}))
            assert launch.run(config, "fedumm federate") == 0
            return folder

        return work

    def test_there_is_a_report_and_a_line_says_where(
        self, run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Of a backend of one's own the examples are left out, since it may be of any size."""
        folder = run(report_samples="auto")
        shown = capsys.readouterr().out.splitlines()
        assert shown[-2] == f"Report:     {folder / 'report.html'}"
        assert shown[-1].endswith(f"fedumm report {folder}")
        assert "<h2>Curves</h2>" in (folder / "report.html").read_text()
        assert not (folder / "samples").exists()

    def test_one_that_fails_is_a_line(
        self, run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def broken(*_: object) -> str:
            raise RuntimeError("no font")

        monkeypatch.setattr(making, "page", broken)
        folder = run(report_samples=0)
        assert capsys.readouterr().out.splitlines()[-1].startswith("No report was made (no font).")
        assert any(record["event"] == "summary" for record in read_records(folder))

    def test_off_makes_none(self, run: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
        folder = run(report_samples="off")
        assert not (folder / "report.html").exists()
        assert "eport" not in capsys.readouterr().out


@pytest.mark.parametrize("value", ["many", -1, 1001])
def test_how_many_is_a_number_or_a_word(value: Any) -> None:
    with pytest.raises(FedummError, match="report_samples"):
        toy_config(report_samples=value)
