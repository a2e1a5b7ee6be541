"""``fedumm sweep --lr_search``: short runs choose the learning rate by held-out data; only that one runs in full."""

from __future__ import annotations

import json
import math
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.cli import sweep as command
from fedumm.cli.main import main
from fedumm.config import CentralConfig, read_yaml, write_yaml
from fedumm.errors import DivergedError, FedummError
from fedumm.run_options import to_mapping
from fedumm.studies import engine
from fedumm.studies.choice import Choice, Trial, choices, chosen
from fedumm.studies.chosen import budget, words
from fedumm.studies.results import Outcome
from fedumm.studies.study import Study
from fedumm.training.stock import Stock
from support.needed import needed

RATES = [1e-4, 1e-3, 1e-2]
BASE = {"model_backend": "blip_vqa", "num_rounds": 8, "local_epochs": 2, "lr": RATES, "lr_search": 2}
STUDY = Study.of({**BASE, "num_clients": [2, 4], "seed": [1, 2, 3], "patience": 3, "holdout": 0.2})
KINDS = ("federated", "central", "local_only")


# ---- Which runs ----


def test_a_search_tries_each_rate_once_with_the_first_seed() -> None:
    short = STUDY.short_runs()
    # Central runs do not depend on the number of clients.
    assert [sum(run.kind == kind for run in short) for kind in KINDS] == [2 * 3, 3, 2 * 3]
    assert {run.options["seed"] for run in short} == {1}
    assert all(run.short and run.rounds == 2 and run.name.startswith("search2-") for run in short)
    assert not any("patience" in run.options for run in short), "every rate gets the same budget"
    central = [run for run in short if run.kind == "central"]
    assert {(run.options["num_epochs"], run.options["holdout"]) for run in central} == {(4, 0.2)}
    assert {run.options["num_rounds"] for run in short if run.kind != "central"} == {2}


def test_full_runs_are_those_of_the_grid_with_the_chosen_rate() -> None:
    rates = {(kind, clients): 1e-3 for kind in KINDS for clients in (2, 4)} | {("federated", 4): 1e-2}
    settled = STUDY.settled(rates)
    grid = {run.name: run for run in STUDY.in_full().runs()}
    full = settled.runs()
    assert all(grid[run.name] == run for run in full)
    assert {run.options["lr"] for run in full if run.options.get("num_clients") == 4 and run.kind == "federated"} == {
        1e-2
    }
    assert len(full) == len(STUDY.runs()) == 2 * 3 + 3 + 2 * 3
    assert all(run.to_choose for run in STUDY.runs())
    assert not any(run.to_choose for run in full)
    assert not any("holdout" in run.options for run in full if run.kind == "central"), "they train on all rows"


def test_settings_that_differ_in_length_share_their_search() -> None:
    study = Study.of({**BASE, "num_rounds": [4, 8], "compare": "federated"})
    assert len(study.short_runs()) == 3
    assert len(study.runs()) == 2


def test_images_are_not_drawn_to_choose() -> None:
    study = Study.of({**BASE, "task": "unified", "geneval_prompts": 9})
    assert {run.options["geneval_prompts"] for run in study.short_runs()} == {0}
    assert {run.options["geneval_prompts"] for run in study.runs()} == {9}


def test_the_budget_is_told_in_runs_and_rounds() -> None:
    told = budget(STUDY)
    assert "15 short runs of 2 round(s) choose one of 3" in told
    assert "then 15 runs in full" in told
    assert "150 rounds (30 + 120)" in told
    assert "would be 45 runs and 360 rounds" in told


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"lr": 1e-3}, "--lr_search needs learning rates"),
        ({"lr": [1e-3]}, "--lr_search needs learning rates"),
        ({"lr_search": 9}, "more than --num_rounds 8"),
        ({"num_rounds": [1, 8]}, "more than --num_rounds 1"),
        ({"lr_search": -1}, "--lr_search is a number"),
        ({"lr_search": "2"}, "--lr_search is a number"),
        ({"lr_search": True}, "--lr_search is a number"),
        ({"dp": "central"}, "--dp"),
        ({"dp": ["off", "local"]}, "--dp"),
        ({"holdout": [0.1, 0.2]}, "--holdout"),
    ],
)
def test_a_search_that_makes_no_sense(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(FedummError, match=told):
        Study.of({**BASE, **wrong})


def test_what_is_written_is_the_same_search() -> None:
    assert Study.of(STUDY.to_mapping()) == STUDY
    assert STUDY.to_mapping()["lr_search"] == 2


# ---- Which rate ----

SCORE = st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])
SHORT = [run.name for run in STUDY.short_runs()]


@given(st.lists(SCORE, min_size=len(SHORT), max_size=len(SHORT)))
@settings(max_examples=60, deadline=None)
def test_held_out_data_choose_and_never_the_test_set(heldout: list[float]) -> None:
    # The test set says the opposite, and would choose another one.
    found = {
        name: Outcome({name.split("-")[1]: 1 - own}, 1.0, own, (50,)) for name, own in zip(SHORT, heldout, strict=True)
    }
    settled = chosen(STUDY, found)
    for kind in KINDS:
        for clients in (2, 4):
            middle = "" if kind == "central" else f"-k{clients}-alpha0"
            own = {rate: found[f"search2-{kind}{middle}-seed1-lr{rate:g}"].heldout or 0.0 for rate in RATES}
            assert settled.rates[kind, clients] == max(own, key=lambda rate: own[rate])


def test_nothing_is_chosen_before_all_were_tried() -> None:
    found = {name: Outcome({}, 1.0, 0.5, (50,)) for name in SHORT}
    del found["search2-federated-k2-alpha0-seed1-lr0.01"]
    settled = chosen(STUDY, found)
    assert ("federated", 2) not in settled.rates
    assert ("federated", 4) in settled.rates
    assert {run.name for run in settled.runs() if run.to_choose} == {
        f"federated-k2-alpha0-seed{seed}-lr-to-choose" for seed in (1, 2, 3)
    }


def test_a_rate_that_diverged_is_out() -> None:
    found = {name: Outcome({}, 1.0, 0.5, (50,)) for name in SHORT}
    found |= {name: Outcome({}, 0.0, diverged=True) for name in SHORT if "lr0.0001" in name or "-k4-" in name}
    made = {(one.kind, *one.setting.values()): one.best for one in choices(STUDY, found)}
    best = made["federated", 2]
    assert best
    assert best.value == 1e-3
    assert made["federated", 4] is None
    assert ("federated", 4) not in chosen(STUDY, found).rates


def choice(*scores: float | None, rows: int = 100) -> Choice:
    errors = [0.0 if own is None else math.sqrt(own * (1 - own) / rows) for own in scores]
    trials = [Trial(rate, own, rows, e) for rate, own, e in zip(RATES, scores, errors, strict=False)]
    return Choice({"num_clients": 2}, "federated", trials)


@pytest.mark.parametrize(
    ("of", "edge", "close"),
    [
        (choice(0.1, 0.5, 0.1), "", []),
        (choice(0.1, 0.3, 0.9), "highest", []),
        (choice(0.9, 0.3, 0.1), "lowest", []),
        (choice(0.1, 0.9, None), "", []),
        # 2 x sqrt(0.24 / 100 + 0.25 / 100) = 0.14.
        (choice(0.1, 0.5, 0.6), "highest", [1e-3]),
        (choice(0.1, 0.45, 0.6), "highest", []),
        (choice(0.1, 0.45, 0.6, rows=50), "highest", [1e-3]),
        (choice(1.0, 1.0, 0.1), "lowest", [1e-3]),
        (choice(None, None, None), "", []),
    ],
)
def test_what_a_reader_must_know_of_a_choice_is_told(of: Choice, edge: str, close: list[float]) -> None:
    assert of.edge == edge
    assert [trial.value for trial in of.close] == close
    told = "\n".join(words(of, str))
    assert ("that was tried. Try a" in told) == bool(edge)
    assert ("do not tell" in told) == bool(close)
    assert ("diverged with every learning rate" in told) == (of.best is None)
    assert of.best is None or f"of {of.best.rows} held-out rows" in told


def test_the_error_of_a_mean_over_clients_is_that_of_the_smallest_most_of_all() -> None:
    study = Study.of({**BASE, "compare": "federated,local_only"})
    rows = {"federated": (400,), "local_only": (390, 10)}
    found = {run.name: Outcome({}, 1.0, 0.5, rows[run.kind]) for run in study.short_runs()}
    federated, alone = (one.trials[0] for one in choices(study, found))
    assert federated.rows == alone.rows == 400
    assert federated.error == pytest.approx(math.sqrt(0.25 / 400))
    assert alone.error == pytest.approx(math.sqrt(0.25 / 390 + 0.25 / 10) / 2)


# ---- The command, with made-up runs ----

HELDOUT = {1e-4: 0.2, 1e-3: 0.7, 1e-2: 0.5}
OPTIONS = [
    "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--num_rounds", "4",
    "--lr", "1e-4,1e-3,1e-2", "--lr_search", "1", "--seed", "1,2", "--name", "s",
]  # fmt: skip


class MadeUp:
    """Runs that write what they would have reached: on the test set the opposite of the held-out data."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.stop_at = ""
        self.diverging: Callable[[str], bool] = lambda name: False

    def of(self, run: Any, config: Any) -> Callable[[Any, Any], None]:
        path = Path(config.output_dir if isinstance(config, CentralConfig) else config.name)

        def do(console: Any, stock: Any) -> None:
            if run.name == self.stop_at:
                raise KeyboardInterrupt
            self.done.append(run.name)
            path.mkdir(parents=True, exist_ok=True)
            write_yaml(to_mapping(config), path / "config.yaml", run.command)
            if self.diverging(run.name):
                raise DivergedError("the loss is nan")
            held = HELDOUT[config.lr]
            records = [{"event": "setup", "heldout": 40, "clients": {"site-1": {"heldout": 40}}}]
            records.append({"event": "summary", "seconds": 1.0, **self.summary(run.kind, held, 1 - held)})
            (path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))

        return do

    @staticmethod
    def summary(kind: str, held: float, test: float) -> Mapping[str, Any]:
        own = {"heldout": held, "test": test}
        if kind == "local_only":
            mean = {name: {"mean": value, "spread": 0.0, "worst": value} for name, value in own.items()}
            return {"local_only": mean, "untrained": {"test": 0.1}}
        return {"untrained": {"test": 0.1}, **({"trained": own} if kind == "central" else {"last": own, "best": own})}


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeUp:
    monkeypatch.chdir(tmp_path)
    runs = MadeUp()
    monkeypatch.setattr(command, "_DO", dict.fromkeys(command._DO, runs.of))
    monkeypatch.setattr(Stock, "checked", lambda *_: (None, None))
    monkeypatch.setattr(engine, "say", lambda *_: None)
    return runs


def test_short_runs_come_first_then_the_chosen_rate_in_full(
    made_up: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", *OPTIONS]) == 0
    told = capsys.readouterr().out
    assert told.startswith("Search for the learning rate: 9 short runs of 1 round(s)")
    short, full = made_up.done[:9], made_up.done[9:]
    assert all(name.startswith("search1-") for name in short)
    assert sorted(full) == sorted(
        f"{kind}{'' if kind == 'central' else '-k2-alpha0'}-seed{seed}-lr0.001" for kind in KINDS for seed in (1, 2)
    )
    assert "search1-central-seed1-lr0.001: 70.00 % held out" in told
    table = Path("runs/s/chosen.md").read_text()
    assert "| federated | 0.001 | 70.00 | 40 | yes | 30.00 ± 0.00 |" in table
    assert "| central | 0.01 | 50.00 | 40 |  |  |" in table
    assert "learning rate" not in Path("runs/s/table.md").read_text().split("\n\n")[1]
    assert "chosen.md" in Path("runs/s/table.md").read_text()
    assert Path("runs/s/runs.csv").read_text().splitlines()[1].startswith("central-seed1-lr0.001,central,0.001,1,")
    made_up.done.clear()
    assert main(["sweep", "runs/s/study.yaml"]) == 0
    assert made_up.done == []


@pytest.mark.parametrize("where", ["search1-local_only-k2-alpha0-seed1-lr0.0001", "local_only-k2-alpha0-seed2-lr0.001"])
def test_a_search_that_was_stopped_ends_with_the_same_choice(made_up: MadeUp, where: str) -> None:
    assert main(["sweep", *OPTIONS, "--name", "straight"]) == 0
    whole = made_up.done[:]
    made_up.done.clear()
    made_up.stop_at = where
    assert main(["sweep", *OPTIONS]) == 128 + signal.SIGINT
    made_up.stop_at = ""
    assert main(["sweep", *OPTIONS]) == 0
    assert made_up.done == whole, "each run once"
    for name in ("chosen.md", "table.csv"):
        assert Path("runs/s", name).read_bytes() == Path("runs/straight", name).read_bytes()


def test_a_rate_that_diverges_fails_nothing_and_is_not_tried_again(
    made_up: MadeUp, capsys: pytest.CaptureFixture[str]
) -> None:
    made_up.diverging = lambda name: name.startswith("search1-") and name.endswith("lr0.001")
    assert main(["sweep", *OPTIONS]) == 0
    assert "lr0.001: diverged, so this learning rate is out" in capsys.readouterr().out
    assert {name.rpartition("-")[2] for name in made_up.done[9:]} == {"lr0.01"}
    assert "| federated | 0.001 | diverged |" in Path("runs/s/chosen.md").read_text()
    made_up.done.clear()
    assert main(["sweep", *OPTIONS]) == 0
    assert made_up.done == []


def test_without_a_rate_that_learns_the_full_runs_wait(made_up: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    made_up.diverging = lambda name: "federated" in name
    assert main(["sweep", *OPTIONS]) == 1
    told = capsys.readouterr()
    assert "federated: the training diverged with every learning rate. Give lower ones." in told.out
    assert "2 run(s) have no learning rate yet: federated-k2-alpha0-seed1-lr-to-choose" in told.err
    assert len(made_up.done) == 9 + 4, "the baselines are done"


def test_the_array_waits_for_the_search(made_up: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *OPTIONS, "--slurm"]) == 0
    told = capsys.readouterr().out
    assert "search=$(sbatch --parsable runs/s/slurm.sh)" in told
    assert 'sbatch --dependency=afterany:"$search" --array=10-15 runs/s/slurm.sh' in told
    assert "#SBATCH --array=1-9\n" in Path("runs/s/slurm.sh").read_text()
    task = ["sweep", "runs/s/study.yaml", "--run"]
    assert main([*task, "10"]) == 2
    assert "the short runs 1 to 9" in capsys.readouterr().err
    for number in range(1, 10):
        assert main([*task, str(number)]) == 0
    assert main([*task, "10"]) == 0
    assert made_up.done[-1] == "central-seed1-lr0.001"
    assert main([*task, "16"]) == 2
    assert main(["sweep", "--collect", "s"]) == 0
    assert "1 of 6 runs are finished." in capsys.readouterr().out


def test_its_script_is_sound(made_up: MadeUp) -> None:
    assert main(["sweep", *OPTIONS, "--name", "./it's a study", "--slurm"]) == 0
    subprocess.run([needed("shellcheck"), Path("it's a study", "slurm.sh")], check=True)


def test_a_dry_run_tells_the_budget(made_up: MadeUp, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *OPTIONS, "--dry_run"]) == 0
    *runs, told, last = capsys.readouterr().out.splitlines()
    assert len(runs) == 15
    assert runs[9].split() == ["10", "to", "do", "central-seed1-lr-to-choose"]
    assert "33 rounds (9 + 24)" in told
    assert "18 runs and 72 rounds" in told
    assert last == "15 runs (2 federated, 2 central, 2 local only, 9 short) in runs/s"
    assert not Path("runs").exists()
    assert main(["sweep", *OPTIONS]) == 0
    capsys.readouterr()
    assert main(["sweep", *OPTIONS, "--dry_run"]) == 0
    assert "finished  central-seed1-lr0.001" in capsys.readouterr().out
    assert read_yaml("runs/s/study.yaml")["lr_search"] == 1
