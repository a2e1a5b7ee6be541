"""Janus federated in process: two tasks, on clients that have both or one of them; the same bits on any hosts."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters.folder import read_folder
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.in_process import run_in_process
from fedumm.report.run_folder import RunFolder, create, read_records

Records = list[dict[str, Any]]
JanusRun = Callable[..., tuple[Path, Records]]
VOLATILE = {"seconds", "seconds_train", "seconds_eval", "seconds_host", "elapsed", "bytes_down"}


@pytest.fixture
def run_janus(tmp_path: Path) -> JanusRun:
    """Three clients, two rounds of ``tiny``, unified on shapes; returns the run folder and its records."""

    def run(name: str, **options: Any) -> tuple[Path, Records]:
        config = FederateConfig(
            **{
                "model_backend": "januspro", "model_name_or_path": "tiny", "dataset": "shapes", "task": "unified",
                "num_clients": 3, "num_rounds": 2, "max_train_samples": 150, "max_eval_samples": 45, "lr": 2e-4,
                "geneval_prompts": 7, "in_process": True, "threads": 1, **options,
            }
        )  # fmt: skip
        create(tmp_path / name, config, "test").release()
        run_in_process(config, RunFolder(tmp_path / name, config), lambda *_: None)
        return tmp_path / name, list(read_records(tmp_path / name))

    return run


def of(records: Records, event: str) -> Records:
    return [{k: v for k, v in r.items() if k not in VOLATILE} for r in records if r["event"] == event]


def weights(folder: Path, which: str = "last") -> bytes:
    return (folder / "adapter" / which / "adapter_model.safetensors").read_bytes()


def test_both_tasks_are_learnt_scored_and_drawn(run_janus: JanusRun) -> None:
    folder, records = run_janus("run", geneval_every=0)
    (setup,), rounds, (final,) = of(records, "setup"), of(records, "round"), of(records, "final")
    assert [report["name"] for report in setup["features"]] == ["vision features", "image codes"]
    assert setup["features"][1]["bytes"] == setup["features"][1]["images"] * 64 * 4
    totals = {task: sum(c["tasks"][task] for c in setup["clients"].values()) for task in ("vqa", "t2i")}
    assert totals["vqa"] / totals["t2i"] == pytest.approx(5 / 4, rel=0.15)
    for record in (*rounds, final):
        assert set(record["heldout_tasks"]) == {"vqa", "t2i"}
        vqa, t2i = record["test_tasks"]["vqa"], record["test_tasks"]["t2i"]
        assert (vqa["count"], t2i["count"]) == (25, 20)
        assert t2i["score"] == pytest.approx(1 - t2i["loss"] / math.log(512))
        assert record["test"] == pytest.approx((vqa["score"] + t2i["score"]) / 2)
    drawn = [record["test_tasks"].get("geneval") for record in (*rounds, final)]
    assert [own and own["count"] for own in drawn] == [7, None, 7]
    assert all(set(r["train_losses"]) == {"vqa", "t2i"} for r in rounds)
    losses = [record["test_tasks"]["t2i"]["loss"] for record in (*rounds, final)]
    assert len(set(losses)) == 3, "every round changes what is drawn"
    assert (folder / "rounds.png").exists()
    card = (folder / "adapter" / "best" / "README.md").read_text()
    assert "Image tokens on the common test set" in card
    assert "fedumm draw" in card


@pytest.mark.slow
def test_hosts_and_caches_change_no_bit(run_janus: JanusRun) -> None:
    folder, records = run_janus("one", hosts=1)
    for name, options in {
        "three": {"hosts": 3}, "memory": {"feature_cache": "memory"}, "again": {"hosts": 2},
    }.items():  # fmt: skip
        other, others = run_janus(name, **options)
        assert weights(other) == weights(folder), name
        assert of(others, "client") == of(records, "client"), name
        (one,), (same,) = of(records, "final"), of(others, "final")
        assert one["heldout_tasks"] == same["heldout_tasks"], name
        # The hosts' parts of the test set are averaged: another order of sums.
        for task in ("vqa", "t2i", "geneval"):
            assert one["test_tasks"][task]["score"] == pytest.approx(same["test_tasks"][task]["score"], rel=1e-6), name
    assert [report["computed"] for report in others[0]["features"]] == [0, 0]


@pytest.mark.slow
def test_without_a_cache_the_run_is_the_same_to_rounding(run_janus: JanusRun) -> None:
    (_, cached), (_, plain) = run_janus("cached"), run_janus("plain", feature_cache="off")
    assert plain[0]["features"] == []
    a, b = (of(records, "final")[0]["test_tasks"]["t2i"]["loss"] for records in (cached, plain))
    assert a == pytest.approx(b, rel=1e-3)


@pytest.mark.slow
def test_the_best_is_drawn_with_as_if_it_had_been_while_it_was_the_latest(
    run_janus: JanusRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same images, to the last bit, and on several hosts."""
    from fedumm.federation.server import selection

    monkeypatch.setattr(selection, "_better", lambda new, old: True)
    monkeypatch.setattr(selection.Selection, "offer", first_of(selection.Selection.offer))
    few = {"max_train_samples": 60, "max_eval_samples": 20}
    folder, records = run_janus("then", geneval_every=1, **few)
    images = {file.name: file.read_bytes() for file in (folder / "drawings" / "round-1").iterdir()}
    assert len(images) == 7
    other, others = run_janus("at the end", hosts=3, **few)
    assert {file.name: file.read_bytes() for file in (other / "drawings" / "round-1").iterdir()} == images
    best, same = (own[-1]["best"] for own in (records, others))
    assert best["round"] == same["round"] == 1
    assert same["test_tasks"]["geneval"] == best["test_tasks"]["geneval"]
    assert weights(other, "best") == weights(folder, "best")


def first_of(offer: Any) -> Any:
    """Of the versions, the one after the first round is the best."""
    return lambda self, version, scores: version <= 1 and offer(self, version, scores)


def test_a_client_without_a_task_neither_trains_nor_reports_it(run_janus: JanusRun) -> None:
    folder, records = run_janus("run", num_clients=2, partition="task:1", lora_targets="all", num_rounds=1)
    (setup,) = of(records, "setup")
    has = {name: set(client["tasks"]) for name, client in setup["clients"].items()}
    assert sorted(map(sorted, has.values())) == [["t2i"], ["vqa"]]
    clients = {r["client"]: r for r in of(records, "client")}
    for name, tasks in has.items():
        own = clients[name]
        assert set(own["train_losses"]) == set(own["heldout_tasks"]) == set(own["heldout_after_tasks"]) == tasks
        # Generation aligner (two layers) and head (two): LoRA's A and B of each.
        assert own["untrained"] == (8 if tasks == {"vqa"} else 0)
    (record,) = of(records, "round")
    assert record["clients"] == 2
    assert set(record["train_losses"]) == {"vqa", "t2i"}
    # What draws is the caption client's alone: as in a run in which it is the only one that counts.
    state, _ = read_folder(folder / "adapter" / "last")
    moved = [name for name, tensor in state.items() if "generation" in name and "lora_B" in name and tensor.any()]
    assert len(moved) == 4


@pytest.mark.slow
def test_one_task_leaves_the_other_alone(run_janus: JanusRun) -> None:
    for task, tasks in (("vqa", {"vqa"}), ("t2i", {"t2i", "geneval"})):
        folder, records = run_janus(task, task=task, num_rounds=1)
        (final,) = of(records, "final")
        assert set(final["test_tasks"]) == tasks
        assert len(records[0]["features"]) == 1
        state, _ = read_folder(folder / "adapter" / "last")
        assert any(tensor.any() for name, tensor in state.items() if "lora_B" in name)
        assert all(torch.isfinite(tensor).all() for tensor in state.values())


def test_what_makes_no_sense_is_refused(run_janus: JanusRun) -> None:
    for options, message in (
        ({"task": "vqa", "partition": "task:0.5"}, "needs two tasks to deal out: use --task unified"),
        ({"partition": "task:0.5", "keep_images_whole": True}, "parts an image's caption from its questions"),
        ({"partition": "task:2"}, "--partition must be empty, own, task:SHARE"),
        ({"task_mix": "5"}, "--task_mix must be two positive numbers"),
        ({"num_clients": 1, "partition": "task:1"}, "leaves no client with the task vqa"),
        ({"model_backend": "blip_vqa"}, "--task unified: the backend 'blip_vqa' can only answer"),
        ({"model_backend": "blip_vqa", "task": "vqa", "lora_targets": "all"}, "does not support it"),
        ({"dataset": ""}, "which captioned images to learn from"),
    ):
        with pytest.raises(FedummError, match=message):
            run_janus("refused", **options)
