"""``fedumm sweep``: what it reads, what it runs, and that runs of one process have the bits of runs alone."""

from __future__ import annotations

import csv
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fedumm.cli.main import main
from fedumm.cli.sweep_options import takes_list
from fedumm.config import FederateConfig, read_yaml
from fedumm.report.run_folder import read_records
from fedumm.run_options import known_options
from fedumm.studies import local_run
from fedumm.studies.study import Study, write_study
from support.needed import needed
from support.processes import killed

MODEL = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu"]
FEW = ["--max_train_samples", "60", "--max_eval_samples", "20", "--lora_r", "2", "--num_rounds", "2", "--lr", "3e-3"]
GRID = ["--num_clients", "2,3", "--dirichlet_alpha", "0.5", "--seed", "1,2"]
ADAPTER = "adapter/last/adapter_model.safetensors"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sweep(*options: str) -> int:
    return main(["sweep", *options])


def table(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "small"
    assert sweep(*MODEL, *FEW, *GRID, "--name", str(folder)) == 0
    return folder


def test_every_run_is_a_run_folder_and_the_table_has_all_columns(finished: Path) -> None:
    lines = table(finished)
    assert {line["n"] for line in lines} == {"2"}
    columns = ["federated", "federated_best", "central", "local_only", "local_only_worst", "zero_shot"]
    assert [line["column"] for line in lines] == 2 * columns
    assert len({line["mean"] for line in lines if line["column"] == "zero_shot"}) == 1
    runs = [folder for folder in finished.iterdir() if folder.is_dir()]
    assert len(runs) == 4 + 4 + 2
    assert all((run / "config.yaml").is_file() and (run / "metrics.jsonl").is_file() for run in runs)
    files = {"table.md", "table.csv", "table.tex", "runs.csv", "study.yaml", "figure.png", ".lock"}
    assert {file.name for file in finished.iterdir() if file.is_file()} == files


def test_a_run_of_a_study_has_the_bits_of_a_run_alone(finished: Path) -> None:
    run = finished / "federated-k3-alpha0.5-seed2-lr0.003"
    alone = ["federate", *MODEL, *FEW, "--num_clients", "3", "--dirichlet_alpha", "0.5", "--seed", "2"]
    assert main([*alone, "--in_process", "--name", "./alone", "--report_samples", "off"]) == 0
    assert (run / ADAPTER).read_bytes() == Path("alone", ADAPTER).read_bytes()
    assert read_yaml(run / "config.yaml") == read_yaml("alone/config.yaml")


def test_so_has_a_central_run(finished: Path) -> None:
    few = [option if option != "--num_rounds" else "--num_epochs" for option in FEW]
    assert main(["train", *MODEL, *few, "--seed", "2", "--output_dir", "alone", "--report_samples", "off"]) == 0
    run = finished / "central-seed2-lr0.003"
    file = "adapter/adapter_model.safetensors"
    assert (run / file).read_bytes() == Path("alone", file).read_bytes()


def test_a_client_alone_has_the_rows_of_the_federated_one(finished: Path) -> None:
    name = "k3-alpha0.5-seed1-lr0.003"
    setups = [next(read_records(finished / f"{kind}-{name}")) for kind in ("federated", "local_only")]
    sizes = [{client: (own["train"], own["heldout"]) for client, own in r["clients"].items()} for r in setups]
    assert sizes[0] == sizes[1]
    local = [r for r in read_records(finished / f"local_only-{name}") if r["event"] == "local"]
    assert {r["client"]: r["num_samples"] for r in local} == {client: rows for client, (rows, _) in sizes[0].items()}
    summary = list(read_records(finished / f"local_only-{name}"))[-1]
    scores = [r["test"] for r in local]
    assert summary["local_only"]["test"]["worst"] == min(scores)
    assert summary["local_only"]["test"]["mean"] == pytest.approx(sum(scores) / 3)


def test_a_client_alone_is_scored_before_it_trains_too(finished: Path) -> None:
    """By the same untrained adapter, on the same rows as in the federated run's first round."""
    name = "k3-alpha0.5-seed1-lr0.003"
    first = next(r for r in read_records(finished / f"federated-{name}") if r["event"] == "round")
    local = [r for r in read_records(finished / f"local_only-{name}") if r["event"] == "local"]
    assert {r["client"]: r["heldout_before"] for r in local} == first["heldout_clients"]
    folders = [finished / f"{kind}-{name}" for kind in ("federated", "local_only")]
    split = [json.loads((folder / "partition.json").read_text()) for folder in folders]
    assert split[0] == split[1]


def test_its_page_has_the_scores_of_each_client(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished / "local_only-k3-alpha0.5-seed1-lr0.003"
    assert main(["report", str(folder)]) == 0
    assert "No example answers: " in capsys.readouterr().out
    page = (folder / "report.html").read_text()
    for heading in ("Result", "Curves", "Clients and fairness", "Split", "How it was made"):
        assert f"<h2>{heading}</h2>" in page
    assert "these are not kept" in page
    assert "--compare local_only" in page
    *local, end = [r for r in read_records(folder) if r["event"] in ("local", "summary")]
    for record in local:
        for key in ("heldout_before", "heldout", "test"):
            assert f"{100 * record[key]:.2f} %" in page
    mean = end["local_only"]["test"]["mean"]
    assert f'class="before">{100 * end["untrained"]["test"]:.2f} %</span>' in page
    assert f"<b>{100 * mean:.2f} %</b>" in page
    (folder / "report.html").unlink()


def test_what_is_finished_is_not_done_again(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {file: file.stat().st_mtime_ns for file in finished.rglob("metrics.jsonl")}
    assert sweep(str(finished / "study.yaml")) == 0
    assert {file: file.stat().st_mtime_ns for file in finished.rglob("metrics.jsonl")} == before
    assert "10 of 10 runs are finished" in capsys.readouterr().out
    (finished / "table.csv").unlink()
    assert sweep("--collect", str(finished)) == 0
    assert len(table(finished)) == 12


def test_other_options_under_the_same_name_are_refused(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(str(finished / "study.yaml"), "--num_rounds", "3") == 2
    assert "began with --num_" in capsys.readouterr().err


def test_runs_that_a_later_command_leaves_out_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    write_study(Study.of({"model_backend": "blip_vqa", "seed": [1, 2]}), folder)
    assert sweep("--collect", str(folder)) == 0
    told = capsys.readouterr().out
    assert "No figure: " in told
    assert "Not in these tables" not in told
    (folder / "central-seed9").mkdir()
    (folder / "central-seed9" / "config.yaml").touch()
    assert sweep("--collect", str(folder)) == 0
    assert "Not in these tables: 1 earlier run(s) in that folder (central-seed9)." in capsys.readouterr().out


def test_a_run_that_fails_leaves_the_others_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = local_run.train_alone

    def failing(backbone: Any, first: Any, client: str, data: Any, config: FederateConfig, *more: Any) -> Any:
        if config.seed == 1 and client == "site-2":
            raise RuntimeError("the disk is on fire")
        return real(backbone, first, client, data, config, *more)

    monkeypatch.setattr(local_run, "train_alone", failing)
    options = [*MODEL, *FEW, "--seed", "1,2", "--compare", "local_only", "--name", "./failing"]
    assert sweep(*options) == 1
    told = capsys.readouterr()
    name = "local_only-k2-alpha0-seed1-lr0.003"
    assert f"1 run(s) failed, see above: {name}" in told.err
    assert "the disk is on fire" in told.out
    assert "the disk is on fire" in Path("failing", "errors", f"{name}.txt").read_text()
    assert {line["n"] for line in table(Path("failing"))} == {"1"}
    monkeypatch.setattr(local_run, "train_alone", real)
    # The first client's record is kept.
    kept = Path("failing", name, "metrics.jsonl").read_text()
    assert sweep(*options) == 0
    assert Path("failing", name, "metrics.jsonl").read_text().startswith(kept)
    assert {line["n"] for line in table(Path("failing"))} == {"2"}
    assert not Path("failing", "errors", f"{name}.txt").exists()


def test_a_dry_run_lists_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(*MODEL, *FEW, *GRID, "--name", "new", "--dry_run") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11
    assert lines[-1] == "10 runs (4 federated, 2 central, 4 local only) in runs/new"
    assert list(Path().iterdir()) == []


def test_flags_override_the_file_whose_name_is_the_studys(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("model_backend: blip_vqa\nlora_r: [2, 4]\nseed: [1, 2]\ncompare: [central]\n")
    assert sweep("mine.yaml", "--seed", "5", "--dry_run") == 0
    out = capsys.readouterr().out
    assert [line.split()[-1] for line in out.splitlines()[:-1]] == [
        "central-seed5-lr5e-05-lora_r=2",
        "central-seed5-lr5e-05-lora_r=4",
    ]
    assert "runs/mine" in out


BLIP = ["--model_backend", "blip_vqa"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (BLIP, "--name"),
        ([*BLIP, "--name", "s", "--lr", "1e-3,fast"], "--lr"),
        ([*BLIP, "--name", "s", "--lora_r", "4,8"], "lora_r: [4,8]"),
        ([*BLIP, "--name", "s", "--num_clients", "2,0"], "--num_clients must be positive"),
        ([*BLIP, "--name", "s", "--compare", "central,everything"], "everything"),
        ([*BLIP, "--name", "s", "--seed", "1,1"], "--seed"),
        ([*BLIP, "--name", "s", "--simulator"], "--simulator"),
        ([*BLIP, "--name", "s", "--aggregator", "fedavg,fedavgg"], "fedavg"),
        ([*BLIP, "--name", "s", "--model_name_or_path", "./nowhere"], "nowhere"),
        (["--name", "s"], "--model_backend is required"),
        ([*BLIP, "--name", "s", "--run", "99", "--seed", "1,2"], "1 to"),
        (["missing.yaml"], "missing.yaml"),
        (["--collect", "nothing"], "no study"),
        (["--collect", "nothing", "--seed", "1"], "--seed"),
    ],
)
def test_what_is_wrong_is_told_before_any_work(
    options: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(*options) == 2
    assert told in capsys.readouterr().err
    assert list(Path().iterdir()) == []


def test_a_study_is_carried_out_by_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/busy").mkdir(parents=True)
    with FileLock("runs/busy/.lock"):
        assert sweep(*MODEL, "--name", "busy") == 2
    assert "in use by another process" in capsys.readouterr().err


def test_a_folder_of_something_else_is_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("runs/mine").mkdir(parents=True)
    Path("runs/mine/notes.txt").write_text("mine")
    assert sweep(*BLIP, "--name", "mine") == 2
    assert "holds no study" in capsys.readouterr().err


def test_no_option_that_means_something_with_a_comma_takes_a_list() -> None:
    listed = {name for name, f in known_options(FederateConfig).items() if takes_list(f)}
    assert listed >= {"lr", "seed", "num_clients", "dirichlet_alpha", "aggregator", "wire", "task", "krum_f"}
    assert listed.isdisjoint({"lora_r", "lora_alpha", "columns", "gpu", "prompt", "dataset", "image_root", "plugin"})


def test_the_array_job_is_a_sound_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep(*MODEL, *FEW, *GRID, "--name", "./it's a study", "--slurm") == 0
    script = Path("it's a study", "slurm.sh")
    assert "sbatch" in capsys.readouterr().out
    assert "#SBATCH --array=1-10\n" in script.read_text()
    assert {path.name for path in script.parent.iterdir()} == {"slurm.sh", "study.yaml"}
    subprocess.run([needed("shellcheck"), script], check=True)


def test_a_task_of_the_array_does_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    options = [*MODEL, *FEW, "--seed", "1,2", "--compare", "central"]
    assert sweep(*options, "--name", "array", "--slurm") == 0
    capsys.readouterr()
    script = Path("runs/array/slurm.sh").read_text()
    (line,) = [line for line in script.splitlines() if " -m fedumm " in line]
    words = line.replace('"$SLURM_ARRAY_TASK_ID" &', "2").split()
    assert main(words[words.index("fedumm") + 1 :]) == 0
    assert {path.name for path in Path("runs/array").iterdir() if path.is_dir()} == {"central-seed2-lr0.003"}
    assert sweep("--collect", "array") == 0
    assert {line["n"] for line in table(Path("runs/array"))} == {"1"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_twice_it_ends_with_the_same_table(finished: Path) -> None:
    options = [*MODEL, *FEW, *GRID, "--name", "./killed"]
    # In the midst of a federated run, after its first round, and of one in which each client is alone.
    killed(["sweep", *options], Path("killed", "federated-k3-alpha0.5-seed1-lr0.003", "metrics.jsonl"), 5)
    killed(["sweep", *options], Path("killed", "local_only-k3-alpha0.5-seed2-lr0.003", "metrics.jsonl"), 2)
    assert sweep(*options) == 0
    assert Path("killed", "table.csv").read_bytes() == (finished / "table.csv").read_bytes()
    assert Path("killed", "table.tex").read_bytes() == (finished / "table.tex").read_bytes()
    for run in finished.glob("federated-*"):
        assert Path("killed", run.name, ADAPTER).read_bytes() == (run / ADAPTER).read_bytes()
