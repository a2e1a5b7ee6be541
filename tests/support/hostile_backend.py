"""The toy backend with LoRA on hosts where clients go wrong.

``HOSTILE`` says how, in JSON: a list with an object for each round that names clients with one of
:data:`hostile.CASES`, or

``fails``    an error before it trains
``once``     the same, the first time that it is asked in the round
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from functools import wraps
from typing import Any

from fedumm.backends import register_backend
from fedumm.compression.packing import pack, unpack
from fedumm.federation.client.client import Client
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import ClientUpdate, Message, RoundReply, RoundTask
from support.hostile import CASES, CONTROL, FORGED
from support.lora_toy_backend import LoraToyBackend


def case_of(client: str, round_number: int) -> str:
    plan = dict(enumerate(json.loads(os.environ.get("HOSTILE", "[]")), 1))
    return str(plan.get(round_number, {}).get(client, ""))


def corrupted(host: Host, update: ClientUpdate) -> ClientUpdate:
    """What the client sends instead of ``update``."""
    sent: dict[str, Any] = host.__dict__.setdefault("sent", {})
    previous, sent[update.client] = sent.get(update.client, update), update
    case = case_of(update.client, update.round)
    if case == FORGED:
        return replace(previous, round=update.round)
    if case == CONTROL:
        spec = host.ready.model.backbone.slot.spec
        control = {name: 1e6 * t for name, t in unpack(update.control, spec).items()}
        return replace(update, control=pack(control, "float32", spec))
    if case not in CASES:
        return update
    return CASES[case][0](update, previous, host.ready.model.backbone.slot.spec, host.ready.model.adapter)


def hostile(handle: Any) -> Any:
    @wraps(handle)
    def handled(self: Host, message: Message) -> Message:
        answer = handle(self, message)
        if isinstance(message, RoundTask) and message.train and isinstance(answer, RoundReply):
            return replace(answer, updates=[corrupted(self, update) for update in answer.updates])
        return answer

    return handled


def failing(train: Any) -> Any:
    @wraps(train)
    def trained(self: Client, task: RoundTask, *args: Any) -> Any:
        asked = self.__dict__.setdefault("asked", [])
        asked.append(task.round)
        case = case_of(self.name, task.round)
        if case == "fails" or (case == "once" and asked.count(task.round) == 1):
            raise RuntimeError("no memory")
        return train(self, task, *args)

    return trained


if not hasattr(Host.handle, "__wrapped__"):
    Host.handle = hostile(Host.handle)
    Client._train = failing(Client._train)

register_backend("lora_toy", LoraToyBackend())
