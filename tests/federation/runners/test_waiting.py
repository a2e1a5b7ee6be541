"""How long sites are waited for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.protocol.messages import HostError, RoundReply
from fedumm.federation.runners.flare.sites import alike, present
from fedumm.federation.runners.flare.waiting import GRACE, LEAST, LONGEST, Waiting

ANSWER = RoundReply([])


@dataclass
class Clock:
    now: float = 1000.0
    wait: Waiting = field(init=False)

    def start(self, **options: Any) -> Waiting:
        self.wait = Waiting(["a", "b", "c"], clock=lambda: self.now, **options)
        return self.wait

    def after(self, seconds: float) -> Waiting:
        self.now = 1000.0 + seconds
        return self.wait


def test_a_limit_is_one() -> None:
    clock = Clock()
    clock.start(limit=30).answered("a", ANSWER)
    assert clock.after(29.9).why_over() == {}
    over = clock.after(30).why_over()
    assert over == dict.fromkeys("bc", "no answer within 30 s (--round_timeout)")
    for host, reason in over.items():
        clock.wait.answered(host, HostError(reason))
    assert not clock.wait.open
    clock.wait.answered("b", ANSWER)
    assert clock.wait.answers["b"] is not ANSWER, "a late answer changes nothing"


def test_without_a_limit_the_slowest_of_the_others_decides() -> None:
    clock = Clock()
    clock.start(fewest=2)
    clock.after(500).answered("a", ANSWER)
    assert clock.after(5000).why_over() == {}, "one is too few to go on with"
    clock.after(400).answered("b", ANSWER)
    assert clock.after(1999).why_over() == {}
    assert list(clock.after(2000).why_over()) == ["c"]
    quick = Clock()
    quick.start()
    for host in "ab":
        quick.after(1).answered(host, ANSWER)
    assert quick.after(LEAST - 1).why_over() == {}
    assert list(quick.after(LEAST).why_over()) == ["c"]


def test_an_error_says_nothing_of_how_long_others_take() -> None:
    clock = Clock()
    clock.start().answered("a", HostError("its connection is lost"))
    assert clock.after(LEAST + 1).why_over() == {}
    clock.after(1200).answered("b", ANSWER)
    assert clock.after(5999).why_over() == {}
    assert list(clock.after(6000).why_over()) == ["c"]


def test_it_is_over_also_if_nobody_answers() -> None:
    clock = Clock()
    clock.start()
    assert clock.after(LONGEST - 1).why_over() == {}
    assert list(clock.after(LONGEST).why_over()) == ["a", "b", "c"]


def test_a_lost_connection_may_come_back() -> None:
    clock, gone = Clock(), dict[str, float]()
    clock.start(gone=gone)
    gone["b"] = 1005.0
    assert clock.after(5 + GRACE - 0.1).why_over() == {}
    assert clock.after(5 + GRACE).why_over() == {"b": "its connection is lost"}
    del gone["b"]
    assert clock.wait.why_over() == {}


def test_what_is_said_meanwhile() -> None:
    clock = Clock()
    clock.start().answered("a", ANSWER)
    said = [(second, text) for second in range(0, 2000, 10) if (text := clock.after(second).word())]
    assert [second for second, _ in said] == [60, 180, 420, 900, 1500]
    assert said[0][1] == "waiting for b, c (1 of 3 have answered, 60 s)"
    for host in "bc":
        clock.wait.answered(host, ANSWER)
    assert clock.wait.now() == ""


def config(**options: Any) -> FederateConfig:
    return FederateConfig(model_backend="blip_vqa", num_clients=3, **options)


@pytest.mark.parametrize(
    ("there", "options", "told"),
    [
        (["b", "a"], {}, ""),
        (["a"], {"min_clients": 2}, r"needs 2 sites \(--min_clients\), but 1 site takes part: a"),
        ([], {}, "needs 1 sites"),
        (list("abcd"), {}, "--num_clients 3, but 4 sites take part"),
        (list("abc"), {"lora_r": "8,d=4"}, "--lora_r and --lora_alpha name d, but 3 sites"),
        (list("ab"), {"lora_r": "8,d=4"}, ""),
        (["a", "b/c"], {}, "no name of a site"),
    ],
)
def test_which_sites_take_part(there: list[str], options: dict[str, Any], told: str) -> None:
    if told:
        with pytest.raises(FedummError, match=told):
            present(there, config(**options))
    else:
        assert present(there, config(**options)) == sorted(there)


def test_each_message_is_sent_once() -> None:
    one, other = HostError("one"), HostError("one")
    assert alike({"a": one, "b": other, "c": one}) == [(one, ["a", "c"]), (other, ["b"])]
