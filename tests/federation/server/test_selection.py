"""Which version of the global adapter is called the best: by the same clients' scores, never by luck of the draw."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedumm.adapters import AdapterState, decode, encode, spec_of
from fedumm.adapters.folder import read_folder
from fedumm.adapters.state import part
from fedumm.compression.packing import pack
from fedumm.config import FederateConfig
from fedumm.features.report import CacheReport
from fedumm.federation.assignment import assign, client_names
from fedumm.federation.client.client_state import OWN
from fedumm.federation.protocol.initial_adapter import adapter_digest
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    Message,
    RoundReply,
    RoundTask,
)
from fedumm.federation.runners.in_process import ask_in_turn
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server import scoreboard as scoreboard_module
from fedumm.federation.server.sampling import panel_of
from fedumm.federation.server.selection import Selection
from fedumm.federation.server.server import Server
from fedumm.metrics.evaluation import Evaluation, Scores
from fedumm.report.run_folder import read_records
from fedumm.training.data import load_splits, partition_for
from support.lora_toy_backend import LAYERS, KeptRows, frozen_toy
from support.toy import Driven, PlainFolder, lora_options, toy_config

Answer = Callable[[RoundTask, str], ClientUpdate]
START = {"w": torch.zeros(3)}
ROWS = 10


class Versions(Driven):
    """A run that keeps every version of the global adapter."""

    def _send(self, message: Message) -> dict[str, Message]:
        if isinstance(message, RoundTask):
            kept = self.__dict__.setdefault("versions", [])
            kept.append({name: t.clone() for name, t in self.server.adapter.items()})
        return super()._send(message)


def right_answers(adapter: AdapterState, config: FederateConfig, rows: KeptRows, indices: Collection[int]) -> int:
    """Of these rows, with LoRA written out in float64."""
    network, scale = frozen_toy(), config.alpha / config.rank
    features = torch.stack([rows[i][0] for i in indices]).double()
    for name in LAYERS:
        layer = getattr(network, name)
        a, b = (adapter[f"base_model.model.{name}.lora_{factor}.weight"].double() for factor in "AB")
        features = features @ (layer.weight.double() + scale * b @ a).T + layer.bias.double()
        features = features if name == "answer" else torch.tanh(features)
    return int((features.argmax(1) == torch.tensor([rows[i][1] for i in indices])).sum())


@pytest.mark.parametrize(("drawn", "hosts"), [(2, 1), (2, 2), (1, 2)])
def test_best_is_the_version_that_the_same_clients_score_highest(tmp_path: Path, drawn: int, hosts: int) -> None:
    """Clients with answers of their own, a few of six in a round: the score of who is drawn next tells of these alone.
    With two of them there is room for all on the panel."""
    config = toy_config(**lora_options(
        num_clients=6, clients_per_round=drawn, num_rounds=6, dirichlet_alpha=0.1, max_train_samples=360, holdout=0.2,
        lr=0.05, max_eval_samples=4, seed=2,
    ))  # fmt: skip
    run = Versions(tmp_path / "run", assign(6, hosts), config)
    records = list(read_records(run.folder))
    panel = client_names(6) if drawn == 2 else records[0]["panel"]
    assert len(panel) == (6 if drawn == 2 else 2)
    splits = load_splits(config)
    partition, _ = partition_for(config, splits.train, client_names(6))
    rows, held = KeptRows(splits.train), [row for name in panel for row in partition.shares[name].heldout.tolist()]
    right = [right_answers(adapter, config, rows, held) for adapter in run.versions]
    first = right.index(max(right))
    assert 0 < first < 6
    assert records[-1]["best"]["round"] == first, right
    best = read_folder(run.folder / "adapter" / "best")[0]
    assert all(torch.equal(t, best[name]) for name, t in run.versions[first].items())
    scored = [r for r in records if r["event"] in ("round", "final")]
    assert [r["heldout"] * len(held) for r in scored] == pytest.approx(right)
    assert all(sorted(r["heldout_clients"]) == panel for r in scored)


def test_who_scores_has_no_part_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever is on the panel, and on whichever host: the same updates, to the last bit."""
    options = lora_options(num_clients=4, clients_per_round=2, num_rounds=3, aggregator="fedsa_lora", wire_up="int8")
    found, last = [], []
    for number, panel in enumerate([[], ["site-2"], client_names(4)]):
        monkeypatch.setattr(scoreboard_module, "panel_of", lambda *_, own=panel: own)
        run = Driven(tmp_path / str(number), assign(4, 1 + number % 2), toy_config(**options))
        asked = [[c for own in task.assignments.values() for c in own] for task, _ in run.rounds[:-1]]
        found.append(
            [(c, updates[c].adapter) for (_, updates), own in zip(run.rounds, asked, strict=False) for c in own]
        )
        last.append((run.folder / "adapter" / "last" / "adapter_model.safetensors").read_bytes())
        scorers = [{c for own in task.scorers.values() for c in own} for task, _ in run.rounds[:-1]]
        assert scorers == [set(panel) - set(own) for own in asked], "nobody is asked twice"
        folders = sorted(path.parent.name for path in (run.folder / "clients").glob("*/adapter"))
        assert folders == sorted({c for own in asked for c in own}), "each client's own adapter, at the end"
    assert found[0] == found[1] == found[2]
    assert last[0] == last[1] == last[2]


class OwnFactors(Versions):
    """A run of a method whose clients keep factors, that knows what each client is to be scored with."""

    def _send(self, message: Message) -> dict[str, Message]:
        if isinstance(message, RoundTask):
            for client in message.clients("host-1"):
                file = (
                    self.folder / "clients" / client / f"{message.last_accepted_round.get(client, 0):06d}.safetensors"
                )
                own = part(decode(file.read_bytes()), OWN) if file.exists() else {}
                self.__dict__.setdefault("own", {})[message.round, client] = {**self.server.adapter, **own}
        return super()._send(message)


def test_clients_are_scored_with_their_own_factors_when_others_train(tmp_path: Path) -> None:
    options = {
        "num_clients": 3,
        "clients_per_round": 1,
        "num_rounds": 4,
        "aggregator": "fedsa_lora",
        "lr": 0.05,
        "max_train_samples": 120,
    }
    config = toy_config(**lora_options(**options))
    run = OwnFactors(tmp_path / "run", assign(3, 1), config)
    splits = load_splits(config)
    partition, _ = partition_for(config, splits.train, client_names(3))
    rows = KeptRows(splits.train)
    scorers = [
        (task.round, c, updates[c].before) for task, updates in run.rounds for c in task.scorers.get("host-1", [])
    ]
    assert len(scorers) == 4 * 2
    for number, client, before in scorers:
        held = partition.shares[client].heldout.tolist()
        expected = right_answers(run.own[number, client], config, rows, held)
        assert before["vqa"].score * len(held) == pytest.approx(expected)
    assert any(
        not torch.equal(t, run.versions[number - 1][name])
        for number, client, _ in scorers for name, t in run.own[number, client].items()
    ), "nobody had factors of its own"  # fmt: skip


def update(task: RoundTask, client: str, score: float, value: float = 1.0) -> ClientUpdate:
    """What a client answers whose held-out score is ``score``."""
    held = {"vqa": Evaluation(score, ROWS, {})}
    if client not in {c for own in task.assignments.values() for c in own} or not task.train:
        return ClientUpdate(client=client, round=task.round, before=held)
    adapter = pack({"w": torch.full((3,), value)}, "float32", spec_of(START))
    return ClientUpdate(
        client=client,
        round=task.round,
        adapter=adapter,
        untrained=[],
        num_samples=30,
        steps=4,
        train_loss=1.0,
        train_losses={"vqa": 1.0},
        before=held,
        after=held,
    )


def run_sites(folder: Path, answer: Answer, sites: int = 4, **options: Any) -> list[dict[str, Any]]:
    """Records of a run of sites of equal size, a host each; an answer may be an error of the whole site."""
    config, names = toy_config(num_clients=sites, **options), client_names(sites)
    folder.mkdir()
    each = {"train": 30, "heldout": ROWS, "tasks": {"vqa": 30}, "labels": {"yes": 30}}

    def reply(message: Message, name: str) -> Message:
        if isinstance(message, DataStatsRequest):
            return DataStats(dict.fromkeys(names, each), "iid", "print")
        if isinstance(message, InitRequest):
            return InitReply(
                spec=spec_of(START),
                adapter_config={},
                trainable=3,
                total=10,
                adapter=encode(START),
                test_samples=0,
                cache=[CacheReport()],
                device="cpu",
                digest=adapter_digest(START),
            )
        assert isinstance(message, RoundTask)
        try:
            return RoundReply([answer(message, client) for client in message.clients(name)])
        except OSError as error:
            return HostError(str(error))

    server = Server(config, {name: [name] for name in names}, folder / "state", [PlainFolder(folder, config)])
    drive(server, partial(ask_in_turn, lambda name, message: reply(message, name)))
    return list(read_records(folder))


def of(records: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [r for r in records if r["event"] == event]


def test_who_is_not_on_the_panel_does_not_decide(tmp_path: Path) -> None:
    """One of eight trains in a round; each client outside of the panel calls the version perfect that it meets."""
    truth = [0.1, 0.3, 0.6, 0.5, 0.4, 0.2, 0.5]
    panel = panel_of({name: {"train": 30, "heldout": ROWS} for name in client_names(8)}, 1, seed=42)
    assert len(panel) == 3, "as many held-out rows as one client has training rows"
    found = {}
    for name in ("honest", "lying"):

        def answer(task: RoundTask, client: str, lying: bool = name == "lying") -> ClientUpdate:
            score = 1.0 if lying and client not in panel else truth[task.round - 1]
            return update(task, client, score, float(task.round))

        records = run_sites(tmp_path / name, answer, sites=8, clients_per_round=1, num_rounds=6)
        assert of(records, "setup")[0]["panel"] == panel
        found[name] = [r for r in records if r["event"] in ("final", "summary")]
        for own in found[name]:
            own.pop("seconds", None)
        drawn = {r["client"] for r in of(records, "client")}
        assert drawn - set(panel), "else nobody lied"
        assert [r["heldout"] for r in of(records, "round")] == pytest.approx(truth[:-1])
        assert [r["best_round"] for r in of(records, "round")] == [0, 1, 2, 2, 2, 2]
    assert found["honest"] == found["lying"]
    assert found["lying"][-1]["best"]["round"] == 2


def test_a_site_that_is_lost_stops_no_selection_and_one_that_stays_alone_makes_none(tmp_path: Path) -> None:
    """Scores of four sites. The fourth fails from round 2 on; in round 4 nobody but the first can score."""
    scores = {
        1: [0.2] * 4,
        2: [0.4] * 3 + [0.0],
        3: [0.6, 0.5, 0.4, 0.0],
        4: [1.0] * 4,
        5: [0.5] * 4,
        6: [0.7, 0.6, 0.3, 0],
    }

    def answer(task: RoundTask, client: str) -> ClientUpdate:
        place = int(client[-1]) - 1
        if (task.round > 1 and place == 3) or (task.round == 4 and place):
            raise OSError("no power")
        return update(task, client, scores[task.round][place], float(task.round))

    records = run_sites(tmp_path / "run", answer, num_rounds=5)
    rounds = [*of(records, "round"), *of(records, "final")]
    assert [len(r["heldout_clients"]) for r in rounds] == [4, 3, 3, 1, 3, 3]
    assert [r["heldout_missing"] for r in rounds[:2]] == [[], ["site-4"]]
    assert rounds[3]["heldout"] == 1.0
    assert [r["best_round"] for r in of(records, "round")] == [0, 1, 2, 2, 2]
    (summary,) = of(records, "summary")
    assert summary["best"]["round"] == 5, "0.533 against 0.5, both of the first three"
    assert summary["best"]["heldout_clients"] == {"site-1": 0.7, "site-2": 0.6, "site-3": 0.3}


def test_an_update_that_is_rejected_takes_its_score_with_it(tmp_path: Path) -> None:
    """site-4, who finds all versions bad, is rejected in round 2: that makes no version better than the one before."""
    scores = {1: [0.9, 0.9, 0.9, 0.1], 2: [0.8, 0.8, 0.8, 0.0], 3: [0.5] * 4}

    def answer(task: RoundTask, client: str) -> ClientUpdate:
        own = update(task, client, scores[task.round][int(client[-1]) - 1])
        return replace(own, train_loss=float("nan")) if (task.round, client) == (2, "site-4") else own

    records = run_sites(tmp_path / "run", answer)
    assert [r["heldout"] for r in of(records, "round")] == pytest.approx([0.7, 0.8])
    assert of(records, "summary")[0]["best"]["round"] == 0


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"before": {"vqa": Evaluation(0.9, ROWS + 1, {})}}, "score"),
        ({"before": {"vqa": Evaluation(float("nan"), ROWS, {})}}, "score"),
        ({"round": 7}, "stale"),
        ({"error": "RuntimeError: no memory"}, "failed"),
        ({"client": "site-9"}, "missing"),
        ({"before": {}}, None),
    ],
)
def test_a_score_that_can_not_be_believed_is_missing(tmp_path: Path, fields: dict[str, Any], code: str | None) -> None:
    """Of a client that only scores. Its round counts all the same, and the others' scores do."""
    seen: list[str] = []

    def answer(task: RoundTask, client: str) -> ClientUpdate:
        own = update(task, client, 0.5 + 0.1 * task.round)
        if task.round != 2 or client in {c for clients in task.assignments.values() for c in clients}:
            return own
        seen.append(client)
        return replace(own, **fields) if len(seen) == 1 else own

    records = run_sites(tmp_path / "run", answer, clients_per_round=2)
    bad, second = seen[0], of(records, "round")[1]
    assert second["heldout_missing"] == [bad]
    assert second["heldout_clients"] == dict.fromkeys(sorted({*client_names(4)} - {bad}), 0.7)
    assert [r["rejected"] for r in of(records, "client") if r["rejected"]] == [code] * (code is not None)
    assert second["clients"] == 2
    assert of(records, "summary")[0]["best"]["round"] == 2


def test_with_privacy_nobody_scores_but_who_trains(tmp_path: Path) -> None:
    def answer(task: RoundTask, client: str) -> ClientUpdate:
        assert not task.scorers or not any(task.scorers.values())
        return update(task, client, 1.0 / task.round, 1e-3 * task.round)

    records = run_sites(
        tmp_path / "run", answer, clients_per_round=2, dp="central", dp_noise_multiplier=0.5, client_weights="equal",
        dp_delta=0.1,
    )  # fmt: skip
    assert of(records, "setup")[0]["panel"] is None
    trained = [{r["client"] for r in of(records, "client") if r["round"] == n} for n in (1, 2)]
    assert [r["heldout_clients"].keys() for r in of(records, "round")] == trained
    assert len(of(records, "final")[0]["heldout_clients"]) == 4
    assert of(records, "summary")[0]["best"]["round"] == 2


CLIENTS = st.dictionaries(
    st.integers(1, 30).map(lambda n: f"site-{n}"),
    st.fixed_dictionaries({"train": st.integers(1, 300), "heldout": st.integers(0, 60)}),
    min_size=1, max_size=30,
)  # fmt: skip


@given(CLIENTS, st.integers(1, 30), st.integers(0, 9))
def test_the_panel_is_as_large_as_it_may_cost(clients: dict[str, dict[str, int]], drawn: int, seed: int) -> None:
    panel = panel_of(clients, drawn, seed)
    assert panel == panel_of(dict(reversed(clients.items())), drawn, seed)
    if drawn >= len(clients):
        assert sorted(panel) == sorted(clients)
        return
    able = {name for name, own in clients.items() if own["heldout"]}
    assert len(panel) == len(set(panel)) >= min(drawn, len(able))
    assert set(panel) <= able
    room = drawn * sum(own["train"] for own in clients.values()) / len(clients)
    assert len(panel) <= drawn or sum(max(8, clients[name]["heldout"]) for name in panel) <= room
    if sum(max(8, clients[name]["heldout"]) for name in able) <= room:
        assert set(panel) == able


def test_every_client_is_on_the_panel_as_often_as_others() -> None:
    clients = {f"site-{n}": {"train": 30, "heldout": 10} for n in range(1, 11)}
    panels = [panel_of(clients, 1, seed) for seed in range(1000)]
    assert {len(panel) for panel in panels} == {3}
    assert all(240 < sum(name in panel for panel in panels) < 360 for name in clients), "300, standard deviation 14.5"


PANEL = client_names(4)
HELD = dict(zip(PANEL, (1, 2, 3, 10), strict=True))
ONE = st.builds(lambda right, of: right / of, st.integers(0, 5), st.just(5))
VERSIONS = st.lists(st.dictionaries(st.sampled_from([*PANEL, "stranger"]), ONE), min_size=1, max_size=12)


def scores_of(own: Mapping[str, float]) -> dict[str, Scores]:
    return {c: {"vqa": Evaluation(score, HELD.get(c, 99), {"x": (score, 1)})} for c, score in own.items()}


def offered(versions: list[dict[str, float]]) -> list[int]:
    """The best version after each."""
    selection, best = Selection(PANEL), []
    for number, own in enumerate(versions):
        restored = Selection(PANEL)
        restored.load(json.loads(json.dumps(selection.facts())))
        changed = selection.offer(number, scores_of(own))
        assert restored.offer(number, scores_of(own)) == changed, "a run that went on"
        assert restored.facts() == selection.facts()
        best.append(selection.version)
    return best


@given(st.lists(st.fixed_dictionaries(dict.fromkeys([*PANEL, "stranger"], ONE)), min_size=1, max_size=12))
def test_with_everybody_there_the_first_of_the_highest_means_is_the_best(versions: list[dict[str, float]]) -> None:
    right = [sum(round(5 * own[c]) * HELD[c] for c in PANEL) for own in versions]
    assert offered(versions) == [right.index(max(right[: n + 1])) for n in range(len(versions))]


@given(VERSIONS)
def test_versions_are_compared_on_the_same_rows_and_on_enough(versions: list[dict[str, float]]) -> None:
    for number, (before, after) in enumerate(zip([0, *(best := offered(versions))], best, strict=False)):
        old = {c: own for c, own in versions[before].items() if c in HELD}
        common = [c for c in old if c in versions[number]]
        gain = sum((round(5 * versions[number][c]) - round(5 * old[c])) * HELD[c] for c in common)
        enough = 2 * sum(HELD[c] for c in common) >= sum(HELD[c] for c in old)
        takes = number == 0 or not old or (enough and gain > 0)
        assert after == (number if takes else before)


def test_equal_numbers_of_right_answers_are_equal_however_they_are_spread() -> None:
    """2 (0.4) + 3 (0.6) + 10 (0.4) is 6.6000000000000005 to a computer, 1 (0.2) + 3 (0.8) + 10 (0.4) is 6.6."""
    one, other = {"site-2": 0.4, "site-3": 0.6, "site-4": 0.4}, {"site-1": 0.2, "site-3": 0.8, "site-4": 0.4}
    for versions in ([one, other], [other, one]):
        assert offered([dict.fromkeys(PANEL, 0.0) | own for own in versions]) == [0, 0]


def test_other_rows_of_the_same_client_are_not_compared() -> None:
    selection = Selection(PANEL)
    assert selection.offer(0, {"site-1": {"vqa": Evaluation(0.5, 4, {}), "t2i": Evaluation(0.1, 6, {}, 4.0)}})
    assert not selection.offer(1, {"site-1": {"vqa": Evaluation(0.9, 10, {})}})
    assert selection.offer(2, {"site-1": {"vqa": Evaluation(0.5, 4, {}), "t2i": Evaluation(0.2, 6, {}, 3.0)}})
