"""The best adapter is drawn with at the end of a run, where it was not while it was the latest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from federation.server.test_server import CLIENTS, START, good
from federation.server.test_server import run as drive
from fedumm.adapters import decode
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.report.overview import overview
from fedumm.report.run_folder import create, read_records
from support.toy import toy_config

WEIGHTS = "adapter/best/adapter_model.safetensors"
DRAWN = Evaluation(0.75, 48, {"colors": (0.75, 48)})
SCORES = {0: 0.25, 1: 0.75, 2: 0.5, 3: 0.5}
"""On held-out data, by version: the first round is the best one."""


def answers(task: RoundTask) -> list[ClientUpdate]:
    if task.version >= 0:
        return []
    return [good(task, client, float(task.round), SCORES[task.round - 1]) for client in CLIENTS]


class Images:
    """What a host says of the common test set; it knows which tasks made it draw."""

    def __init__(self, draws: bool = True, fails: bool = False) -> None:
        self.tasks: list[RoundTask] = []
        self._draws, self._fails = draws, fails

    def __call__(self, task: RoundTask) -> Scores:
        self.tasks.append(task)
        if self._fails and task.version >= 0:
            return {"geneval": Evaluation(0.75, 3, {"colors": (0.75, 3)})}
        return {"geneval": DRAWN} if task.draw and self._draws else {}

    @property
    def closing(self) -> list[RoundTask]:
        return [task for task in self.tasks if task.version >= 0]


def run(folder: Path, images: Images, **options: Any) -> list[dict[str, Any]]:
    drive(folder, answers, images, **{"num_rounds": 3, "task": "unified", **options})
    return list(read_records(folder))


def test_the_best_version_travels_whole_and_is_only_drawn_with(tmp_path: Path) -> None:
    images = Images()
    records = run(tmp_path, images)
    (task,) = images.closing
    assert (task.version, task.round, task.train, task.draw) == (1, 4, False, True)
    assert not any(map(task.clients, ("host-1",)))
    sent = decode(task.adapter.payload)
    assert torch.equal(sent["w"], torch.full((3,), 1.0)), "what the first round made"
    (drawn,) = [r for r in records if r["event"] == "drawn"]
    assert (drawn["round"], drawn["bytes_down"]) == (1, len(task.adapter))
    summary = records[-1]
    assert summary["best"]["round"] == 1
    assert summary["best"]["test_tasks"]["geneval"]["score"] == 0.75
    assert torch.equal(decode((tmp_path / WEIGHTS).read_bytes())["w"], sent["w"])
    assert "75.00 %" in (tmp_path / WEIGHTS).with_name("README.md").read_text(), "the model card has it, too"


@pytest.mark.parametrize(
    "options",
    [
        {"geneval_every": 1},  # drawn when it was the latest
        {"num_rounds": 1},  # the last one is the best
        {"dp": "central", "dp_noise_multiplier": 1.0},  # nothing is chosen by scores
    ],
)
def test_where_nothing_is_missing_there_is_no_such_task(options: dict[str, Any], tmp_path: Path) -> None:
    images = Images()
    run(tmp_path, images, **options)
    assert not images.closing
    assert images.tasks


def test_a_run_that_draws_nothing_has_none(tmp_path: Path) -> None:
    images = Images(draws=False)
    run(tmp_path, images, geneval_prompts=0)
    assert not images.closing


def test_what_hosts_can_not_draw_is_not_asked_for_twice(tmp_path: Path) -> None:
    images = Images(fails=True)
    records = run(tmp_path, images)
    assert len(images.closing) == 1
    assert not [r for r in records if r["event"] == "drawn"]
    assert "geneval" not in records[-1]["best"]["test_tasks"]
    assert "images, it was to draw 48" in next(r["text"] for r in records if r["event"] == "note")


@pytest.mark.parametrize("stopped", [3, 4, 5])
def test_a_run_that_was_cut_draws_with_the_same_adapter(tmp_path: Path, stopped: int) -> None:
    """Cut in its last round, as its last version is scored, or in the closing task itself."""
    whole = run(tmp_path / "whole", Images())

    class Cut(Images):
        def __call__(self, task: RoundTask) -> Scores:
            if len(self.tasks) + 1 == stopped:
                raise KeyboardInterrupt
            return super().__call__(task)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", Cut())
    images = Images()
    records = run(tmp_path / "cut", images)
    (task,) = images.closing
    assert (task.version, decode(task.adapter.payload)["w"].tolist()) == (1, [1.0, 1.0, 1.0])
    same = [{k: v for k, v in own[-1].items() if k != "seconds"} for own in (records, whole)]
    assert same[0] == same[1]
    state = "state/server.safetensors"
    tensors = [decode((tmp_path / name / state).read_bytes()) for name in ("cut", "whole")]
    assert tensors[0].keys() == tensors[1].keys()
    assert all(torch.equal(t, tensors[1][name]) for name, t in tensors[0].items())


def test_bytes_of_a_run_are_those_of_all_its_tasks(tmp_path: Path) -> None:
    create(tmp_path, toy_config(num_clients=2, num_rounds=3), "x").release()
    images = Images()
    run(tmp_path, images)
    assert overview(tmp_path).bytes_down == sum(task.size for task in images.tasks)
    assert START["w"].tolist() == [0, 0, 0]
