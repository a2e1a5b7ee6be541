"""What the server remembers from round to round survives being saved."""

from __future__ import annotations

import json
import time

import pytest

from fedumm.errors import FedummError
from fedumm.federation.server.checkpoint_facts import checked
from fedumm.federation.server.scoreboard import Scoreboard
from fedumm.federation.server.state import RunState
from fedumm.metrics.evaluation import Evaluation, Scores

PANEL = ["site-1", "site-2"]


def scored(*values: float) -> dict[str, Scores]:
    return {client: {"vqa": Evaluation(value, 4, {})} for client, value in zip(PANEL, values, strict=True)}


def some_state(fingerprint: str = "print") -> RunState:
    return RunState(fingerprint, {}, Scoreboard(PANEL, PANEL), time.monotonic())


def test_a_state_survives_being_saved() -> None:
    state = some_state()
    for version, own in enumerate([scored(0.25, 0.5), scored(0.75, 0.75), scored(0.5, 0.5)]):
        state.scoreboard.enter(version, PANEL, own, {})
        state.finish_round(version + 1, [], 10 * version)
    state.last_accepted_round, state.digests = {"site-1": 3}, {"site-1": "d"}
    state.began -= 100
    facts = checked(json.loads(json.dumps(state.facts())))
    again = some_state()
    again.load(facts)
    assert (again.round, again.records, again.scoreboard.best) == (3, 20, 1)
    assert (again.last_accepted_round, again.digests) == ({"site-1": 3}, {"site-1": "d"})
    assert again.elapsed == pytest.approx(state.elapsed, abs=1)
    assert again.scoreboard.summary() == state.scoreboard.summary()
    assert {name: own["round"] for name, own in again.scoreboard.summary().items()} == {
        "untrained": 0, "best": 1, "last": 2,
    }  # fmt: skip
    # The saved best one is compared with later ones as if nothing had been.
    assert not again.scoreboard.enter(3, PANEL, scored(0.75, 0.5), {})
    assert again.scoreboard.enter(4, PANEL, scored(1.0, 0.75), {})


def test_scores_beside_a_tasks_own_survive_and_are_numbers() -> None:
    state, others = some_state(), {"rouge_l": 0.5, "cider": 1.25}
    texts: dict[str, Scores] = {client: {"i2t": Evaluation(0.5, 4, {}, None, others)} for client in PANEL}
    state.scoreboard.enter(0, PANEL, texts, texts["site-1"])
    facts = json.loads(json.dumps(state.facts()))
    again = some_state()
    again.load(checked(facts))
    assert again.scoreboard[0]["test_tasks"]["i2t"]["others"] == others
    for wrong in ([1.0], {"cider": "high"}, None):
        facts["scores"]["0"]["test_tasks"]["i2t"]["others"] = wrong
        with pytest.raises(ValueError, match="'scores'"):
            checked(facts)


def test_a_run_goes_on_with_the_same_data_only() -> None:
    facts = some_state("one").facts()
    with pytest.raises(FedummError, match="data are not those"):
        some_state("another").load(facts)


def test_who_should_have_scored_is_named() -> None:
    board = Scoreboard([*PANEL, "site-3"], PANEL)
    board.enter(0, [], {"site-2": scored(0.5, 0.5)["site-2"]}, {})
    assert board[0]["heldout_missing"] == ["site-1"], "site-3 has no rows held out"
