"""The run folder: never somebody else's files, never half a line, and numbers that can be read back."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from filelock import FileLock

from fedumm.adapters.folder import read_folder
from fedumm.config import CentralConfig, FederateConfig, read_yaml
from fedumm.errors import FedummError
from fedumm.formatting import percent
from fedumm.model_card import Facts, central_card, federated_card
from fedumm.report.run_folder import RunFolder, create, folder_for, read_config, read_records
from fedumm.run_events import AdapterEvent, PartitionEvent
from fedumm.run_options import from_mapping

PNG = b"\x89PNG\r\n\x1a\n"
OPTIONS: dict[str, Any] = {
    "model_backend": "blip_vqa",
    "dataset": "easy_vqa",
    "num_clients": 4,
    "num_rounds": 5,
    "local_epochs": 2,
    "dirichlet_alpha": 0.3,
    "lora_r": 6,
    "lora_alpha": 24,
    "lr": 3e-4,
    "batch_size": 5,
    "grad_accum": 7,
    "seed": 11,
}


def config(**options: Any) -> FederateConfig:
    return from_mapping(FederateConfig, {**OPTIONS, **options})


def tree(folder: Path) -> dict[str, bytes | None]:
    """Every path below ``folder`` with its content; None for a folder."""
    return {
        str(p.relative_to(folder)): None if p.is_dir() else p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.name != ".lock"
    }


@pytest.fixture
def locks() -> Iterator[list[FileLock]]:
    held: list[FileLock] = []
    yield held
    for lock in held:
        lock.release()


class TestFolderFor:
    @pytest.mark.parametrize(
        ("name", "path"),
        [("demo", "runs/demo"), ("some/where", "some/where"), ("./demo", "demo"), ("/a/b", "/a/b"), ("..", "..")],
    )
    def test_a_name_is_below_runs_and_a_path_is_itself(self, name: str, path: str) -> None:
        assert folder_for(config(name=name)) == Path(path)

    @pytest.mark.parametrize(
        ("dataset", "part"),
        [("easy_vqa", "easy_vqa"), ("", "default"), ("owner/name", "owner-name"), ("./a b", ".-a-b")],
    )
    def test_without_a_name_it_tells_model_data_clients_and_time(
        self, dataset: str, part: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """And two of one second are two."""
        monkeypatch.setattr("fedumm.report.run_folder.time.strftime", lambda _: "20260102-030405")
        first, second = (folder_for(config(dataset=dataset)) for _ in range(2))
        assert first.parent == Path("runs")
        assert first.name.startswith(f"blip_vqa-{part}-k4-20260102-030405-")
        assert first != second


class TestCreate:
    def test_makes_parents_and_writes_options_that_repeat_the_run(self, tmp_path: Path, locks: list[FileLock]) -> None:
        wanted = config(name="x", overwrite=True, gpu="0,1", simulator=True)
        locks.append(create(tmp_path / "deep" / "run", wanted, "python job.py --simulator"))
        assert read_config(tmp_path / "deep" / "run") == replace(wanted, name="", overwrite=False)
        assert "python job.py --simulator" in (tmp_path / "deep" / "run" / "config.yaml").read_text()

    def test_takes_an_empty_folder(self, tmp_path: Path, locks: list[FileLock]) -> None:
        locks.append(create(tmp_path, config(), ""))
        assert read_config(tmp_path) == config()

    def test_an_earlier_run_is_kept_unless_it_may_be_replaced(self, tmp_path: Path) -> None:
        create(tmp_path, config(), "first").release()
        RunFolder(tmp_path, config()).on_record({"event": "other"})
        before = tree(tmp_path)
        with pytest.raises(
            FedummError, match=r"exists\. Choose another --name, or replace it with --overwrite"
        ) as refusal:
            create(tmp_path, config(), "second")
        assert str(tmp_path) in str(refusal.value)
        assert tree(tmp_path) == before

    @pytest.mark.parametrize("overwrite", [False, True])
    @pytest.mark.parametrize(
        "files",
        [
            {"thesis.tex": "years of work"},
            {"sub/config.yaml": "# Repeat this run: x\n"},
            {"config.yaml": "of: another project\n", "thesis.tex": "years of work"},
        ],
    )
    def test_a_folder_that_is_no_run_is_left_as_it_is(
        self, overwrite: bool, files: dict[str, str], tmp_path: Path
    ) -> None:
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        before = tree(tmp_path)
        with pytest.raises(FedummError, match=r"no config\.yaml of a run, so not even --overwrite touches it"):
            create(tmp_path, config(overwrite=overwrite), "")
        assert tree(tmp_path) == before
        assert not (tmp_path / ".lock").exists()

    def test_overwriting_removes_every_trace_of_the_old_run_and_nothing_else(
        self, tmp_path: Path, locks: list[FileLock]
    ) -> None:
        outside, run = tmp_path / "outside", tmp_path / "run"
        outside.mkdir()
        (outside / "kept.txt").write_text("kept")
        create(run, config(), "old").release()
        (run / "adapter" / "best").mkdir(parents=True)
        (run / "adapter" / "best" / "README.md").write_text("old")
        (run / "metrics.jsonl").write_text("{}\n")
        (run / "link").symlink_to(outside, target_is_directory=True)
        locks.append(create(run, config(overwrite=True, seed=99), "new"))
        assert list(tree(run)) == ["config.yaml"]
        assert read_config(run).seed == 99
        assert (outside / "kept.txt").read_text() == "kept"

    @pytest.mark.parametrize("overwrite", [False, True])
    def test_a_running_run_is_not_touched(self, overwrite: bool, tmp_path: Path, locks: list[FileLock]) -> None:
        locks.append(create(tmp_path / "run", config(), "first"))
        before = tree(tmp_path)
        with pytest.raises(FedummError, match="in use by another process"):
            create(tmp_path / "run", config(overwrite=overwrite), "second")
        assert tree(tmp_path) == before

    def test_a_run_that_never_began_leaves_its_name_free(self, tmp_path: Path, locks: list[FileLock]) -> None:
        create(tmp_path, config(lr=0.1), "failed before its first record").release()
        locks.append(create(tmp_path, config(lr=0.2), "again"))
        assert read_config(tmp_path).lr == 0.2

    def test_a_refusal_does_not_keep_the_lock(self, tmp_path: Path, locks: list[FileLock]) -> None:
        create(tmp_path, config(), "").release()
        RunFolder(tmp_path, config()).on_record({"event": "other"})
        with pytest.raises(FedummError, match="exists"):
            create(tmp_path, config(), "")
        locks.append(create(tmp_path, config(overwrite=True, lr=0.5), ""))
        assert read_config(tmp_path).lr == 0.5

    def test_a_file_in_the_way_is_named(self, tmp_path: Path) -> None:
        (tmp_path / "run").write_text("a file")
        with pytest.raises(FedummError, match="can't be made"):
            create(tmp_path / "run", config(), "")
        assert (tmp_path / "run").read_text() == "a file"


RECORDS: list[dict[str, Any]] = [
    {
        "event": "client",
        "round": 1,
        "client": "site-1",
        "rejected": None,
        "reason": None,
        "train_loss": 0.5,
        "num_samples": 90,
    },
    {"event": "round", "round": 1, "train_loss": math.nan, "heldout": 0.25, "bytes_up": math.inf},
    {"event": "final", "round": 5, "heldout": 0.75, "test": None, "heldout_clients": {"site-1": 0.7, "site-2": 0.8}},
    {"event": "summary", "text": "größer"},
]


class TestMetrics:
    def test_each_record_is_a_line_of_json_and_what_is_no_number_is_null(self, tmp_path: Path) -> None:
        seen: list[dict[str, Any]] = []
        folder = RunFolder(tmp_path, config(), seen.append)
        for record in RECORDS:
            folder.on_record(record)
        folder.finish()
        expected = [dict(r) for r in RECORDS]
        expected[1] |= {"train_loss": None, "bytes_up": None}
        lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()

        def refuse(token: str) -> None:
            raise AssertionError(f"{token} is not JSON")

        assert [json.loads(line, parse_constant=refuse) for line in lines] == expected
        assert list(read_records(tmp_path)) == expected
        assert seen == expected
        assert math.isnan(RECORDS[1]["train_loss"]), "the caller's record was changed"

    def test_a_last_line_cut_short_by_a_crash_is_left_out(self, tmp_path: Path) -> None:
        (tmp_path / "metrics.jsonl").write_text('{"event": "setup"}\n{"event": "round", "ro')
        assert list(read_records(tmp_path)) == [{"event": "setup"}]

    def test_the_figure_of_rounds_is_drawn_at_the_end_of_a_run_only(self, tmp_path: Path) -> None:
        RunFolder(tmp_path, config()).finish()
        assert tree(tmp_path) == {}
        folder = RunFolder(tmp_path, config())
        folder.on_record(RECORDS[1])
        folder.finish()
        assert (tmp_path / "rounds.png").read_bytes().startswith(PNG)

    def test_tensorboard_shows_the_same_numbers(self, tmp_path: Path) -> None:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        folder = RunFolder(tmp_path, config())
        for record in RECORDS:
            folder.on_record(record)
        folder.finish()
        events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
        found = {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
        assert found == {
            "client/site-1/train_loss": [(1, 0.5)],
            "client/site-1/num_samples": [(1, 90.0)],
            # A round scores the adapter it starts from; the closing scores belong to the step after the last.
            "round/heldout": [(1, 0.25), (6, 0.75)],
            "round/heldout_clients": [(6, 2.0)],
        }


def test_the_partition_is_described_with_its_options_and_drawn(tmp_path: Path) -> None:
    clients = {
        "site-1": {"train": 3, "heldout": 1, "labels": {"yes": 2, "no": 1}},
        "site-2": {"train": 1, "heldout": 0, "labels": {"no": 1}},
    }
    folder = RunFolder(tmp_path, config(keep_images_whole=True))
    folder.on_partition(PartitionEvent("dirichlet", "abc123", clients))
    folder.finish()
    assert json.loads((tmp_path / "partition.json").read_text()) == {
        "method": "dirichlet",
        "alpha": 0.3,
        "by": "answer",
        "seed": 11,
        "holdout": 0.1,
        "keep_images_whole": True,
        "fingerprint": "abc123",
        "clients": clients,
    }
    assert (tmp_path / "partition.png").read_bytes().startswith(PNG)


def test_best_and_last_are_adapter_folders_with_their_own_card(tmp_path: Path) -> None:
    run = tmp_path / "my-run"
    run.mkdir()
    folder = RunFolder(run, config())
    peft = {"r": 6, "lora_alpha": 24}
    scored = scores(heldout=0.4321, test=0.5)
    best, last = {"a": torch.tensor([1.0])}, {"a": torch.tensor([2.0])}
    folder.on_adapter(AdapterEvent(which="best", version=2, state=best, adapter_config=peft, scores=scored))
    folder.on_adapter(AdapterEvent(which="last", version=3, state=last, adapter_config=peft, scores={}))
    for which, value in (("best", 1.0), ("last", 2.0)):
        state, adapter_config = read_folder(run / "adapter" / which)
        assert state["a"].tolist() == [value]
        assert adapter_config == {"r": 6, "lora_alpha": 24}
    best_card, last_card = ((run / "adapter" / which / "README.md").read_text() for which in ("best", "last"))
    assert "`my-run`" in best_card
    assert "2 of 5" in best_card
    assert "43.21 %" in best_card
    assert "3 of 5" in last_card
    assert "%" not in last_card, "the last adapter has not been scored yet"


def scores(**values: float) -> dict[str, Any]:
    """Fields of a record with accuracies."""
    return {f"{name}_tasks": {"vqa": {"score": value, "count": 3, "parts": {}}} for name, value in values.items()}


def table_of(card: str) -> dict[str, str]:
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ") and " | " in line]
    return {row[0]: row[1] for row in rows if len(row) == 2}


class TestCard:
    SHARED: ClassVar = {
        "Data": "`easy_vqa`",
        "Adapter": "LoRA rank 6, alpha 24, dropout 0.1 (attention)",
        "Task": "vqa",
        "Optimiser": "AdamW, learning rate 0.0003, weight decay 0.05, 5 x 7 samples a step",
    }

    def test_of_a_federated_adapter_holds_what_was_done_and_reached(self) -> None:
        card = federated_card(config(model_name_or_path="tiny"), 2, scores(heldout=0.5, test=1 / 3), "run")
        assert table_of(card) == {
            **self.SHARED,
            "Base model": "`tiny` (backend `blip_vqa`)",
            "Clients": "4, Dirichlet(0.3) over answer, seed 11",
            "Rounds": "2 of 5, 2 local epoch(s) each",
            "Aggregation": "fedavg",
            "Accuracy on the clients' held-out data": "50.00 %",
            "Accuracy on the common test set": "33.33 %",
        }
        front = yaml.safe_load(card.split("---\n")[1])
        assert front == {
            "library_name": "peft",
            "tags": ["lora", "fedumm", "federated-learning"],
        }

    def test_it_says_on_how_many_clients_it_was_scored(self) -> None:
        names = [f"site-{n}" for n in range(1, 5)]
        for count, where in ((4, "the clients' held-out data"), (3, "the held-out data of 3 of 4 clients")):
            own = scores(heldout=0.5) | {"heldout_clients": dict.fromkeys(names[:count], 0.5)}
            assert table_of(federated_card(config(), 2, own, "run"))[f"Accuracy on {where}"] == "50.00 %"

    def test_it_says_how_clients_were_aggregated_and_what_was_saved(self) -> None:
        chosen = config(
            aggregator="flora", client_weights="equal", prox_mu=0.1, wire="int8", wire_down="bfloat16", dp="central",
            dp_noise_multiplier=1.0,
        )  # fmt: skip
        rows = table_of(federated_card(chosen, 1, {}, "run", Facts(2.5, 96, 0.01, False)))
        assert rows["Aggregation"] == "flora, weights equal, FedProx 0.1, wire int8 up, bfloat16 down"
        assert rows["Differential privacy"] == "epsilon 2.5, delta 1e-05 (client-level)"
        bounded = table_of(federated_card(config(round_minutes=2.5), 1, {}, "run"))["Rounds"]
        assert bounded == "1 of 5, 2 local epoch(s) each, at most 2.5 min of training a client and round"
        assert rows["Saved at rank"] == "96: what the backbone grew by is part of it; 1 % of its energy was cut"
        scored = table_of(federated_card(chosen, 1, scores(heldout=0.5, test=0.25), "run", Facts(2.5)))
        assert [row for row in scored if row.startswith("Accuracy")] == ["Accuracy on the common test set"], (
            "epsilon does not cover scores on the clients' data"
        )
        assert rows["Shared part"].startswith("this is what the clients share")

    def test_of_an_iid_split_says_so(self) -> None:
        assert table_of(federated_card(config(dirichlet_alpha=0.0), 1, {}, "run"))["Clients"] == "4, IID, seed 11"

    @pytest.mark.parametrize(
        ("options", "told"),
        [
            ({}, ""),
            ({"lr_schedule": "cosine"}, " (cosine)"),
            ({"lr_warmup": 0.1}, " (constant, warm-up over the first 10 %)"),
        ],
    )
    def test_it_says_how_the_learning_rate_changes(self, options: dict[str, Any], told: str) -> None:
        chosen = config(**options)
        row = table_of(federated_card(chosen, 1, {}, "run"))["Optimiser"]
        assert row.startswith(f"AdamW, learning rate {chosen.lr}{told}, weight decay ")

    def test_of_a_central_adapter_names_no_clients(self) -> None:
        shared = {k: v for k, v in OPTIONS.items() if k in CentralConfig.__dataclass_fields__}
        card = central_card(from_mapping(CentralConfig, {**shared, "num_epochs": 9}), 9, scores(test=0.125))
        assert table_of(card) == {
            **self.SHARED,
            "Base model": "`the backend's default` (backend `blip_vqa`)",
            "Epochs": "9, seed 11",
            "Accuracy on the evaluation data": "12.50 %",
        }
        assert yaml.safe_load(card.split("---\n")[1])["tags"] == ["lora", "fedumm"]

    @pytest.mark.parametrize(
        ("value", "text"), [(None, "-"), (0.0, "0.00 %"), (1.0, "100.00 %"), (0.12345, "12.35 %"), (2 / 3, "66.67 %")]
    )
    def test_shares_are_percentages_of_two_decimals(self, value: float | None, text: str) -> None:
        assert percent(value) == text


def test_options_of_a_damaged_run_folder_are_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("model_backend: blip_vqa\nnum_cleints: 3\n")
    with pytest.raises(
        FedummError, match=r"Unknown option 'num_cleints' in .*config\.yaml\. Did you mean 'num_clients'"
    ):
        read_config(tmp_path)
    assert read_yaml(tmp_path / "config.yaml")["num_cleints"] == 3
