"""The paper's settings as files: every cell is there, holds what the page says, and runs."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

import paper_configs
from fedumm.backends.registry import backend_for
from fedumm.cli.main import main
from fedumm.cli.options import check_model, check_partition
from fedumm.config import FederateConfig, read_yaml
from fedumm.federation.option_rules import check_rules
from fedumm.report.run_folder import read_records
from fedumm.run_options import from_mapping
from support.pages import ROOT

FILES = sorted(paper_configs.FOLDER.glob("*"))
NAMES = [file.name for file in FILES]
PAGE = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")


def of(file: Path) -> FederateConfig:
    return from_mapping(FederateConfig, read_yaml(file), str(file))


def test_the_files_are_those_of_the_script() -> None:
    assert {file.name: file.read_text(encoding="utf-8") for file in FILES} == dict(paper_configs.configs())


def test_every_cell_of_table_1_has_a_file() -> None:
    cells = [(c.model_backend, c.num_clients, c.dirichlet_alpha) for f in FILES if (c := of(f)).task == "vqa"]
    assert sorted(cells) == sorted(product(["blip_vqa", "januspro"], [2, 4, 8, 16], [0.1, 0.5, 1.0]))
    drawing = [(c.num_clients, c.dirichlet_alpha) for f in FILES if (c := of(f)).task == "unified"]
    assert sorted(drawing) == sorted(product([2, 4, 8, 16], [0.1, 0.5, 1.0]))


@pytest.mark.parametrize("name", NAMES)
def test_a_file_holds_the_settings_that_the_page_gives(name: str) -> None:
    config = of(paper_configs.FOLDER / name)
    table = PAGE[PAGE.index("## Settings of the paper") :]
    given = dict(re.findall(r"--(\w+) ([\d.e-]+)", table[: table.index("```")]))
    assert given.keys() >= {"lora_r", "lora_alpha", "lr", "batch_size", "grad_accum", "local_epochs", "num_rounds"}
    for option, value in given.items():
        assert getattr(config, option) == float(value), option
    assert config.train_answers == "common"
    assert config.aggregator == "fedavg"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_passes_every_check_of_options(name: str) -> None:
    config = of(paper_configs.FOLDER / name)
    check_model(config)
    check_partition(config)
    assert check_rules(config) is None
    backend = backend_for(config)
    assert set(config.tasks) == ({"vqa", "t2i"} if name.startswith("geneval") else {"vqa"})
    command = re.search(r"^# (fedumm federate .*)$", (paper_configs.FOLDER / name).read_text(), re.MULTILINE)
    assert command is not None
    assert f"--config configs/paper/{name}" in command[1]
    assert ("--dataset" in command[1]) == (not config.dataset)
    assert config.dataset == backend.hf_dataset_name() if config.dataset else True


@pytest.mark.parametrize(
    ("name", "data", "tasks"),
    [
        ("blip_vqa-k16-alpha0.1.yaml", ["easy_vqa", "320"], {"vqa"}),
        ("januspro-k2-alpha0.5.yaml", ["shapes", "64"], {"vqa"}),
        ("geneval-januspro-k2-alpha1.0.yaml", ["shapes", "64"], {"vqa", "t2i"}),
    ],
)
def test_a_file_runs_with_a_small_model_and_data_in_place_of_the_large(
    name: str, data: list[str], tasks: set[str], tmp_path: Path
) -> None:
    """One round of one epoch; everything else is the file's."""
    dataset, rows = data
    small = [
        "--model_name_or_path", "tiny", "--dataset", dataset, "--max_train_samples", rows, "--max_eval_samples", "8",
        "--num_rounds", "1", "--local_epochs", "1", "--geneval_prompts", "0", "--gpu", "cpu", "--threads", "1",
    ]  # fmt: skip
    file, folder = str(paper_configs.FOLDER / name), tmp_path / "run"
    assert main(["federate", "--config", file, "--in_process", "--name", str(folder), *small]) == 0
    records = list(read_records(folder))
    (final,) = [record for record in records if record["event"] == "final"]
    assert final["test_tasks"].keys() == tasks
    assert len(records[0]["clients"]) == of(paper_configs.FOLDER / name).num_clients
