"""Where the scores of texts are shown: all of them, by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fedumm.config import CentralConfig
from fedumm.formatting import others_text
from fedumm.model_card import central_card
from fedumm.report import figures
from fedumm.report.console import RunConsole, Screen
from fedumm.report.figures import save_rounds_figure
from fedumm.tasks import I2T
from fedumm.trackers.tracking import Tracking

SHOWN = "ROUGE-L 50.00 %  token F1 25.00 %  exact match 0.00 %  CIDEr 1.250"


def tasks_of(score: float, **changes: float | None) -> dict[str, Any]:
    others = {"cider": 1.25, "exact": 0.0, "rouge_l": 0.5, "token_f1": 0.25, **changes}
    return {"i2t": {"score": score, "count": 4, "parts": {}, "others": others}}


def test_scores_beside_a_task_are_told_by_name_and_in_order() -> None:
    assert others_text({"test_tasks": tasks_of(0.5)}, "test") == SHOWN
    assert others_text({"test_tasks": tasks_of(0.5, cider=None)}, "test") == SHOWN.split("  CIDEr", maxsplit=1)[0]
    assert others_text({"test_tasks": {"vqa": {"score": 0.5}, "own": {"others": {"x": 1.0}}}}, "test") == ""
    assert others_text({}, "test") == ""


def test_the_end_of_a_run_tells_all_scores(capsys: Any) -> None:
    entry = {"heldout_tasks": {}, "test_tasks": tasks_of(0.5), "heldout_clients": {}}
    summary = {"roster": 2, **{name: {"round": 1, **entry} for name in ("untrained", "best", "last")}}
    RunConsole(Screen(width=200)).finished(Path("runs/x"), summary, ["i2t"])
    lines = capsys.readouterr().out.splitlines()
    assert f"best (after round 1), common test: {SHOWN}" in lines
    assert lines[-1] == "Ask it:     fedumm ask IMAGE --adapter runs/x/adapter/best"
    assert any("text score" in line for line in lines)


def test_the_card_of_an_adapter_has_them() -> None:
    config = CentralConfig(model_backend="januspro", task="i2t")
    card = central_card(config, config.num_epochs, {"test": 0.5, "test_tasks": tasks_of(0.5)})
    assert "| Text score (rouge_l) on the evaluation data | 50.00 % |" in card
    assert f"| Beside it on the evaluation data | {SHOWN} |" in card


def test_the_figure_has_a_panel_for_texts(monkeypatch: Any, tmp_path: Path) -> None:
    seen: list[Any] = []
    real = figures._axes
    monkeypatch.setattr(figures, "_axes", lambda *size: seen.append(real(*size)) or seen[-1])
    records = [
        {"event": "round", "round": 1, "test_tasks": tasks_of(0.25), "train_losses": {"i2t": 3.0}},
        {"event": "final", "round": 1, "test_tasks": tasks_of(0.5)},
    ]
    save_rounds_figure(records, tmp_path / "rounds.png")
    ((_, axes),) = seen
    assert [own.get_ylabel() for own in axes] == [I2T.label]
    (curve,) = axes[0].get_lines()
    assert list(curve.get_ydata()) == [25.0, 50.0]


def test_tensorboard_has_them(tmp_path: Path) -> None:
    tracking = Tracking(["tensorboard"], tmp_path, print)
    tracking.on_record({"event": "round", "round": 3, "test": 0.5, "test_tasks": tasks_of(0.5)})
    tracking.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    (cider,) = events.Scalars("round/test/i2t_cider")
    assert (cider.step, round(cider.value, 4)) == (3, 1.25)
