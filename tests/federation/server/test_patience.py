"""``--patience``: a run ends after rounds that were no better, and stays ended."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.server.test_server import good
from federation.server.test_server import run as drive
from fedumm.errors import FedummError
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.federation.runners.resumption import is_finished, resume_point
from fedumm.federation.server.planning import is_last
from fedumm.federation.server.scoreboard import Scoreboard
from fedumm.federation.server.server import Server
from fedumm.federation.server.state import RunState, load_saved_run
from fedumm.report.run_folder import read_records
from support.toy import toy_config


def rounds_done(folder: Path, scores: list[float], patience: int) -> int:
    """How many rounds a run of ``len(scores) - 1`` at most does, whose versions score so."""

    def reply(task: RoundTask) -> list[ClientUpdate]:
        return [good(task, client, float(task.round), scores[task.round - 1]) for client in ("site-1", "site-2")]

    server = drive(folder, reply, num_rounds=len(scores) - 1, patience=patience)
    return server._state.round


def expected(scores: list[float], patience: int) -> int:
    """The rule in words of its own: version v is known after round v + 1."""
    best = 0
    for version, score in enumerate(scores[:-1]):
        if score > scores[best]:
            best = version
        elif patience and version - best >= patience:
            return version + 1
    return len(scores) - 1


@given(st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5]), min_size=2, max_size=9), st.integers(0, 3))
@settings(max_examples=20, deadline=None)
def test_a_run_ends_when_so_many_rounds_were_no_better(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], patience: int
) -> None:
    assert rounds_done(tmp_path_factory.mktemp("run"), scores, patience) == expected(scores, patience)


def test_it_is_told_and_the_run_is_finished(tmp_path: Path) -> None:
    assert rounds_done(tmp_path / "run", [0.1, 0.3, 0.2, 0.2, 0.4, 0.5], 2) == 4
    records = list(read_records(tmp_path / "run"))
    (told,) = [record for record in records if record["event"] == "patience"]
    assert (told["round"], told["best"]) == (4, 1)
    (summary,) = [record for record in records if record["event"] == "summary"]
    # The version that the last round made is scored, too, and may be the best one.
    assert (summary["best"]["round"], summary["last"]["round"]) == (4, 4)
    assert is_finished(tmp_path / "run", 5)
    config = toy_config(num_clients=2, num_rounds=5, patience=2)
    with pytest.raises(FedummError, match=r"finished after 4 rounds, with which --patience 2 ended it"):
        resume_point(tmp_path / "run", config)
    # The last version is the best one; a process that ends before it could say so goes on to the same end.
    server = Server(config, {"host-1": ["site-1", "site-2"]}, tmp_path / "run" / "state")
    saved = load_saved_run(server._checkpoint, config)
    assert saved is not None
    state = RunState("", {}, Scoreboard(["site-1", "site-2"], ["site-1", "site-2"]), 0.0)
    state.load({**saved.facts, "fingerprint": ""})
    assert state.scoreboard.best == 4
    assert is_last(state, config)


def test_privacy_forbids_to_decide_by_scores() -> None:
    with pytest.raises(FedummError, match="--patience stops by scores"):
        check_rules(toy_config(num_clients=2, patience=2, dp="central", dp_clip=1.0, dp_noise_multiplier=1.0))
