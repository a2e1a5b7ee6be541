"""Texts of images, federated: what is recorded of them does not depend on which host scores which part."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedumm.adapters.origin import read_origin
from fedumm.config import FederateConfig
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create, read_records
from fedumm.tasks import I2T

Run = Callable[..., tuple[Path, list[dict[str, Any]]]]


@pytest.fixture
def run_texts(tmp_path: Path) -> Run:
    """Three clients of ``tiny`` that learn to write captions of shapes."""

    def run(name: str, **options: Any) -> tuple[Path, list[dict[str, Any]]]:
        config = FederateConfig(
            **{
                "model_backend": "januspro", "model_name_or_path": "tiny", "dataset": "shapes", "task": "i2t",
                "num_clients": 3, "num_rounds": 2, "max_train_samples": 96, "max_eval_samples": 21, "lr": 2e-3,
                "batch_size": 4, "grad_accum": 1, "lora_dropout": 0.0, "prompt": "a picture of", "in_process": True,
                "threads": 1, **options,
            }
        )  # fmt: skip
        create(tmp_path / name, config, "test").release()
        run_in_process(config, RunFolder(tmp_path / name, config), lambda *_: None)
        return tmp_path / name, list(read_records(tmp_path / name))

    return run


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [record for record in records if record["event"] == event]


def test_texts_are_learnt_and_every_score_is_kept(run_texts: Run) -> None:
    folder, records = run_texts("run")
    scored = [*of(records, "round"), *of(records, "final")]
    for record in scored:
        for place in ("heldout", "test"):
            (own,) = record[f"{place}_tasks"].values()
            assert own["others"].keys() == {other.name for other in I2T.others}
            assert own["score"] == pytest.approx(own["others"]["rouge_l"], abs=1e-12), "what selects, by default"
            assert record[place] == own["score"]
    first, last = (record["test_tasks"]["i2t"]["others"] for record in (scored[0], scored[-1]))
    assert last["token_f1"] > first["token_f1"] + 0.1
    assert last["cider"] > first["cider"]
    assert of(records, "client")[0]["heldout_after_tasks"]["i2t"]["others"]["token_f1"] > 0
    (summary,) = of(records, "summary")
    assert summary["last"]["test_tasks"]["i2t"]["others"] == last
    card = (folder / "adapter" / "last" / "README.md").read_text()
    assert "CIDEr" in card
    assert "fedumm ask IMAGE --adapter ." in card
    origin = read_origin(folder / "adapter" / "last")
    assert origin is not None
    assert (origin.task, origin.prompt) == ("i2t", "a picture of")
    assert (folder / "rounds.png").exists()


@pytest.mark.slow
def test_scores_are_the_same_on_any_hosts(run_texts: Run) -> None:
    """CIDEr weighs words by all references, of which every host scores a part."""
    runs = [run_texts(name, hosts=hosts, num_rounds=1)[1] for name, hosts in (("one", 1), ("three", 3))]
    assert len(of(runs[1], "setup")[0]["hosts"]) == 3
    for one, three in zip(*([*of(run, "round"), *of(run, "final")] for run in runs), strict=True):
        for place in ("heldout", "test"):
            own, other = (record[f"{place}_tasks"]["i2t"] for record in (one, three))
            assert own["others"] == pytest.approx(other["others"], rel=1e-12)
            assert own["others"]["cider"] >= 0
    assert of(runs[0], "final")[0]["test_tasks"]["i2t"]["others"]["cider"] > 0, "there is something to compare"


def test_another_score_may_select(run_texts: Run) -> None:
    _, records = run_texts("f1", num_rounds=1, answer_metric="token_f1")
    (final,) = of(records, "final")
    own = final["test_tasks"]["i2t"]
    assert own["score"] == pytest.approx(own["others"]["token_f1"], abs=1e-12) != own["others"]["rouge_l"]
