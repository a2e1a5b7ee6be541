"""Which runs follow from a study, what they are called, and which studies are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paper_configs
from fedumm.cli.main import main
from fedumm.config import read_yaml
from fedumm.errors import FedummError
from fedumm.studies.study import Study, is_study, write_study
from fedumm.studies.study_run import CENTRAL, FEDERATED, LOCAL_ONLY
from support.pages import PAGES, ROOT, commands

BASE = {"model_backend": "blip_vqa", "num_rounds": 4, "local_epochs": 5}
TABLE_1 = {**BASE, "num_clients": [2, 4, 8, 16], "dirichlet_alpha": [0.1, 0.5, 1.0], "seed": [1, 2, 3]}


def names(study: Study, kind: str) -> list[str]:
    return [run.name for run in study.runs() if run.kind == kind]


def test_the_papers_grid() -> None:
    study = Study.of(TABLE_1)
    assert len(names(study, FEDERATED)) == len(names(study, LOCAL_ONLY)) == 4 * 3 * 3
    assert names(study, CENTRAL) == [f"central-seed{seed}-lr5e-05" for seed in (1, 2, 3)]
    assert study.runs()[0].options == {"model_backend": "blip_vqa", "seed": 1, "num_epochs": 20}
    assert "federated-k16-alpha0.1-seed3-lr5e-05" in names(study, FEDERATED)


def test_the_rows_of_the_table_share_the_baselines() -> None:
    cells = Study.of(TABLE_1).cells()
    assert [tuple(cell.setting.values()) for cell in cells][:4] == [(2, 0.1), (2, 0.5), (2, 1.0), (4, 0.1)]
    assert {tuple(cell.runs[CENTRAL]) for cell in cells} == {tuple(names(Study.of(TABLE_1), CENTRAL))}
    assert all(len(set(cell.runs[FEDERATED])) == 3 for cell in cells)


@pytest.mark.parametrize(
    ("varied", "central", "local"),
    [
        ({"lr": [1e-4, 5e-4]}, 2, 2),
        ({"aggregator": ["fedavg", "svd"]}, 1, 1),
        ({"clients_per_round": [1, 2], "wire": ["float32", "int8"], "prox_mu": [0.0, 0.1]}, 1, 1),
        ({"num_clients": [2, 4]}, 1, 2),
        ({"num_rounds": [2, 3]}, 2, 2),
        ({"batch_size": [4, 8]}, 2, 2),
        ({"lora_r": [4, 8, 16]}, 3, 3),
        ({"patience": [0, 2]}, 1, 1),
    ],
)
def test_a_baseline_is_run_once_for_what_it_depends_on(varied: dict[str, Any], central: int, local: int) -> None:
    study = Study.of({**BASE, **varied})
    assert (len(names(study, CENTRAL)), len(names(study, LOCAL_ONLY))) == (central, local)


def test_a_baseline_stops_by_no_test_set() -> None:
    runs = Study.of({**BASE, "patience": 1}).runs()
    assert {run.kind for run in runs if "patience" in run.options} == {FEDERATED}


def test_names_stay_when_a_study_gets_more_values() -> None:
    small, large = Study.of({**BASE, "seed": 1}), Study.of({**BASE, "seed": [1, 2], "lr": [5e-5, 1e-4]})
    assert {run.name for run in small.runs()} < {run.name for run in large.runs()}


def test_what_is_left_out_is_not_run() -> None:
    study = Study.of({**TABLE_1, "compare": "federated, zero_shot"})
    assert {run.kind for run in study.runs()} == {FEDERATED}
    assert study.to_mapping()["compare"] == ["federated", "zero_shot"]


values = st.sampled_from([1, 2, 0.5, "1e-3", True, "blip_vqa", "x y"])
names_of_options = st.sampled_from(["lr", "num_clients", "seed", "dataset", "compile", "lora_r", "wire", "krum_f"])


@given(st.dictionaries(names_of_options, values | st.lists(values, min_size=1, unique_by=str)))
def test_what_is_written_is_the_same_study(tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]) -> None:
    folder = tmp_path_factory.mktemp("study")
    study = Study.of({**BASE, **given})
    assert not is_study(folder)
    write_study(study, folder)
    assert is_study(folder)
    assert Study.of(read_yaml(folder / "study.yaml")) == study


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"num_client": [2, 4]}, "num_clients"),
        ({"seed": []}, "seed"),
        ({"seed": [1, 2, 1]}, "seed"),
        ({"simulator": True}, "simulator"),
        ({"output_dir": "here"}, "output_dir"),
        ({"compare": ["federate"]}, "federated"),
        ({"compare": ["zero_shot"]}, "zero_shot"),
        ({"compare": 3}, "compare"),
        ({"num_rounds": "many"}, "num_rounds"),
        ({"dataset": ["a b", "a  b", "a_b", "a/b", "a?b"]}, "two studies"),
    ],
)
def test_a_study_that_makes_no_sense(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(FedummError, match=told):
        Study.of({**BASE, **wrong}).runs()


@pytest.mark.parametrize("kind", [FEDERATED, CENTRAL, LOCAL_ONLY])
def test_a_folder_of_a_run_has_a_plain_name(kind: str, tmp_path: Path) -> None:
    study = Study.of({**BASE, "dataset": ["../../etc", "x\ny", "shapes"]})
    for name in names(study, kind):
        assert (tmp_path / name).resolve().parent == tmp_path.resolve()
        assert name.isprintable()


def test_the_studies_that_are_shipped() -> None:
    for file in sorted((ROOT / "configs" / "studies").glob("*.yaml")):
        study = Study.of(read_yaml(file))
        assert study.grid == {"num_clients": [2, 4, 8, 16], "dirichlet_alpha": [0.1, 0.5, 1.0], "seed": [1, 2, 3]}
        assert len(study.runs()) == 36 + 36 + 3
        if file.stem.startswith("table1_"):
            assert study.base == paper_configs.SETTINGS | {
                "model_backend": file.stem.removeprefix("table1_"),
                "dataset": "vqav2",
            }


@pytest.mark.parametrize(
    "words", [w for page in PAGES for w in commands(page) if w[:2] == ["fedumm", "sweep"]], ids=" ".join
)
def test_commands_of_pages_name_options_that_there_are(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "study.yaml").write_text("model_backend: blip_vqa\nmodel_name_or_path: tiny\n")
    monkeypatch.chdir(tmp_path)
    if "--collect" in words or any(word.startswith("runs/") for word in words):
        return
    assert main([*words[1:], *(["--dry_run"] if "--dry_run" not in words else [])]) == 0
