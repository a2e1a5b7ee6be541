"""A search on real runs: killed twice, it ends with the same choice and bits, which are those of a grid."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedumm.cli.main import main
from fedumm.config import read_yaml
from fedumm.report.run_folder import read_records
from support.processes import killed

STUDY = [
    "sweep", "--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "cpu",
    "--max_train_samples", "60", "--max_eval_samples", "20", "--lora_r", "2", "--num_rounds", "2", "--holdout", "0.3",
]  # fmt: skip
SEARCH = [*STUDY, "--lr", "3e-3,1e-9", "--lr_search", "1", "--seed", "1,2"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_twice_it_ends_with_the_same_choice_and_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # In the midst of a short run, and of one in full.
    short, full = "search1-local_only-k2-alpha0-seed1-lr1e-09", "federated-k2-alpha0-seed1-lr*"
    assert main([*SEARCH, "--name", "straight"]) == 0
    straight, cut = Path("runs/straight"), Path("runs/cut")
    (chosen,) = (folder.name for folder in straight.glob(full))
    killed([*SEARCH, "--name", "cut"], cut / short / "metrics.jsonl", 2)
    assert not list(cut.glob("federated-*"))
    killed([*SEARCH, "--name", "cut"], cut / chosen / "metrics.jsonl", 3)
    assert main([*SEARCH, "--name", "cut"]) == 0
    for name in ("chosen.md", "table.csv", "table.tex"):
        assert (cut / name).read_bytes() == (straight / name).read_bytes()
    adapters = sorted(file.relative_to(straight) for file in straight.rglob("adapter*.safetensors"))
    assert {file.parts[0] for file in adapters} >= {chosen, "search1-central-seed1-lr0.003"}
    for file in adapters:
        assert (cut / file).read_bytes() == (straight / file).read_bytes()

    grid = [*STUDY, "--lr", str(read_yaml(straight / chosen / "config.yaml")["lr"]), "--compare", "federated"]
    assert main([*grid, "--seed", "1", "--name", "grid"]) == 0
    for file in (file for file in adapters if file.parts[0] == chosen):
        assert Path("runs/grid", file).read_bytes() == (straight / file).read_bytes()

    setups = [next(read_records(folder)) for folder in sorted(straight.glob("*central-*"))]
    assert [setup["train"] + setup["heldout"] for setup in setups] == [60] * len(setups)
    assert [setup["heldout"] > 0 for setup in setups] == [False, False, True, True], "only the short runs hold out"
