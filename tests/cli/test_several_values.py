"""What was meant for a sweep, given to a single run; and a run that fails before it has begun."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedumm.cli.main import run

RUN = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--in_process"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ["--seed", "1", "2"],
            "--seed takes one value, and 2 follows it. For runs with several values",
        ),
        (["--seed", "1,2"], "For runs with several values: fedumm sweep --seed 1,2 ..."),
        (["--lr", "1e-4,5e-4"], "For runs with several values: fedumm sweep --lr 1e-4,5e-4 ..."),
        (["--learning-rate", "1"], "Unknown option '--learning-rate'. Did you mean '--lr'?"),
        (["--zzzzzz"], "Unknown option '--zzzzzz'."),
        (["--sed", "1"], "Unknown option '--sed'. Did you mean '--seed'?"),
    ],
)
def test_several_values_are_for_a_sweep(given: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("federate", [*RUN, *given], "fedumm federate") == 2
    assert told in capsys.readouterr().err


def test_a_run_that_fails_at_its_start_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise RuntimeError("no room")

    monkeypatch.setattr("fedumm.training.stock.load_backbone", failing)
    few = ["--max_train_samples", "40", "--max_eval_samples", "8", "--name", str(tmp_path / "run")]
    assert run("federate", [*RUN, *few], "fedumm federate") == 2
    assert "no room" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
