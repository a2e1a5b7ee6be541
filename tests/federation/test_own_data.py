"""Every site keeps its own rows, and tells of them no more than it must."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from datasets import DatasetDict, disable_progress_bars
from hypothesis import given
from hypothesis import strategies as st

from fedumm.cli import partition as partition_command
from fedumm.config import FederateConfig
from fedumm.data import DataRequest, load_data
from fedumm.data.partition.iid import Iid
from fedumm.data.partition.split import RARE, split_rows
from fedumm.errors import FedummError
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStats, DataStatsRequest, InitRequest, Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.data_stats import joined
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.partition_file import PARTITION
from fedumm.report.run_folder import read_records
from fedumm.training.data import label_counts, partition_for
from support.toy import PlainFolder, lora_options, together, toy_config

SITES = ("site-1", "site-2")
ROWS = {"site-1": 60, "site-2": 36}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two sites' folders: different rows, different numbers of them."""
    disable_progress_bars()
    columns = ("image", "question", "multiple_choice_answer", "answers")
    whole = load_data("easy_vqa", DataRequest(columns=columns, max_train_samples=200, max_eval_samples=40))
    made, begin = {}, 0
    for site, count in ROWS.items():
        made[site] = tmp_path_factory.mktemp(site) / "data"
        parts = {
            "train": whole.train.select(range(begin, begin + count)),
            "validation": whole.eval.select(range(begin // 10, begin // 10 + 16)),  # of which the backend asks for half
        }
        DatasetDict(parts).save_to_disk(str(made[site]))
        begin += count
    return made


def own_config(**options: Any) -> FederateConfig:
    chosen = lora_options(
        num_clients=2, partition="own", in_process=False, dirichlet_alpha=0.0, max_train_samples=-1,
        max_eval_samples=-1, label_counts="ranks", **options,
    )  # fmt: skip
    return toy_config(**chosen)


class Federation:
    """Real sites in one process; every answer to the server is kept, as it is on the wire."""

    def __init__(self, folder: Path, data: dict[str, Path], config: FederateConfig, change: Any = None) -> None:
        load_plugins(config.plugins)
        folder.mkdir(exist_ok=True)
        self.sent: list[dict[str, Any]] = []
        self.asked: list[Message] = []
        self.hosts = {
            site: Host(site, replace(config, dataset=str(data[site])), lambda *_: None, folder / "clients" / site)
            for site in SITES
        }
        self.change: Callable[[str, Message], Message] = change or (lambda _, answer: answer)
        self.server = Server(config, {site: [site] for site in SITES}, folder / "state", [PlainFolder(folder, config)])
        drive(self.server, together(self._send))

    def _send(self, message: Message) -> dict[str, Message]:
        self.asked.append(message)
        answers = {site: self.change(site, host.handle(message)) for site, host in self.hosts.items()}
        self.sent += [to_wire(answer) for answer in answers.values()]
        return {site: from_wire(to_wire(answer)) for site, answer in answers.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> tuple[Path, Federation]:
    folder = tmp_path_factory.mktemp("run") / "run"
    return folder, Federation(folder, folders, own_config())


def test_each_client_has_all_rows_of_its_site(run: tuple[Path, Federation], folders: dict[str, Path]) -> None:
    folder, federation = run
    kept = json.loads((folder / PARTITION).read_text())
    assert kept["method"] == "own"
    for site, own in kept["clients"].items():
        assert own["train"] + own["heldout"] == ROWS[site]
        assert own["heldout"] > 0
    (setup,) = [r for r in read_records(folder) if r["event"] == "setup"]
    assert setup["test_samples"] == 8 + 8, "of its own test rows each site scores all"
    (asked,) = [message for message in federation.asked if isinstance(message, InitRequest)]
    assert asked.tests == {site: [0, 1] for site in SITES}
    rounds = [r for r in read_records(folder) if r["event"] == "round"]
    assert [r["clients"] for r in rounds] == [2, 2]


def test_no_label_leaves_a_site(run: tuple[Path, Federation], folders: dict[str, Path]) -> None:
    folder, federation = run
    words = set(load_data(str(folders["site-1"]), DataRequest(columns=("multiple_choice_answer",))).train[
        "multiple_choice_answer"
    ])  # fmt: skip
    assert len(words) > 3
    for message in federation.sent:
        if message["kind"] == "DataStats":
            assert all(own["labels"] == {} for own in message["clients"].values())
    texts = (folder / PARTITION).read_text() + (folder / "metrics.jsonl").read_text()
    assert not [word for word in words if f'"{word}"' in texts]


def test_the_same_rows_are_held_out_each_time(folders: dict[str, Path]) -> None:
    config = own_config()
    rows = load_data(str(folders["site-2"]), DataRequest(columns=("multiple_choice_answer",))).train
    one, again = (partition_for(config, rows, SITES, "site-2")[0] for _ in range(2))
    assert one.fingerprint == again.fingerprint
    assert one.shares.keys() == {"site-2"}
    assert one.shares["site-2"].heldout.tolist() == again.shares["site-2"].heldout.tolist()
    images = rows["image_id"][:]
    share = one.shares["site-2"]
    assert not {images[row] for row in share.train} & {images[row] for row in share.heldout}


def test_a_run_goes_on_with_the_same_data_at_every_site_only(tmp_path: Path, folders: dict[str, Path]) -> None:
    config = own_config(num_rounds=1)
    Federation(tmp_path / "run", folders, config)
    longer = replace(config, num_rounds=2)
    Federation(tmp_path / "run", folders, longer)
    assert [r["round"] for r in read_records(tmp_path / "run") if r["event"] == "round"] == [1, 2]
    swapped = {"site-1": folders["site-2"], "site-2": folders["site-1"]}
    with pytest.raises(FedummError, match="site-1 does not have the data that it began with"):
        Federation(tmp_path / "run", swapped, replace(config, num_rounds=3))


def sizes(*clients: str, method: str = "own", fingerprint: str = "f") -> DataStats:
    one = {"train": 3, "heldout": 1, "tasks": {"vqa": 3}, "labels": {}}
    return DataStats(dict.fromkeys(clients, one), method, fingerprint)


@pytest.mark.parametrize(
    "lie", [sizes("site-1"), sizes(), sizes("site-1", "site-2"), sizes("site-2", method="iid"), sizes("site-9")]
)
def test_a_site_tells_of_itself_and_nobody_else(tmp_path: Path, lie: DataStats) -> None:
    server = Server(
        own_config(), {site: [site] for site in SITES}, tmp_path / "state", [PlainFolder(tmp_path, own_config())]
    )
    with pytest.raises(FedummError, match="site-2 tells of other clients than its own"):
        server.setup({"site-1": sizes("site-1"), "site-2": lie})


@given(st.dictionaries(st.sampled_from(SITES), st.text(max_size=5), min_size=2), st.sampled_from(SITES), st.text("x"))
def test_the_joint_fingerprint_is_of_all_sites_whoever_answers_first(
    prints: dict[str, str], changed: str, more: str
) -> None:
    def joint(own: dict[str, str]) -> str:
        answers = {site: sizes(site, fingerprint=own[site]) for site in own}
        return joined(answers, {site: [site] for site in SITES}).fingerprint

    assert joint(prints) == joint(dict(reversed(prints.items())))
    assert (joint(prints) == joint({**prints, changed: prints[changed] + more})) == (more == "")


@pytest.mark.parametrize("runner", ["simulator", "in_process"])
def test_a_simulation_splits_one_data_set(runner: str) -> None:
    with pytest.raises(FedummError, match="--partition own is for real sites"):
        FederateConfig(model_backend="blip_vqa", partition="own", **{runner: True})
    with pytest.raises(FedummError, match="split nothing"):
        FederateConfig(model_backend="blip_vqa", partition="own", dirichlet_alpha=0.5)


def test_there_is_no_split_of_own_data_to_show(tmp_path: Path) -> None:
    options = ["--dataset", "easy_vqa", "--partition", "own", "--max_train_samples", "20"]
    with pytest.raises(FedummError, match="nothing to split here"):
        partition_command.main([*options, "--figure", str(tmp_path / "a.png")], "fedumm partition")


# what is told of labels


def counted(config: FederateConfig, answers: list[str], simulated: bool = True) -> dict[str, dict[str, int]]:
    from datasets import Dataset

    ids = [f"patient-{row}" for row in range(len(answers))]
    rows = Dataset.from_dict({"multiple_choice_answer": answers, "question_id": ids})
    partition, labels = partition_for(config, rows, SITES)
    return label_counts(config, partition, rows, labels, simulated)


@given(st.lists(st.sampled_from(["no", "yes", "left", "right", "pneumonia"]), min_size=20, max_size=60),
       st.sampled_from(["answer", "question_id"]), st.integers(1, 8))  # fmt: skip
def test_ranks_are_counts_without_text(answers: list[str], by: str, least: int) -> None:
    config = toy_config(num_clients=2, partition_by=by, label_counts="ranks", min_label_count=least)
    from datasets import Dataset

    ids = [f"patient-{row}" for row in range(len(answers))]
    rows = Dataset.from_dict({"multiple_choice_answer": answers, "question_id": ids})
    partition, labels = partition_for(config, rows, SITES)
    told = label_counts(config, partition, rows, labels)
    order = sorted(set(answers), key=lambda answer: (-answers.count(answer), answer))
    for site, share in partition.shares.items():
        brute = Counter(f"answer {order.index(answers[row]) + 1}" for row in share.train)
        rare = sum(count for count in brute.values() if count < least)
        expected = {label: count for label, count in brute.items() if count >= least} | ({RARE: rare} if rare else {})
        assert told[site] == expected
    assert not {*answers, *ids} & {label for own in told.values() for label in own}


def test_names_are_for_simulations_and_none_is_none() -> None:
    answers = ["yes", "no"] * 20
    assert {*counted(toy_config(num_clients=2), answers)["site-1"]} == {"yes", "no"}
    assert counted(toy_config(num_clients=2, label_counts="none"), answers) == {"site-1": {}, "site-2": {}}


def test_a_site_tells_no_names_whatever_its_options() -> None:
    """Also where nobody has looked at what the job asks for."""
    config = toy_config(num_clients=2, label_counts="names", partition_by="question_id")
    told = counted(config, ["yes"] * 30 + ["no"] * 10, simulated=False)
    assert {label for own in told.values() for label in own} <= {"answer 1", "answer 2", RARE}


def test_every_host_calls_an_answer_alike() -> None:
    """All of them have all rows: else the server could not compare what they say."""
    config = toy_config(num_clients=2, label_counts="ranks", min_label_count=1)
    assert counted(config, ["b", "a"] * 20) == counted(config, ["b", "a"] * 20)


def test_a_site_that_is_not_on_the_roster_has_no_part(folders: dict[str, Path], tmp_path: Path) -> None:
    config = own_config()
    load_plugins(config.plugins)
    host = Host("site-3", replace(config, dataset=str(folders["site-1"])), lambda *_: None, tmp_path)
    answer = host.handle(DataStatsRequest(list(SITES)))
    assert type(answer).__name__ == "HostError"


def test_a_split_for_one_client_is_what_own_data_are_held_out_by() -> None:
    labels, images = ["a", "b"] * 20, [str(row // 2) for row in range(40)]
    split = split_rows(labels, images, ["site-1"], Iid(), seed=42, holdout=0.1)
    assert (len(split.shares["site-1"].train), len(split.shares["site-1"].heldout)) == (36, 4)
