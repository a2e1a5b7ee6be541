"""What is ranked: a file's answers, or those that whoever scores has trained on; never another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars
from PIL import Image

from fedumm.backends.answers import AnswerOptions
from fedumm.config import CentralConfig, FederateConfig
from fedumm.data import DataSplits
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStats, DataStatsRequest, HostError, InitRequest
from fedumm.training.candidates import check_candidates, training_answers
from fedumm.training.centralized import train_centrally

COLORS = ["red", "blue", "green", "red", "teal", "gray", "black", "blue", "brown", "red"]
MODEL: dict[str, Any] = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "answer_mode": "rank"}


def rows_of(answers: list[str], **columns: list[Any]) -> Dataset:
    return Dataset.from_dict(
        {
            "image": [Image.new("RGB", (32, 32), (place * 20, 0, 0)) for place in range(len(answers))],
            "image_id": list(map(str, range(len(answers)))),
            "question": ["what color is it?"] * len(answers),
            "multiple_choice_answer": answers,
            "answers": [[answer, "Dark"] for answer in answers],
            **columns,
        }
    )


def splits_of(**columns: list[Any]) -> DataSplits:
    return DataSplits(rows_of(COLORS, **columns), rows_of(COLORS, **columns))


def federated(**options: Any) -> FederateConfig:
    return FederateConfig(**{**MODEL, "in_process": True, "threads": 1, **options})


def test_central_training_ranks_what_it_trains_on() -> None:
    rows, config = rows_of([*COLORS, " "]), CentralConfig(**MODEL)
    assert training_answers(config, rows) == ("red", "blue", "green", "teal", "gray", "black", "brown")
    assert training_answers(config, rows, [1, 7, 4]) == ("blue", "teal")
    every = CentralConfig(**MODEL, train_answers="all")
    assert training_answers(every, rows, [1, 4]) == ("blue", "Dark", "teal")
    assert training_answers(CentralConfig(**{**MODEL, "answer_mode": "generate"}), rows) == ()
    assert training_answers(CentralConfig(**MODEL, answers="file"), rows) == ()


def test_clients_that_share_a_data_set_share_no_answers() -> None:
    """A site knows its own rows alone; a simulation must not know more."""
    assert training_answers(federated(), rows_of(COLORS)) == ()
    with pytest.raises(FedummError, match="--answers FILE"):
        check_candidates(federated(), splits_of())
    choices = [["red", "blue"]] * len(COLORS)
    with pytest.raises(FedummError, match="--answers FILE"):
        check_candidates(federated(), splits_of(choices=[*choices[1:], None]))


@pytest.mark.parametrize(
    "config",
    [
        federated(answer_mode="generate"),
        federated(answers="file"),
        federated(partition="own", in_process=False),
        CentralConfig(**MODEL),
    ],
)
def test_a_run_that_has_answers_to_rank_is_not_stopped(config: Any) -> None:
    check_candidates(config, splits_of())


def test_rows_with_choices_of_their_own_need_no_file() -> None:
    check_candidates(federated(), splits_of(choices=[["red", "blue"]] * len(COLORS)))
    captions = [None] * len(COLORS)
    check_candidates(federated(), splits_of(choices=captions, task=["t2i"] * len(COLORS)))


def saved(folder: Path, **columns: list[Any]) -> str:
    disable_progress_bars()
    splits = splits_of(**columns)
    DatasetDict(train=splits.train, validation=splits.eval).save_to_disk(str(folder))
    return str(folder)


def test_a_site_ranks_the_answers_of_its_own_training_rows(tmp_path: Path) -> None:
    config = federated(
        partition="own", in_process=False, dataset=saved(tmp_path / "data"), gpu="cpu", feature_cache="memory",
        holdout=0.3,
    )  # fmt: skip
    host = Host("site-1", config, lambda *_: None, tmp_path / "clients")
    stats = host.handle(DataStatsRequest(["site-1", "site-2"]))
    assert isinstance(stats, DataStats)
    host.handle(InitRequest({"site-1": ["site-1"], "site-2": ["site-2"]}, {"site-1": [0, 1]}, "site-1", []))
    assert host.data is not None
    assert host.ready is not None
    trained = [COLORS[row] for row in host.data.partition.shares["site-1"].train.tolist()]
    assert len(trained) < len(COLORS), "some are held out"
    backend: Any = host.ready.model.backbone.backend
    assert backend.answers == AnswerOptions(rank=True, candidates=tuple(dict.fromkeys(trained)))


def test_a_host_of_a_simulation_asks_for_a_file_before_it_loads_a_model(tmp_path: Path) -> None:
    host = Host("site-1", federated(dataset=saved(tmp_path / "data")), lambda *_: None, tmp_path, simulated=True)
    answer = host.handle(DataStatsRequest(["site-1", "site-2"]))
    assert isinstance(answer, HostError)
    assert "--answers FILE" in repr(answer)


def test_a_file_with_one_answer_makes_it_everybodys(tmp_path: Path) -> None:
    """From the option to the score: 3 of 10 rows are red, and with one other reference a right answer scores 1/6."""
    (tmp_path / "answers.txt").write_text("red\n")
    config = CentralConfig(
        **MODEL, dataset=saved(tmp_path / "data"), answers=str(tmp_path / "answers.txt"), gpu="cpu", threads=1,
        feature_cache="memory", train_answers="all",
    )  # fmt: skip
    result = train_centrally(config, lambda _: None, lambda *_: None, lambda *_: None)
    assert result.after["vqa"].score == pytest.approx(0.3 / 6)
