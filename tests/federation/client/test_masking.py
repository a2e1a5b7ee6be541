"""What a host refuses of a server that asks for what would take an update's masks off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.config import FederateConfig
from fedumm.errors import PublicError
from fedumm.federation.client.masking import Masking
from fedumm.federation.protocol.mask_messages import MaskKeysRequest, MaskSharesRequest, UnmaskRequest
from fedumm.federation.protocol.messages import RoundTask, TensorPayload
from fedumm.secure_aggregation.masks import KeyPair
from fedumm.secure_aggregation.secret_sharing import SHARE

CLIENTS = ("a", "b", "c", "d", "e")
SPEC = {"weight": ((3,), "float32")}
ROWS = dict.fromkeys(CLIENTS, 10)


def config(**options: Any) -> FederateConfig:
    own: dict[str, Any] = {
        "model_backend": "blip_vqa",
        "dataset": "easy_vqa",
        "num_clients": 5,
        "secure_aggregation": True,
    }
    return FederateConfig(**{**own, **options})


class Round:
    """Five hosts that agreed on masks for round 7."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.hosts = {name: Masking(name, config(**options), folder / name) for name in CLIENTS}
        asked = MaskKeysRequest(7, {name: [name] for name in CLIENTS})
        self.keys = {name: own.keys(asked).keys[name] for name, own in self.hosts.items()}
        self.asked = MaskSharesRequest(7, self.keys, 3)

    def shared(self) -> Round:
        self.shares = {name: own.shares(self.asked).shares[name] for name, own in self.hosts.items()}
        return self

    def task(self, *members: str, **other: Any) -> RoundTask:
        task = RoundTask(
            round=7, train=True, adapter=TensorPayload("values", b""), assignments={},
            masked=dict.fromkeys(members or CLIENTS, 10),
        )  # fmt: skip
        return replace(task, **other)

    def begun(self) -> Round:
        for own in self.shared().hosts.values():
            own.check_task(self.task(), ROWS)
        return self

    def sealed(self, client: str) -> dict[str, bytes]:
        return {name: own[client] for name, own in self.shares.items() if name != client}

    def unmask(self, client: str, *summed: str, **other: Any) -> UnmaskRequest:
        return replace(UnmaskRequest(7, list(summed), {client: self.sealed(client)}), **other)


def test_it_gives_of_each_other_client_one_kind_of_share(tmp_path: Path) -> None:
    """Of those that are summed the seed's, of the others the key's; of no client both."""
    own = Round(tmp_path).begun()
    told = own.hosts["a"].unmask(own.unmask("a", "a", "b", "c")).shares["a"]
    assert told.keys() == set(CLIENTS)
    both = own.hosts["b"].unmask(own.unmask("b", "a", "b", "c", "d", "e")).shares["b"]
    assert {len(share) for share in (*told.values(), *both.values())} == {SHARE}
    other = Round(tmp_path).begun()
    first = other.hosts["a"]._unsealed("a", "d", other.shares["d"]["a"])
    given = other.hosts["a"].unmask(other.unmask("a", "a", "b", "c")).shares["a"]["d"]
    assert given == first[SHARE:] != first[:SHARE]


@pytest.mark.parametrize("again", ["the same", "others"])
def test_it_answers_once(again: str, tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    own.hosts["a"].unmask(own.unmask("a", *CLIENTS))
    with pytest.raises(PublicError, match="no keys"):
        own.hosts["a"].unmask(own.unmask("a", *(CLIENTS if again == "the same" else CLIENTS[:3])))


def test_shares_are_given_once(tmp_path: Path) -> None:
    own = Round(tmp_path).shared()
    with pytest.raises(PublicError, match="already"):
        own.hosts["a"].shares(own.asked)


@pytest.mark.parametrize(
    "change",
    [
        lambda own: replace(own.asked, threshold=2),
        lambda own: replace(own.asked, threshold=6),
        lambda own: replace(own.asked, round=8),
        lambda own: replace(own.asked, keys={**own.keys, "a": own.keys["b"]}),
        lambda own: replace(own.asked, keys={**own.keys, "a": [own.keys["a"][1], own.keys["a"][0]]}),
        lambda own: replace(own.asked, keys={**own.keys, "c": own.keys["b"]}),
        lambda own: replace(own.asked, keys={name: own.keys[name] for name in "bcde"}),
        lambda own: replace(own.asked, keys={**own.keys, "b": own.keys["b"] * 2}),
        lambda own: replace(own.asked, keys={**own.keys, "b": own.keys["b"] * 200_000}),
        lambda own: MaskSharesRequest(7, {"a": own.keys["a"]}, 1),
        lambda own: MaskSharesRequest(7, {"a": own.keys["a"]}, 2),
    ],
)
def test_keys_that_are_too_few_or_not_everybodys_are_refused(change: Any, tmp_path: Path) -> None:
    own = Round(tmp_path)
    with pytest.raises(PublicError):
        own.hosts["a"].shares(change(own))


def test_min_clients_is_the_least_that_takes_masks_off(tmp_path: Path) -> None:
    own = Round(tmp_path, min_clients=4)
    with pytest.raises(PublicError, match="too few"):
        own.hosts["a"].shares(own.asked)
    own.hosts["a"].shares(replace(own.asked, threshold=4))


@pytest.mark.parametrize(
    ("members", "other"),
    [
        (("a", "b"), {}),
        (("a", "b", "x"), {}),
        (CLIENTS, {"round": 8}),
        (CLIENTS, {"masked": {**ROWS, "a": 9}}),
        (CLIENTS, {"masked": {**ROWS, "b": 0}}),
    ],
)
def test_a_sum_of_others_than_those_who_agreed_is_refused(
    members: tuple[str, ...], other: dict[str, Any], tmp_path: Path
) -> None:
    own = Round(tmp_path).shared()
    with pytest.raises(PublicError):
        own.hosts["a"].check_task(own.task(*members, **other), ROWS)


def test_who_is_in_the_sum_does_not_change_within_a_round(tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    own.hosts["a"].check_task(own.task(), ROWS)
    with pytest.raises(PublicError):
        own.hosts["a"].check_task(own.task("a", "b", "c"), ROWS)


@pytest.mark.parametrize(
    ("summed", "other"), [(("a", "b"), {}), (("a", "b", "x"), {}), (CLIENTS, {"round": 8}), ((), {})]
)
def test_masks_of_a_sum_of_too_few_stay_on(summed: tuple[str, ...], other: dict[str, Any], tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    with pytest.raises(PublicError):
        own.hosts["a"].unmask(own.unmask("a", *summed, **other))


def test_masks_are_not_taken_off_before_the_round(tmp_path: Path) -> None:
    own = Round(tmp_path).shared()
    with pytest.raises(PublicError):
        own.hosts["a"].unmask(own.unmask("a", *CLIENTS))


def test_a_share_that_was_changed_or_swapped_is_left_out(tmp_path: Path) -> None:
    for number, swapped in enumerate("bc"):
        own = Round(tmp_path / f"{number}").begun()
        sealed = {
            **own.sealed("a"),
            "b": own.shares[swapped]["a"][:-1] + b"0" if swapped == "b" else own.shares["c"]["a"],
        }
        told = own.hosts["a"].unmask(own.unmask("a", *CLIENTS, shares={"a": sealed})).shares["a"]
        assert told.keys() == set(CLIENTS) - {"b"}


def test_a_second_update_under_one_mask_is_refused(tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    moves = {"weight": torch.zeros(3)}
    own.hosts["a"].payload("a", moves, ["weight"], SPEC)
    own.hosts["a"].check_task(own.task(), ROWS)
    with pytest.raises(PublicError, match="masked already"):
        own.hosts["a"].payload("a", moves, ["weight"], SPEC)


def test_a_round_is_not_summed_with_others_also_after_a_restart(tmp_path: Path) -> None:
    """With the same clients it is: the first answer may have been lost."""
    for summed, good in [(CLIENTS, True), (CLIENTS, True), (CLIENTS[:4], False), (CLIENTS, True)]:
        own = Round(tmp_path).begun()
        if good:
            assert own.hosts["a"].unmask(own.unmask("a", *summed)).shares
        else:
            with pytest.raises(PublicError, match="a second sum with others"):
                own.hosts["a"].unmask(own.unmask("a", *summed))


@pytest.mark.parametrize("content", ["", "[]", "{", "7"])
def test_a_damaged_record_of_sums_ends_it(content: str, tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    (tmp_path / "a").write_text(content)
    with pytest.raises(PublicError, match="damaged"):
        own.hosts["a"].unmask(own.unmask("a", *CLIENTS))


def test_a_refused_sum_costs_the_keys(tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    with pytest.raises(PublicError, match="too few"):
        own.hosts["a"].unmask(own.unmask("a", "a"))
    with pytest.raises(PublicError, match="no keys"):
        own.hosts["a"].unmask(own.unmask("a", *CLIENTS))


def test_a_host_without_a_part_in_the_sum_scores_all_the_same(tmp_path: Path) -> None:
    idle = Masking("x", config(), tmp_path / "x")
    idle.check_task(Round(tmp_path).task(), {"x": 10})


@pytest.mark.parametrize("bad", [bytes(32), b"short", b"\x01" + bytes(31)])
@pytest.mark.parametrize("place", [0, 1])
def test_a_key_that_is_none_is_named_before_anybody_trains(bad: bytes, place: int, tmp_path: Path) -> None:
    own = Round(tmp_path)
    pair = list(own.keys["b"])
    pair[place] = bad
    with pytest.raises(PublicError, match="the keys of b are none"):
        own.hosts["a"].shares(replace(own.asked, keys={**own.keys, "b": pair}))


def test_nobody_else_trains_under_masks(tmp_path: Path) -> None:
    own = Round(tmp_path).shared()
    own.hosts["a"].check_task(own.task("b", "c", "d", "e"), ROWS)
    with pytest.raises(PublicError, match="was not there"):
        own.hosts["a"].payload("a", {}, ["weight"], SPEC)


def test_an_update_that_is_not_finite_is_refused_without_a_number(tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    with pytest.raises(PublicError, match="lower --lr") as raised:
        own.hosts["a"].payload("a", {"weight": torch.tensor([0.0, 77.5, float("nan")])}, ["weight"], SPEC)
    assert "77" not in str(raised.value)


def test_new_keys_forget_the_old_ones(tmp_path: Path) -> None:
    own = Round(tmp_path).begun()
    fresh = own.hosts["a"].keys(MaskKeysRequest(7, {"a": ["a"]})).keys["a"]
    assert not set(fresh) & set(own.keys["a"])
    with pytest.raises(PublicError):
        own.hosts["a"].unmask(own.unmask("a", *CLIENTS))


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    pair = KeyPair.new()
    assert "private" not in repr(pair)
    assert "private" not in repr(Round(tmp_path).hosts["a"]._own)
