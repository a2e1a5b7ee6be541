"""The host's copy of the global model: what the server sends is checked and put onto the backbone."""

from __future__ import annotations

import torch

from fedumm.adapters import AdapterState
from fedumm.aggregation.base import BackboneDelta
from fedumm.aggregation.error import lost_share
from fedumm.config import FederateConfig
from fedumm.federation.client.guard import Guard, NotReadyError
from fedumm.federation.protocol.backbone_delta import unpack_backbone_delta
from fedumm.federation.protocol.client_view import client_start
from fedumm.federation.protocol.messages import ADAPTER, RoundTask
from fedumm.federation.protocol.transfer import as_received, unpack_payload
from fedumm.training.backbone import Backbone


class GlobalModel:
    """The backbone with the global adapter of the current round.

    Attributes:
        backbone: the frozen model, with changes of earlier rounds folded in; one for all clients of the host.
        adapter: the global adapter; before the first round the one that this host derived from the seed, as it arrives.
        control: SCAFFOLD's c; empty without ``--scaffold``.
    """

    def __init__(self, backbone: Backbone, config: FederateConfig, guard: Guard) -> None:
        self.backbone = backbone
        self.adapter = as_received(backbone.adapter(), config.down)
        self.control: AdapterState = {}
        self._config, self._guard = config, guard
        self._round = -1
        self._folded: tuple[BackboneDelta, float] | None = None

    def fold(self, payload: bytes) -> None:
        """Add a change to the frozen weights.

        Raises:
            PublicError: it holds values that no method makes.
        """
        change = unpack_backbone_delta(payload)
        self._guard.check_change(change)
        self._folded = change, self.backbone.fold(change)

    def check_base(self, task: RoundTask) -> None:
        """What ``task`` brings must continue what is held.

        Raises:
            NotReadyError: this host missed a round.
        """
        if task.base_round not in (-1, self._round):
            held = f"it holds the result of {self._round}, not of {task.base_round}"
            raise NotReadyError(f"it missed a round: {held}", ADAPTER)

    def receive(self, task: RoundTask) -> float | None:
        """Update the global model to the one that ``task`` starts from.

        Returns:
            The share of the last round's result that this host's arithmetic lost; None if no layer was changed.

        Raises:
            PublicError: what came is no adapter.
        """
        if task.change:
            self.fold(task.change)
        self._unpack(task)
        self._round = task.round - 1
        self.put()
        return self._folding_error()

    def _unpack(self, task: RoundTask) -> None:
        spec = self.backbone.slot.spec
        adapter = unpack_payload(task.adapter, self.adapter, spec)
        self._guard.check_adapter(adapter, spec)
        # The closing task brings an older version than the one that is held.
        first, last = sorted((task.version if task.version >= 0 else task.round - 1, max(0, self._round)))
        self._guard.check_untrained(self.adapter, adapter, range(first + 1, last + 1))
        self.adapter = adapter
        if task.control is not None:
            held = self.control or {name: torch.zeros_like(t) for name, t in self.adapter.items()}
            self.control = unpack_payload(task.control, held, spec)
            self._guard.check_adapter(self.control, spec)

    def _folding_error(self) -> float | None:
        """Of each change once: it can be measured only with the adapter of the same round in place."""
        if self._folded is None:
            return None
        (change, lost), self._folded = self._folded, None
        return lost_share(self.backbone.slot.delivered_norm(change), lost)

    def put(self) -> None:
        """Put the global adapter onto the backbone."""
        config = self._config
        self.backbone.put_at_rank(self.adapter, None if config.equal_ranks else config.alpha / config.rank)

    def put_for(self, client: str, own: AdapterState) -> AdapterState:
        """Put onto the backbone what ``client`` starts from, and return it.

        That is the global adapter at the client's rank; tensors in ``own``, which the client keeps to itself, take the
        place of the global ones.
        """
        start = client_start(self.adapter, self._config, client) | own
        self.backbone.put_at_rank(start, None if self._config.equal_ranks else self._config.scale_of(client))
        return start
