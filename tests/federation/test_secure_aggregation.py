"""``--secure_aggregation``: sums of which the server reads no part, with sites that fail, come back, or lie."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedumm.adapters import AdapterState
from fedumm.adapters.folder import read_folder
from fedumm.compression.packing import unpack
from fedumm.errors import FedummError
from fedumm.federation.client.client import Client
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.mask_messages import (
    MaskKeys,
    MaskKeysRequest,
    MaskShares,
    MaskSharesRequest,
    Unmasking,
    UnmaskRequest,
)
from fedumm.federation.protocol.messages import HostError, Message, RoundReply, RoundTask
from fedumm.report.run_folder import read_records
from fedumm.secure_aggregation import masks
from fedumm.secure_aggregation.fixed_point import from_bytes, to_bytes
from support.sites import Sites
from support.toy import Run, lora_options, toy_config

FOUR = tuple(f"site-{number}" for number in range(1, 5))
GRID = 2.0**-28


OPTIONS = {"num_rounds": 3, "secure_aggregation": True, "max_train_samples": 96}


def run(folder: Path, before: Any = None, **options: Any) -> Sites:
    return Sites(folder, before, FOUR, **{**OPTIONS, **options}).run()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    return run(tmp_path_factory.mktemp("secure") / "run").weights()


def adapter_of(sites: Sites) -> AdapterState:
    return read_folder(sites.folder / "adapter" / "last")[0]


def distance(one: Sites, other: Sites) -> float:
    """The largest difference between two runs' adapters."""
    pairs = zip(adapter_of(one).items(), adapter_of(other).items(), strict=True)
    return max(float((a - b).abs().max()) for (name, a), (same, b) in pairs if name == same)


class Spy:
    """Keeps what clients moved before it is masked, and what they sent."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.moves: dict[tuple[int, str], dict[str, Any]] = {}
        self.sent: dict[tuple[int, str], bytes] = {}
        masked = Client._masked

        def spied(client: Any, masking: Any, start: Any, sent: Any, task: RoundTask) -> bytes:
            key = (task.round, client.name)
            self.moves[key] = {name: sent[name].double() - start[name].double() for name in sent}
            self.sent[key] = masked(client, masking, start, sent, task)
            return self.sent[key]

        monkeypatch.setattr(Client, "_masked", spied)


def test_each_round_is_the_sum_of_whole_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against Python's integers: what clients moved, rounded to the grid by their share, summed, and nothing else."""
    spy = Spy(monkeypatch)
    sites = run(tmp_path / "run", num_rounds=1)
    (setup,) = sites.records("setup")
    (terms,) = sites.records("masked")
    assert "3 of 4 clients must be there" in terms["text"]
    rows = {client: facts["train"] for client, facts in setup["clients"].items()}
    total = sum(rows.values())
    task = next(message for _, message in sites.asked if isinstance(message, RoundTask) and message.round == 1)
    start, last = unpack(task.adapter.payload, sites.server.aggregation.spec), adapter_of(sites)
    for name, tensor in last.items():
        sums = np.zeros(tensor.numel(), dtype=object)
        for client in FOUR:
            own = spy.moves[1, client][name].reshape(-1).numpy() * (rows[client] / total) / GRID
            sums += np.array([int(value) for value in np.rint(own)], dtype=object)
        mean = torch.tensor([float(value) * GRID for value in sums], dtype=torch.float64).reshape(tensor.shape)
        assert torch.equal(tensor, (start[name].double() + mean).float())


def test_with_and_without_masks_the_bits_are_the_same(
    undisturbed: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And keys are new in every run: the masks are no part of the result."""
    assert run(tmp_path / "again").weights() == undisturbed
    monkeypatch.setattr(masks, "stream", lambda seed, count: np.zeros(count, dtype=np.uint32))
    assert run(tmp_path / "plain").weights() == undisturbed


@pytest.mark.slow
def test_it_is_within_the_grid_of_the_plain_mean(tmp_path: Path) -> None:
    secure, plain = (run(tmp_path / str(on), num_rounds=1, secure_aggregation=on) for on in (True, False))
    # Four roundings to the grid, and the two of float32.
    assert distance(secure, plain) <= 4 * GRID / 2 + 2 * torch.finfo(torch.float32).eps


@pytest.mark.slow
def test_what_a_client_sends_says_nothing_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same update, masked in two runs, has no byte in common but by chance; and looks like noise."""
    spies = []
    for name in ("one", "two"):
        with monkeypatch.context() as patch:
            spies.append(Spy(patch))
            run(tmp_path / name, num_rounds=1)
    for key, payload in spies[0].sent.items():
        other = spies[1].sent[key]
        assert all(torch.equal(t, spies[1].moves[key][name]) for name, t in spies[0].moves[key].items())
        same = np.mean(np.frombuffer(payload, np.uint8) == np.frombuffer(other, np.uint8))
        assert same < 1 / 256 + 5 * (1 / 256 / len(payload)) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("aggregator", "weights"),
    [
        ("fedavg", "equal"), ("fedavg", "steps"), ("ffa_lora", "samples"), ("rolora", "samples"),
        ("fedadam", "samples"), ("fedsa_lora", "equal"),
    ],
)  # fmt: skip
def test_it_works_with_every_method_that_needs_no_more_than_the_mean(
    aggregator: str, weights: str, tmp_path: Path, run_toy: Run
) -> None:
    options = lora_options(aggregator=aggregator, client_weights=weights, num_rounds=2)
    results = {}
    for on in (True, False):
        folder, records = run_toy(f"{on}", secure_aggregation=on, **options)
        results[on] = read_folder(folder / "adapter" / "last")[0]
        assert [r["clients"] for r in records if r["event"] == "round"] == [3, 3]
    moved = 0.0
    for name, tensor in results[True].items():
        assert torch.allclose(tensor, results[False][name], atol=2e-4, rtol=1e-3)
        moved = max(moved, float(tensor.abs().max()))
    assert moved


class Losing:
    """One site's host fails when it gets a message of a kind, in the second round, so many times."""

    def __init__(self, kind: type[Message], after: bool = False, times: int = 1, site: str = "site-2") -> None:
        self.kind, self.after, self.left, self.site = kind, after, times, site

    def __call__(self, site: str, message: Message, sites: Sites) -> Message | None:
        second = getattr(message, "round", 0) == 2
        if site != self.site or not isinstance(message, self.kind) or not second or not self.left:
            return None
        self.left -= 1
        if self.after:
            sites.hosts[site].handle(message)
        sites.hosts[site] = sites.new(site)
        return HostError("its connection is lost")


@pytest.mark.parametrize(
    ("kind", "after"),
    [
        (RoundTask, False),
        *(
            pytest.param(kind, after, marks=pytest.mark.slow)
            for kind in (MaskKeysRequest, MaskSharesRequest, RoundTask)
            for after in (False, True)
        ),
    ],
)
def test_a_site_that_is_lost_before_the_sum_is_not_in_it(kind: Any, after: bool, tmp_path: Path) -> None:
    """Its masks with others are taken off by what these have of it, and the result is that of the other three."""
    lost = run(tmp_path / "lost", Losing(kind, after), num_rounds=2)
    rounds = lost.records("round")
    assert [r["clients"] for r in rounds] == [4, 3]
    failed = [r for r in lost.records("client") if r["round"] == 2 and r["rejected"]]
    assert [r["client"] for r in failed] == ["site-2"]

    def absent(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2:
            return HostError("not there")
        return None

    without = run(tmp_path / "without", absent, num_rounds=2)
    # Weights are of those who agreed on masks: the shares differ by where the site was lost, the grid hides no more.
    assert distance(lost, without) <= 4 * GRID + torch.finfo(torch.float32).eps


@pytest.mark.slow
def test_a_site_that_is_lost_while_masks_are_taken_off_is_in_the_sum(undisturbed: list[bytes], tmp_path: Path) -> None:
    for after in (False, True):
        lost = run(tmp_path / f"lost{after}", Losing(UnmaskRequest, after))
        assert [r["clients"] for r in lost.records("round")] == [4, 4, 4]
        assert lost.weights() == undisturbed


def test_a_site_that_is_new_has_its_part_in_the_same_round(undisturbed: list[bytes], tmp_path: Path) -> None:
    done = []

    def before(site: str, message: Message, sites: Sites) -> None:
        if site == "site-3" and isinstance(message, MaskKeysRequest) and message.round == 2 and not done:
            done.append(True)
            sites.hosts[site] = sites.new(site)

    again = run(tmp_path / "again", before)
    assert done
    assert [r["clients"] for r in again.records("round")] == [4, 4, 4]
    assert again.weights() == undisturbed


@pytest.mark.slow
def test_with_too_few_left_the_round_is_done_again(undisturbed: list[bytes], tmp_path: Path) -> None:
    """Two of four can't take masks off; the second time all are there, with other keys and the same bits."""
    left = [2]

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if site in FOUR[:2] and isinstance(message, RoundTask) and message.round == 2 and left[0]:
            left[0] -= 1
            return HostError("lost")
        return None

    again = run(tmp_path / "again", before)
    (repeat,) = again.records("repeat")
    assert (repeat["round"], repeat["usable"]) == (2, 0)
    codes = [(r["client"], r["rejected"]) for r in again.records("client") if r["round"] == 2 and r["rejected"]]
    assert codes == [("site-1", "failed"), ("site-2", "failed"), ("site-3", "masked"), ("site-4", "masked")]
    assert again.weights() == undisturbed


@pytest.mark.slow
def test_with_min_clients_too_few_is_more(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="0 usable update"):
        run(tmp_path / "run", Losing(RoundTask, times=2), min_clients=4)


Change = Callable[[Any], Any]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "change", "clients"),
    [
        (MaskKeys, lambda a: MaskKeys({}), 3),
        (MaskKeys, lambda a: MaskKeys({"site-1": a.keys["site-2"]}), 3),
        (MaskKeys, lambda a: MaskKeys({"site-2": [a.keys["site-2"][0], b"short"]}), 3),
        (MaskKeys, lambda a: MaskKeys({"site-2": [a.keys["site-2"][0]] * 2}), 3),
        (MaskShares, lambda a: MaskShares({}, {}), 3),
        (MaskShares, lambda a: replace(a, shares={"site-2": {}}), 3),
        (MaskShares, lambda a: replace(a, digests={}), 3),
        (Unmasking, lambda a: Unmasking({}), 4),
        (Unmasking, lambda a: Unmasking({"site-1": a.shares["site-2"]}), 4),
        (Unmasking, lambda a: Unmasking({"site-2": dict.fromkeys(FOUR, bytes(65) + b"1")}), 4),
        (MaskKeys, lambda a: MaskKeys({"site-2": [bytes(32), a.keys["site-2"][1]]}), 3),
        (MaskKeys, lambda a: MaskKeys({"site-2": [a.keys["site-2"][0], bytes(32)]}), 3),
    ],
)  # fmt: skip
def test_what_else_a_site_sends_harms_nobody_else(kind: Any, change: Change, clients: int, tmp_path: Path) -> None:
    """In the second round; and the run goes on."""

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if site != "site-2" or getattr(message, "round", 0) != 2:
            return None
        answer = sites.hosts[site].handle(message)
        return change(answer) if isinstance(answer, kind) else answer

    assert [r["clients"] for r in run(tmp_path / "run", before).records("round")] == [4, clients, 4]


@pytest.mark.slow
@pytest.mark.parametrize("half", ["seed", "key"])
def test_false_shares_are_found_and_the_round_is_done_again_with_the_same_clients(half: str, tmp_path: Path) -> None:
    """Two of them leave too few that are true; no false sum comes of it. Other clients than before are refused."""

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if getattr(message, "round", 0) != 2:
            return None
        tries = sum(asked == site and isinstance(m, UnmaskRequest) and m.round == 2 for asked, m in sites.asked)
        if half == "key" and site == "site-4" and isinstance(message, RoundTask):
            return HostError("lost")
        if site in FOUR[:2] and isinstance(message, UnmaskRequest) and tries == 1:
            answer = sites.hosts[site].handle(message)
            assert isinstance(answer, Unmasking)
            false = "site-4" if half == "key" else "site-1"
            return Unmasking({site: {**answer.shares[site], false: bytes(65) + b"1"}})
        return None

    result = run(tmp_path / "run", before)
    assert [r["usable"] for r in result.records("repeat")] == [0]
    assert any("fit together" in r["reason"] for r in result.records("client") if r["rejected"] == "masked")
    assert [r["clients"] for r in result.records("round")] == [4, 4 if half == "seed" else 3, 4]


@pytest.mark.slow
def test_a_client_whose_mask_nobody_can_take_off_ends_the_run(tmp_path: Path) -> None:
    """It is not left out of a second sum: with the first one that would tell of it, were it honest."""

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        answer = sites.hosts[site].handle(message)
        if site == "site-2" and isinstance(answer, MaskShares) and getattr(message, "round", 0) == 2:
            return replace(answer, shares={site: dict.fromkeys(answer.shares[site], b"?" * 160)})
        return answer

    with pytest.raises(FedummError, match="0 usable update"):
        run(tmp_path / "run", before)


def test_no_second_sum_with_others_is_had(tmp_path: Path) -> None:
    """The first one came to nothing at the server, which may have all that it needs; with one more, it has two."""
    tries = []

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if isinstance(message, RoundTask) and message.round == 2 and site == "site-4" and not tries:
            return HostError("lost")
        if isinstance(message, UnmaskRequest) and message.round == 2 and len(tries) < 3:
            tries.append(site)
            sites.hosts[site].handle(message)
            return HostError("its answer is lost")
        return None

    with pytest.raises(FedummError, match="0 usable update"):
        run(tmp_path / "run", before)


def test_a_sum_that_no_honest_updates_make_is_refused(tmp_path: Path) -> None:
    """One client's words are anything: a mean beyond what a client may move a value by is somebody's lie."""

    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2:
            answer = sites.hosts[site].handle(message)
            assert isinstance(answer, RoundReply)
            words = [from_bytes(u.adapter) + np.uint32(6 / GRID) for u in answer.updates]
            false = [replace(u, adapter=to_bytes(own)) for u, own in zip(answer.updates, words, strict=True)]
            return replace(answer, updates=false)
        return None

    with pytest.raises(FedummError, match="0 usable update"):
        run(tmp_path / "run", before)


def test_hosts_without_a_client_in_the_round_score_as_ever(tmp_path: Path) -> None:
    result = run(tmp_path / "run", clients_per_round=2)
    assert [r["clients"] for r in result.records("round")] == [2, 2, 2]
    assert not [r for r in result.records("client") if r["rejected"]]
    assert all(r["heldout_missing"] == [] for r in result.records("round"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda update: replace(update, adapter=update.adapter[:-4]), "payload"),
        (lambda update: replace(update, control=b"1"), "payload"),
        # Whose data have no use for a tensor is hidden in the sum.
        (lambda update: replace(update, untrained=["base_model.model.first.lora_A.weight"]), "tensors"),
    ],
)
def test_an_update_that_is_no_part_of_a_sum_is_its_clients_failure(change: Change, code: str, tmp_path: Path) -> None:
    def before(site: str, message: Message, sites: Sites) -> Message | None:
        if site == "site-2" and isinstance(message, RoundTask) and message.round == 2 and message.train:
            answer = sites.hosts[site].handle(message)
            assert isinstance(answer, RoundReply)
            return replace(answer, updates=[change(update) for update in answer.updates])
        return None

    result = run(tmp_path / "run", before)
    assert [r["clients"] for r in result.records("round")] == [4, 3, 4]
    assert [r["rejected"] for r in result.records("client") if r["rejected"]] == [code]


@pytest.mark.slow
def test_a_value_that_moves_too_far_is_its_clients_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    masked = Client._masked

    def far(client: Any, masking: Any, start: Any, sent: Any, task: RoundTask) -> bytes:
        if client.name == "site-2" and task.round == 2:
            sent = {name: t + 5 for name, t in sent.items()}
        return masked(client, masking, start, sent, task)

    monkeypatch.setattr(Client, "_masked", far)
    result = run(tmp_path / "run")
    (failed,) = [r for r in result.records("client") if r["rejected"]]
    assert (failed["client"], failed["rejected"]) == ("site-2", "failed")
    assert "lower --lr" in failed["reason"]
    assert [r["clients"] for r in result.records("round")] == [4, 3, 4]


def test_the_server_keeps_nothing_that_tells_of_one_update(tmp_path: Path) -> None:
    """Neither lengths nor directions, which it does not know."""
    result = run(tmp_path / "run", num_rounds=1)
    for record in result.records("client"):
        assert record["norm"] is None
        assert record["cosine"] is None
    assert all(r["aggregation_error"] is None for r in result.records("round"))


@pytest.mark.slow
def test_bytes_are_four_a_value(tmp_path: Path) -> None:
    result = run(tmp_path / "run", num_rounds=1)
    (setup,) = result.records("setup")
    assert {r["bytes_up"] for r in result.records("client")} == {4 * setup["trainable"]}


def test_a_stopped_run_goes_on_to_the_same_bits(undisturbed: list[bytes], tmp_path: Path) -> None:
    """Keys are of a round; nothing of them is kept."""

    def stop(site: str, message: Message, sites: Sites) -> None:
        if isinstance(message, UnmaskRequest) and message.round == 2 and not (tmp_path / "stopped").exists():
            (tmp_path / "stopped").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", stop)
    resumed = Sites(tmp_path / "run", None, FOUR, **OPTIONS)
    assert resumed.run().weights() == undisturbed
    assert [r["round"] for r in read_records(tmp_path / "run") if r["event"] == "resumed"] == [1]


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({"aggregator": "median"}, "hides single updates"),
        ({"aggregator": "flora"}, "hides single updates"),
        ({"wire_up": "int8"}, "leave --wire_up"),
        ({"top_k": 0.5}, "leave --wire_up"),
        ({"scaffold": True}, "leave --scaffold"),
        ({"dp": "central", "dp_noise_multiplier": 1.0}, "use --dp local"),
        ({"dp": "local", "dp_noise_multiplier": 1.0}, "leave one out"),
        ({"client_weights": "steps", "round_minutes": 1.0}, "use another"),
        ({"num_clients": 1}, "two clients"),
        ({"clients_per_round": 1}, "two clients"),
        ({"max_update_norm": 1.0}, "--max_update_norm"),
        ({"over_norm": "clip"}, "--over_norm"),
    ],
)
def test_what_can_not_be_summed_is_told_before_any_work(options: dict[str, Any], hint: str, tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=hint):
        check_rules(toy_config(**lora_options(secure_aggregation=True, **options)))
