"""A client's round on its host: what it does, and what it leaves alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fedumm.adapters import decode, encode
from fedumm.compression.packing import unpack
from fedumm.federation.client.client import Client
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import DataStatsRequest, InitReply, InitRequest, RoundReply, RoundTask
from fedumm.federation.protocol.messages import TensorPayload as Payload
from fedumm.plugins import load_plugins
from fedumm.training.dataset_pool import DatasetPool
from support.toy import lora_options, toy_config

ROSTER = ["site-1", "site-2"]


def serving(folder: Path, **options: Any) -> tuple[Host, InitReply]:
    """A host that serves two clients, ready for its first round."""
    config = toy_config(**lora_options(num_clients=2, dirichlet_alpha=0.0, **options))
    load_plugins(config.plugins)
    host = Host("host-1", config, lambda *_: None, folder, simulated=True)
    host.handle(DataStatsRequest(ROSTER))
    reply = host.handle(InitRequest({"host-1": ROSTER}, {"host-1": [0, 1]}, "host-1"))
    assert isinstance(reply, InitReply), reply
    return host, reply


@pytest.fixture
def served(tmp_path: Path) -> tuple[Host, InitReply]:
    return serving(tmp_path)


def answer(host: Host, reply: InitReply, **task: Any) -> RoundReply:
    given: dict[str, Any] = {"round": 1, "train": True, "assignments": {}, "adapter": Payload("whole", reply.adapter)}
    found = host.handle(RoundTask(**{**given, **task}))
    assert isinstance(found, RoundReply), found
    return found


def test_a_client_that_only_scores_sends_scores_and_builds_no_training_set(
    served: tuple[Host, InitReply], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, reply = served
    assert host.data is not None
    share, built = host.data.partition.shares["site-2"], list[list[int]]()
    real = DatasetPool.part
    monkeypatch.setattr(DatasetPool, "part", lambda pool, rows: (built.append(list(rows)), real(pool, rows))[1])
    (update,) = answer(host, reply, scorers={"host-1": ["site-2"]}).updates
    assert built == [share.heldout.tolist()]
    assert (update.client, update.adapter, update.steps, update.after) == ("site-2", b"", 0, {})
    assert update.before["vqa"].count == len(share.heldout)


def test_a_client_named_twice_has_one_update(served: tuple[Host, InitReply]) -> None:
    host, reply = served
    updates = answer(host, reply, assignments={"host-1": ["site-1", "site-1"]}).updates
    assert [update.client for update in updates] == ["site-1"]


def test_one_that_fails_leaves_the_other_the_bits_of_a_round_without_it(
    served: tuple[Host, InitReply], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, reply = served
    (alone,) = answer(host, reply, assignments={"host-1": ["site-2"]}).updates
    real = Client._fit

    def fit(client: Client, *args: Any) -> Any:
        result = real(client, *args)
        if client.name == "site-1":
            raise RuntimeError("after it has trained")
        return result

    monkeypatch.setattr(Client, "_fit", fit)
    failed, healthy = answer(host, reply, assignments={"host-1": ROSTER}).updates
    assert failed.error == "RuntimeError: after it has trained"
    assert healthy.adapter == alone.adapter


def test_between_rounds_the_backbone_can_be_given_the_global_adapter_again(served: tuple[Host, InitReply]) -> None:
    host, reply = served
    answer(host, reply, assignments={"host-1": ["site-1"]})
    assert host.ready is not None
    model, first = host.ready.model, decode(reply.adapter)
    assert any(not torch.equal(t, first[name]) for name, t in model.backbone.adapter().items()), "it was trained"
    model.put()
    assert all(torch.equal(t, first[name]) for name, t in model.backbone.adapter().items())


def test_a_client_that_has_lost_its_control_variate_takes_the_servers(tmp_path: Path) -> None:
    """It trains without correction, and the change it sends is from there: the server's mean is not moved twice."""
    plain, reply = serving(tmp_path / "plain")
    zero = {name: torch.zeros_like(t) for name, t in decode(reply.adapter).items()}
    ours = {name: torch.full_like(t, 0.05) for name, t in zero.items()}
    task: dict[str, Any] = {"assignments": {"host-1": ["site-1"]}}
    second: dict[str, Any] = {**task, "round": 2, "last_accepted_round": {"site-1": 1}}
    found = {}
    for case in ("kept", "lost"):
        host, _ = serving(tmp_path / case, scaffold=True)
        answer(host, reply, **task, control=Payload("whole", encode(zero)))
        if case == "lost":
            shutil.rmtree(tmp_path / case / "site-1")
        found[case] = answer(host, reply, **second, control=Payload("whole", encode(ours)))
    assert found["lost"].notes == ["what site-1 kept of round 1 is not there any more: it begins anew"]
    (kept,), (lost,), (without,) = found["kept"].updates, found["lost"].updates, answer(plain, reply, **second).updates
    assert lost.adapter == without.adapter != kept.adapter
    sent = unpack(lost.control, reply.spec)
    (file,) = (tmp_path / "lost" / "site-1").glob("*.safetensors")
    own = decode(file.read_bytes())
    assert sent
    for name, change in sent.items():
        assert torch.equal(own[f"control/{name}"], ours[name] + change)
