"""A host accepts from a server only what the run's options call for, and each round once.

Otherwise a server that breaks the rules could have one client's rows trained on under another's name, ask again and
again until the noise averages out, put numbers into the backbone that no method produces, or send an adapter made to
read rows out of what comes back (PEFTLeak: Sami et al., 2025, https://arxiv.org/abs/2506.04453).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch

from fedumm.adapters import AdapterState, Spec, check_state, check_values
from fedumm.adapters.factors import Factor
from fedumm.adapters.state import LARGEST
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import BackboneDelta
from fedumm.config import FederateConfig
from fedumm.data.partition.split import ClientShare
from fedumm.errors import PublicError
from fedumm.federation.client.answered_rounds import AnsweredRounds
from fedumm.federation.protocol.client_view import communicated_tensors
from fedumm.federation.protocol.mask_messages import MaskKeysRequest, MaskSharesRequest
from fedumm.federation.protocol.messages import SETUP, DataStatsRequest, InitRequest, RoundTask
from fedumm.federation.protocol.names import check_name, check_names
from fedumm.federation.protocol.reply_fields import LONGEST_CERTIFICATE


class NotReadyError(PublicError):
    """This host can't do what it is asked before it is told more: ``needs`` says what (see ``HostError``)."""

    def __init__(self, message: str, needs: str) -> None:
        super().__init__(message)
        self.needs = needs


class Guard:
    """Checks the messages to one host during a whole run. Every check raises :class:`PublicError` if it refuses one.

    Args:
        name: the host's.
        simulated: all hosts are this user's own. Otherwise the host is a site and serves itself alone.
        record: file of the rounds that were answered in this run (with FLARE: job); see :class:`AnsweredRounds`.
        answered: the last round that an earlier process of this host, which has died, has answered.
    """

    def __init__(self, name: str, config: FederateConfig, simulated: bool, record: Path, answered: int) -> None:
        self.name, self._config, self._simulated = check_name(name), config, simulated
        self._method = get_aggregator(config.aggregator).from_config(config)
        self._private = config.dp == "local"
        self._answered = AnsweredRounds(record) if self._private else None
        self._last = answered
        self._data_request: DataStatsRequest | None = None
        self._init_request: InitRequest | None = None

    def check_data_stats_request(self, request: DataStatsRequest) -> None:
        """The roster must be possible in this run, and must never change."""
        check_names(request.roster)
        fewest, most = self._config.min_clients, self._config.num_clients
        if not fewest <= len(request.roster) <= most:
            # Fewer would share out the data among them: what few rows remain for one is then known from its update.
            raise PublicError(f"a roster of {len(request.roster)} clients, where the run has {fewest} to {most}")
        if not self._simulated and self.name not in request.roster:
            raise PublicError(f"{self.name} is not on the roster")
        if self._data_request not in (None, request):
            raise PublicError("another roster than before")
        self._data_request = request

    def check_shares(self, shares: Mapping[str, ClientShare]) -> None:
        """A client whose rows are few takes no part: its update would tell of each.

        Args:
            shares: of all clients that are known here; a site answers for itself alone.
        """
        fewest = self._config.min_train_rows
        for client, share in shares.items():
            if (self._simulated or client == self.name) and len(share.train) < fewest:
                raise PublicError(f"{client} has fewer than {fewest} training rows (--min_train_rows)")

    def check_init_request(self, request: InitRequest) -> None:
        """Every client must have one place, and keep it."""
        if self._data_request is None:
            raise NotReadyError("a set-up was asked for before the survey", SETUP)
        served = check_names(client for own in request.assignments.values() for client in own)
        if (unknown := _not_among(served, self._data_request.roster)) is not None:
            raise PublicError(f"{unknown} is not on the roster")
        if self.name not in request.assignments or request.initial_from not in request.assignments:
            raise PublicError(f"{self.name} has no part in the run")
        if not self._simulated and request.assignments[self.name] != [self.name]:
            raise PublicError("a site serves itself, and nobody else")
        # Where every host has data of its own, it scores all of its own test set.
        parts = 1 if self._config.own_data else len(request.assignments)
        first, step = request.tests.get(self.name, [0, 0])
        if not 0 <= first < step == parts:
            raise PublicError("the test set is not shared out to the hosts")
        if request.changes and not self._method.updates_base_model:
            raise PublicError(f"--aggregator {self._config.aggregator} never changes the backbone")
        if len(request.changes) > self._config.num_rounds:
            raise PublicError(f"{len(request.changes)} changes of the backbone in {self._config.num_rounds} rounds")
        previous = self._init_request
        if previous is not None and (request.assignments, request.tests) != (previous.assignments, previous.tests):
            raise PublicError("another set-up than before")
        self._init_request = request
        if self._answered:
            self._answered.begin()

    def check_mask_keys_request(self, request: MaskKeysRequest) -> None:
        """The round must be one that can come next, and the clients this host's."""
        if self._init_request is None:
            raise NotReadyError("masks were asked for before the set-up", SETUP)
        if not max(1, self._last) <= request.round <= self._config.num_rounds:
            raise PublicError(f"round {request.round} is not the next")
        own = check_names(request.clients.get(self.name, []))
        if (unknown := _not_among(own, self._init_request.assignments[self.name])) is not None:
            raise PublicError(f"{unknown} is not a client of {self.name}")

    def check_mask_shares_request(self, request: MaskSharesRequest) -> None:
        """Keys of clients that there are: a server must not hold those of some that it made up. Signatures of these,
        no longer than any are."""
        roster = self._data_request.roster if self._data_request else []
        if (unknown := _not_among(check_names(request.keys), roster)) is not None:
            raise PublicError(f"{unknown} is not on the roster")
        if request.signatures.keys() - request.keys.keys():
            raise PublicError("signatures of others than whose keys are there")
        for signer, parts in request.signatures.items():
            if len(parts) != 2 or max(map(len, parts)) > LONGEST_CERTIFICATE:
                raise PublicError(f"what {signer} signed with is no certificate and signature")

    def check_round_task(self, task: RoundTask) -> None:
        """The round must be one of the run, not an earlier one than the last, and for clients of this host.

        With ``--dp local`` a round is answered once, whatever becomes of the answer: it is on record from here on.
        """
        if self._init_request is None:
            raise NotReadyError("a round was asked for before the set-up", SETUP)
        rounds = self._config.num_rounds
        # With --patience the round that only scores may come after fewer.
        early = 0 < self._config.patience < task.round - 1 <= rounds and not task.train
        if not (1 <= task.round <= rounds + 1 and (early or task.train == (task.round <= rounds))):
            raise PublicError(f"round {task.round} is not one of the {rounds} of this run")
        if self._private and task.round <= self._last:
            raise PublicError(f"round {task.round} is not the next: its noise would be spent twice")
        if task.round < self._last:
            raise PublicError(f"round {task.round} is not the next: round {self._last} was answered")
        if task.version != -1:
            self._check_closing_task(task)
        if (unknown := _not_among(task.clients(self.name), self._init_request.assignments[self.name])) is not None:
            raise PublicError(f"{ascii(unknown)[:80]} is not a client of {self.name}")
        if any(not 0 <= last < task.round for last in task.last_accepted_round.values()):
            raise PublicError("a client resumes from a round that did not happen")
        if task.factors != "".join(sorted(self._method.trainable_factors(task.round))):
            raise PublicError(f"--aggregator {self._config.aggregator} does not train {task.factors} in this round")
        if task.change and not self._method.updates_base_model:
            raise PublicError(f"--aggregator {self._config.aggregator} never changes the backbone")
        if task.masked and not self._config.secure_aggregation:
            raise PublicError("masks without --secure_aggregation")
        if task.control is not None and not self._config.scaffold:
            raise PublicError("control variates without --scaffold")
        if self._private and any(task.scorers.values()):
            raise PublicError("with --dp local no client is asked for scores alone")
        if self._answered:
            self._answered.add(task.round)
        self._last = task.round

    def _check_closing_task(self, task: RoundTask) -> None:
        """It may ask for nothing but images, of a version before the last one."""
        if task.train or not task.draw or not 0 < task.version < task.round - 1:
            raise PublicError(f"version {task.version} is not one to draw with after round {task.round - 1}")
        if task.clients(self.name) or task.change or task.control is not None:
            raise PublicError("a task that only draws has nothing for clients")

    def check_adapter(self, state: Mapping[str, torch.Tensor], spec: Spec) -> None:
        """The global adapter, or SCAFFOLD's c, must have the adapter's shapes and values that training can produce."""
        if problem := check_state(state, spec, largest=LARGEST):
            raise PublicError(f"the server's adapter is invalid: {problem}")

    def check_untrained(
        self, held: Mapping[str, torch.Tensor], sent: Mapping[str, torch.Tensor], rounds: Collection[int]
    ) -> None:
        """The global adapter may differ from the one that is held in what clients train in ``rounds``, those between
        the two, and in nothing else. The first one is held by every host, which derives it from the seed."""
        trained = frozenset[Factor]().union(*map(self._method.trainable_factors, rounds))
        factors = trained & self._method.communicated_factors
        moving = communicated_tensors(held, factors) if rounds else set[str]()
        for name in sorted(held.keys() - moving):
            if not torch.equal(held[name], sent[name]):
                raise PublicError(f"the server's adapter has another {name}, which no client has trained")

    def check_change(self, change: BackboneDelta) -> None:
        """A change of the backbone must be made of products of two matrices, with values that a method can produce."""
        tensors: AdapterState = {}
        for number, (module, (left, right)) in enumerate(change.items(), start=1):
            shown = ascii(module)[:80]
            if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[0]:
                raise PublicError(f"the change of {shown} is not a product of two matrices")
            # Names that are cut may be equal: the number keeps the tensors apart.
            tensors |= {f"{shown} (number {number}, left)": left, f"{shown} (number {number}, right)": right}
        if problem := check_values(tensors, LARGEST):
            raise PublicError(f"the server's change of the backbone is invalid: {problem}")


def _not_among(names: Iterable[str], known: Collection[str]) -> str | None:
    return next((name for name in names if name not in known), None)
