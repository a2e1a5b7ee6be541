"""What clients and hosts say of scores is held against what was announced and against what a score can be."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedumm.backends.protocol import REQUIRED_METHODS
from fedumm.backends.registry import BACKENDS
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import DataStats, Message, RoundReply, RoundTask
from fedumm.federation.server import screening
from fedumm.federation.server.data_stats import agreed
from fedumm.federation.server.score_validation import check_test_parts, common_test_problem, loss_problem, score_problem
from fedumm.metrics.evaluation import Evaluation
from fedumm.report.run_folder import read_records
from support.toy import Driven, toy_config

VQA, IMAGES = Evaluation(0.5, 4, {"yes/no": (1.0, 1), "other": (1 / 3, 3)}), {"colors": (0.5, 2), "counting": (1.0, 2)}
TEXTS = Evaluation(0.5, 2, {"caption": (0.5, 2)}, None, {"rouge_l": 0.5, "token_f1": 1.0, "exact": 0.0, "cider": 9.5})
GOOD = {"vqa": VQA, "i2t": TEXTS, "t2i": Evaluation(-0.2, 3, {}, 11.0), "geneval": Evaluation(0.75, 4, IMAGES)}
BAD: dict[str, tuple[str, Evaluation]] = {
    "above 1": ("vqa", Evaluation(1.001, 4, {})),
    "below 0": ("vqa", Evaluation(-1e-3, 4, {})),
    "far below what a guess spares": ("t2i", Evaluation(-1e6, 3, {}, 11.0)),
    "NaN": ("t2i", Evaluation(math.nan, 3, {}, 11.0)),
    "loss below 0": ("t2i", replace(GOOD["t2i"], loss=-1.0)),
    "loss absurd": ("t2i", replace(GOOD["t2i"], loss=1e308)),
    "part above 1": ("vqa", replace(VQA, parts={"a": (1e9, 1)})),
    "part of nothing": ("vqa", replace(VQA, parts={"a": (0.5, 0)})),
    "parts of more than there are": ("vqa", replace(VQA, parts={"a": (0.5, 3), "b": (0.5, 3)})),
    "parts of another mean": ("vqa", replace(VQA, score=0.9)),
    "images of no category": ("geneval", Evaluation(0.75, 4, {"colors": (0.5, 2), "invented": (1.0, 2)})),
    "images without categories": ("geneval", Evaluation(0.75, 4, {})),
    "categories of fewer images": ("geneval", Evaluation(0.75, 5, IMAGES)),
    "images below 0": ("geneval", Evaluation(0.0, 4, {"colors": (-1.0, 2), "counting": (1.0, 2)})),
    "a text score above 1": ("i2t", replace(TEXTS, others={"rouge_l": 1.01})),
    "a text score that is NaN": ("i2t", replace(TEXTS, others={"cider": math.nan})),
    "a CIDEr above 10": ("i2t", replace(TEXTS, others={"cider": 10.5})),
    "a score of another name": ("i2t", replace(TEXTS, others={"bleu": 0.5})),
    "a text score of answers": ("vqa", replace(VQA, others={"rouge_l": 0.5})),
    "a billion rows and one": ("vqa", Evaluation(0.5, 10**9 + 1, {})),
}


def test_what_can_be_is_believed() -> None:
    assert score_problem(GOOD, unit=True) is None
    assert common_test_problem(GOOD, ("vqa", "i2t", "t2i"), 9, 4, True) is None
    assert common_test_problem({}, ("vqa",), 7, 4, True) is None, "a method without an adapter for all"
    own = Evaluation(-250.0, 4, {}, None, {"mine": 12.0})
    assert score_problem({"vqa": own}, unit=False) is None, "a backend's own unit and names"


@pytest.mark.parametrize("case", BAD)
def test_what_can_not_be_is_not(case: str) -> None:
    task, own = BAD[case]
    assert str(score_problem(GOOD | {task: own}, unit=True)).startswith("its scores are no scores: ")


@pytest.mark.parametrize(
    ("scores", "rows", "images", "reason"),
    [
        ({"vqa": replace(VQA, count=10**9, parts={})}, 12, 0, "of 1000000000 rows, it announced 12"),
        ({"vqa": VQA}, 5, 0, "of 4 rows, it announced 5"),
        ({"geneval": GOOD["geneval"]}, 5, 0, "judged 4 images, it was to draw 0"),
        ({"geneval": GOOD["geneval"]}, 5, 9, "judged 4 images, it was to draw 9"),
        ({"x\x1b": VQA}, 4, 0, "which the run is not about"),
        ({"vqa": replace(VQA, score=2.0)}, 4, 0, "those of vqa are from 0 to 1"),
    ],
)
def test_a_hosts_test_scores_are_of_what_it_announced(
    scores: dict[str, Evaluation], rows: int, images: int, reason: str
) -> None:
    assert reason in str(common_test_problem(scores, ("vqa",), rows, images, True))


def test_losses_have_bounds() -> None:
    assert loss_problem({"": 1e308}, True) == "its training loss 1e+308 is not from 0 to 10000: lower --lr"
    assert loss_problem({"": -1.0}, True) is not None
    assert loss_problem({"": -1.0, "vqa": 9e5}, False) is None
    assert loss_problem({"": -1e308}, False) is not None
    assert loss_problem({"": math.nan, "vqa": 3.0}, True) is None


@pytest.mark.parametrize("counts", [[12], [12, 12], [13, 12], [5, 4, 4], [1, 1, 0], [0]])
def test_parts_of_one_test_set(counts: list[int]) -> None:
    rows = {f"host-{i}": count for i, count in enumerate(counts)}
    parts = {host: [i, len(rows)] for i, host in enumerate(rows)}
    check_test_parts(rows, parts)
    for absent in rows:
        if present := {host: count for host, count in rows.items() if host != absent}:
            check_test_parts(present, parts)


@pytest.mark.parametrize(
    ("counts", "who"),
    [([12, 10**9, 12], "host-1 announced"), ([12, 10**9], "The hosts announced"), ([4, 5, 4], "The hosts announced")],
)
def test_parts_of_none(counts: list[int], who: str) -> None:
    with pytest.raises(FedummError, match=f"^{who} another common test set: .*host-1 {counts[1]}"):
        check_test_parts(
            {f"host-{i}": count for i, count in enumerate(counts)},
            {f"host-{i}": [i, len(counts)] for i in range(len(counts))},
        )


def surveyed(*fingerprints: str) -> dict[str, DataStats]:
    return {f"host-{i}": DataStats({}, "iid", fingerprint) for i, fingerprint in enumerate(fingerprints, 1)}


@pytest.mark.parametrize(
    ("fingerprints", "who"),
    [("baa", "host-1"), ("aba", "host-2"), ("abcaa", "host-2, host-3"), ("ab", "One or another of host-1, host-2")],
)
def test_who_has_other_data_is_named_where_most_agree(fingerprints: str, who: str) -> None:
    with pytest.raises(FedummError, match=f"^{who} has different data"):
        agreed(surveyed(*fingerprints))
    assert agreed(surveyed("a", "a")).fingerprint == "a"


def test_a_liar_counts_for_its_rows_and_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says of one round that a score was far below anything, of another that it was far above, and that its host
    has a billion test rows: as if it had said nothing."""

    def chosen(name: str, lie: dict[int, float]) -> tuple[Any, list[dict[str, Any]]]:
        real = Driven._send

        def send(self: Driven, message: Message) -> dict[str, Message]:
            answers = real(self, message)
            if isinstance(message, RoundTask):
                answers["host-2"] = lying(answers["host-2"], message, lie)
            return answers

        monkeypatch.setattr(Driven, "_send", send)
        run = Driven(tmp_path / name, {"host-1": ["site-1", "site-2"], "host-2": ["site-3"]}, toy_config(num_rounds=3))
        monkeypatch.setattr(Driven, "_send", real)
        return run.server.scoreboard.best, list(read_records(run.folder))

    monkeypatch.setattr(screening, "scores_are_shares", lambda _: True)
    silent, _ = chosen("silent", {2: math.nan, 3: math.nan})
    version, records = chosen("lying", {2: -1e6, 3: 1e6})
    assert version == silent
    told = [r["text"] for r in records if r["event"] == "note"]
    notes = [text for text in told if "part of the common test is missing" not in text]
    assert len(notes) == 2 == len(told) - len(notes)
    assert all("of 1000000000 rows, it announced " in text for text in notes)
    assert [r["rejected"] for r in records if r["event"] == "client" and r["rejected"]] == ["score"] * 2


def lying(reply: Message, task: RoundTask, lie: dict[int, float]) -> Message:
    assert isinstance(reply, RoundReply)
    if task.round not in lie:
        return reply
    wrong = {"vqa": Evaluation(lie[task.round], reply.updates[0].before["vqa"].count, {})}
    billion = {"vqa": Evaluation(1.0, 10**9, {})}
    return replace(reply, updates=[replace(u, before=wrong) for u in reply.updates], test=billion)


def test_scores_of_a_backend_in_a_shipped_ones_place_may_have_another_unit() -> None:
    config = toy_config(model_backend="blip_vqa", plugin="")
    assert screening.scores_are_shares(config)
    BACKENDS.register("blip_vqa", type("Other", (), dict.fromkeys(REQUIRED_METHODS, lambda self: None)))
    try:
        assert not screening.scores_are_shares(config)
    finally:
        BACKENDS.forget("blip_vqa")
    assert screening.scores_are_shares(config)
