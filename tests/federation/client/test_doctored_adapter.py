"""A server that sends an adapter made to read rows out of the update (PEFTLeak, 2506.04453), and what it may change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedumm.adapters import AdapterState, decode, encode, spec_of
from fedumm.aggregation import available_aggregators, get_aggregator
from fedumm.aggregation.base import ClientContribution
from fedumm.compression.packing import unpack
from fedumm.compression.registry import WIRES
from fedumm.federation.client.guard import Guard
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.client_view import communicated_tensors
from fedumm.federation.protocol.messages import (
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    InitRequest,
    RoundReply,
    RoundTask,
    TensorPayload,
)
from fedumm.federation.protocol.transfer import Downlink, as_received, unpack_payload
from fedumm.federation.server.validation import norm_between
from fedumm.plugins import load_plugins
from support.toy import lora_options, toy_config
from support.toy_backend import WORDS

ONE = {"site-1": ["site-1"]}
A, B = (f"base_model.model.first.lora_{factor}.weight" for factor in "AB")
"""Of the layer that sees a row's features: how often it has each word, and a mean colour."""
LR = 1e-2


class Site:
    """A host with one client, set up; no dropout, batches of one row unless told otherwise."""

    def __init__(self, folder: Path, **options: Any) -> None:
        defaults = {"num_clients": 1, "num_rounds": 3, "lora_dropout": 0.0, "batch_size": 1, "grad_accum": 1, "lr": LR}
        config = toy_config(**lora_options(**{**defaults, **options}))
        load_plugins(config.plugins)
        self.host = Host("site-1", config, lambda *_: None, folder, simulated=True)
        assert isinstance(self.host.handle(DataStatsRequest(["site-1"])), DataStats)
        ready = self.host.handle(InitRequest(ONE, {"site-1": [0, 1]}, "site-1"))
        assert isinstance(ready, InitReply)
        self.first, self.spec = decode(ready.adapter), ready.spec

    @property
    def rows(self) -> torch.Tensor:
        """The features of the client's training rows: what an attacker is after."""
        data = self.host.ready.clients["site-1"]._train_set
        return torch.stack([data[i][0] for i in range(len(data))])

    def ask(self, number: int, adapter: AdapterState, factors: str = "AB") -> RoundReply | HostError:
        payload = TensorPayload("whole", encode(adapter))
        answer = self.host.handle(
            RoundTask(round=number, train=True, adapter=payload, assignments=ONE, factors=factors)
        )
        assert isinstance(answer, RoundReply | HostError)
        return answer

    def trained(self, number: int, adapter: AdapterState, factors: str = "AB") -> AdapterState:
        """The global adapter of this one client after a round."""
        answer = self.ask(number, adapter, factors)
        assert isinstance(answer, RoundReply), answer
        assert not answer.updates[0].error
        return adapter | unpack(answer.updates[0].adapter, self.spec)

    def refused(self, number: int, adapter: AdapterState, factors: str = "AB") -> str:
        answer = self.ask(number, adapter, factors)
        assert isinstance(answer, HostError), answer
        return answer.message


def doctored(state: AdapterState) -> AdapterState:
    """With a B of the first layer so small that AdamW's epsilon, 1e-8, is large against the gradient of A: the step is
    then the gradient itself, a sum of the rows, and not its signs."""
    drawn = torch.randn(state[B].shape, generator=torch.Generator().manual_seed(0))
    return state | {B: 1e-9 * drawn}


def likeness(found: torch.Tensor, rows: torch.Tensor) -> float:
    """The best cosine of one of the vectors that were found with one row."""
    return float(torch.nn.functional.cosine_similarity(found[:, None], rows[None], dim=-1).abs().max())


# what is refused


@pytest.mark.parametrize("wire", WIRES)
def test_round_1_is_what_the_host_derived_itself(tmp_path: Path, wire: str) -> None:
    site = Site(tmp_path, wire_down=wire, max_train_samples=8)
    first = as_received(site.first, wire)
    for name, tensor in first.items():
        other = tensor.clone()
        other.view(-1)[-1] += 1e-6
        assert f"has another {name}, which no client has trained" in site.refused(1, first | {name: other})
    assert "no client has trained" in site.refused(1, doctored(first))
    site.trained(1, first)


@pytest.mark.parametrize(
    ("aggregator", "trained", "fixed"), [("ffa_lora", "B", A), ("rolora", "B", A), ("fedsa_lora", "AB", B)]
)
def test_a_factor_that_the_method_leaves_alone_stays(tmp_path: Path, aggregator: str, trained: str, fixed: str) -> None:
    site = Site(tmp_path, aggregator=aggregator, max_train_samples=8)
    after = site.trained(1, site.first, trained)
    after = after if aggregator != "fedsa_lora" else after | {n: t for n, t in site.first.items() if "lora_B" in n}
    following = "A" if aggregator == "rolora" else trained
    assert f"another {fixed}" in site.refused(2, after | {fixed: after[fixed] + 1}, following)
    site.trained(2, after, following)
    if aggregator == "rolora":
        # A has been trained since, and B not since the round before.
        assert f"another {B}" in site.refused(3, after | {B: after[B] + 1}, "B")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_honest_server_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Any aggregator, any wire, clients that come and go: what hosts are sent passes, also those that missed rounds."""
    name, wire = data.draw(st.sampled_from(available_aggregators())), data.draw(st.sampled_from(WIRES))
    config = toy_config(**lora_options(aggregator=name, wire_down=wire))
    guard = Guard("site-1", config, True, tmp_path / "rounds.json", 0)
    draw = torch.Generator().manual_seed(data.draw(st.integers(0, 2**32)))
    first = {
        f"m.{layer}.lora_{factor}.weight": torch.randn(shape, generator=draw) * (factor == "A")
        for layer, (into, out) in {"wide": (7, 5), "tall": (3, 6)}.items()
        for factor, shape in (("A", (2, into)), ("B", (out, 2)))
    }
    first["m.head.weight"] = torch.randn(3, generator=draw)
    method = get_aggregator(name).from_config(config)
    downlink = Downlink(wire, method.supports_deltas, spec_of(first), first)
    held, version = as_received(first, wire), 0
    payload, missed = downlink.first(), False
    for number in range(1, 6):
        if data.draw(st.booleans(), label="takes part"):
            sent = downlink.whole() if missed else payload
            received = unpack_payload(sent, held, spec_of(first))
            guard.check_untrained(held, received, range(version + 1, number))
            held, version, missed = received, number - 1, False
            # Asked once more, it is told the same.
            guard.check_untrained(held, unpack_payload(downlink.whole(), held, spec_of(first)), range(0))
        else:
            missed = True
        names = communicated_tensors(first, method.trainable_factors(number) & method.communicated_factors)
        start = dict(downlink.held)
        method.begin(start, 1.5, number)
        for client in range(data.draw(st.integers(1, 4), label="clients")):
            own = {n: start[n] + torch.randn(start[n].shape, generator=draw) for n in sorted(names)}
            method.add(ClientContribution(f"site-{client}", own, 1.0, 1.5))
        payload = downlink.send(method.finish().adapter)


# what is not


def test_a_row_among_two_is_read_from_the_second_round_on(tmp_path: Path) -> None:
    """No bound on an adapter's size would help: the doctored one lies no farther from the first than honest training
    moves it."""
    site = Site(tmp_path, max_train_samples=2)
    assert len(site.rows) == 2
    honest = site.trained(1, site.first)
    sent = doctored(honest)
    assert norm_between(sent, site.first) <= norm_between(honest, site.first)
    found = site.trained(2, sent)[A] - (1 - LR * site.host.config.weight_decay) ** 2 * sent[A]
    assert likeness(found, site.rows) > 0.98 > likeness(site.rows.mean(dim=0, keepdim=True), site.rows) + 0.1


@pytest.mark.parametrize(("batch", "steps"), [(40, 1), (1, 36)])
def test_of_many_rows_sums_are_read(tmp_path: Path, batch: int, steps: int) -> None:
    """What is found is hardly more like any row than the rows' mean is."""
    site = Site(tmp_path, max_train_samples=40, holdout=0.1, batch_size=batch)
    sent = doctored(site.trained(1, site.first))
    found = site.trained(2, sent)[A] - (1 - LR * site.host.config.weight_decay) ** steps * sent[A]
    mean = site.rows.mean(dim=0, keepdim=True)
    assert len(site.rows) == 36
    assert likeness(found, site.rows) < likeness(mean, site.rows) + 0.06


def test_words_are_read_by_a_layer_that_sees_them_one_by_one(tmp_path: Path) -> None:
    """Which words the rows have, of all together, whatever their number (the first step to text from LoRA's gradients,
    2601.17533); the server is honest. The shipped backends' layers see no such thing."""
    site = Site(tmp_path, max_train_samples=40, holdout=0.1, batch_size=8)
    sent = site.trained(1, site.first)
    found = site.trained(2, sent)[A] - (1 - LR * site.host.config.weight_decay) ** 5 * sent[A]
    words = found.abs().amax(dim=0)[:WORDS] > 1e-6
    assert torch.equal(words, (site.rows[:, :WORDS] > 0).any(dim=0))


def test_with_local_privacy_noise_is_read(tmp_path: Path) -> None:
    options = {"dp": "local", "dp_clip": 1.0, "dp_noise_multiplier": 1.0, "max_train_samples": 2}
    site = Site(tmp_path, **options)
    sent = doctored(site.trained(1, site.first))
    found = site.trained(2, sent)[A] - sent[A]
    assert likeness(found, site.rows) < 0.5


def test_ffa_lora_shows_a_layers_inputs_through_the_seeds_projection_alone(tmp_path: Path) -> None:
    """Its A is the seed's in every round, and no gradient of A leaves: of an input there are as many numbers as ranks,
    which leave most of it open."""
    site = Site(tmp_path, aggregator="ffa_lora", max_train_samples=2)
    answer = site.ask(1, site.first, "B")
    assert isinstance(answer, RoundReply)
    assert all("lora_B" in name for name in unpack(answer.updates[0].adapter, site.spec))
    x, a = site.rows[0].double(), site.first[A].double()
    known = torch.linalg.pinv(a) @ (a @ x)
    assert likeness(known[None], x[None]) < 0.5


# the least that a site can ask for


def test_a_client_of_few_rows_takes_no_part(tmp_path: Path) -> None:
    config = toy_config(**lora_options(num_clients=2, min_train_rows=33, dirichlet_alpha=0.0))
    load_plugins(config.plugins)
    for simulated in (True, False):
        host = Host("site-1", config, lambda *_: None, tmp_path, simulated=simulated)
        answer = host.handle(DataStatsRequest(["site-1", "site-2"]))
        assert isinstance(answer, HostError)
        assert answer.message == "site-1 has fewer than 33 training rows (--min_train_rows)"
