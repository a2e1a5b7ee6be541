"""What a host accepts from a server: only what the run's options call for, and each round once.

A server that breaks the rules could otherwise make one client's update of another's rows, ask until noise averages
out, or put numbers into the backbone that no method makes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

import torch

from fedumm.adapters import AdapterState, Spec, check_state, check_values
from fedumm.adapters.state import LARGEST
from fedumm.aggregation import get_aggregator
from fedumm.aggregation.base import BackboneDelta
from fedumm.config import FederateConfig
from fedumm.errors import PublicError
from fedumm.federation.client.answered_rounds import AnsweredRounds
from fedumm.federation.protocol.messages import DataStatsRequest, InitRequest, RoundTask
from fedumm.federation.protocol.names import check_name, check_names


class Guard:
    """Of one host, for a whole run. Every method raises :class:`PublicError` if what came is refused.

    Args:
        name: the host's.
        simulated: all hosts are this user's own. Otherwise the host is a site and serves itself alone.
        record: where the rounds that were answered are kept, of one run, a job of FLARE's; see :class:`AnsweredRounds`.
        answered: the last round that a host before this one, which has died, has answered.
    """

    def __init__(self, name: str, config: FederateConfig, simulated: bool, record: Path, answered: int) -> None:
        self.name, self._config, self._simulated = check_name(name), config, simulated
        self._method = get_aggregator(config.aggregator).from_config(config)
        self._private = config.dp == "local"
        self._answered = AnsweredRounds(record) if self._private else None
        self._last = answered
        self._survey: DataStatsRequest | None = None
        self._setup: InitRequest | None = None

    def survey(self, survey: DataStatsRequest) -> None:
        """The roster is that of the run, and stays."""
        check_names(survey.roster)
        fewest, most = self._config.min_clients, self._config.num_clients
        if not fewest <= len(survey.roster) <= most:
            # Fewer would share out the data among them: what few rows remain for one is then known from its update.
            raise PublicError(f"a roster of {len(survey.roster)} clients, where the run has {fewest} to {most}")
        if not self._simulated and self.name not in survey.roster:
            raise PublicError(f"{self.name} is not on the roster")
        if self._survey not in (None, survey):
            raise PublicError("another roster than before")
        self._survey = survey

    def setup(self, setup: InitRequest) -> None:
        """Nobody has two places, or another one later."""
        if self._survey is None:
            raise PublicError("a set-up was asked for before the survey")
        served = check_names(client for own in setup.assignments.values() for client in own)
        if (unknown := _not_among(served, self._survey.roster)) is not None:
            raise PublicError(f"{unknown} is not on the roster")
        if self.name not in setup.assignments or setup.initial_from not in setup.assignments:
            raise PublicError(f"{self.name} has no part in the run")
        if not self._simulated and setup.assignments[self.name] != [self.name]:
            raise PublicError("a site serves itself, and nobody else")
        # Where every host has data of its own, it scores all of its own test set.
        parts = 1 if self._config.own_data else len(setup.assignments)
        first, step = setup.tests.get(self.name, [0, 0])
        if not 0 <= first < step == parts:
            raise PublicError("the test set is not shared out to the hosts")
        if setup.changes and not self._method.updates_base_model:
            raise PublicError(f"--aggregator {self._config.aggregator} never changes the backbone")
        if len(setup.changes) > self._config.num_rounds:
            raise PublicError(f"{len(setup.changes)} changes of the backbone in {self._config.num_rounds} rounds")
        if self._setup is not None and (setup.assignments, setup.tests) != (self._setup.assignments, self._setup.tests):
            raise PublicError("another set-up than before")
        self._setup = setup
        if self._answered:
            self._answered.begin()

    def task(self, task: RoundTask) -> None:
        """A round of the run, none before the last one, for clients of this host.

        With ``--dp local`` a round is answered once, whatever becomes of the answer: it is on record from here on.
        """
        if self._setup is None:
            raise PublicError("a round was asked for before the set-up")
        rounds = self._config.num_rounds
        if not 1 <= task.round <= rounds + 1 or task.train != (task.round <= rounds):
            raise PublicError(f"round {task.round} is none of the {rounds} of this run")
        if self._private and task.round <= self._last:
            raise PublicError(f"round {task.round} is not the next: its noise would be spent twice")
        if task.round < self._last:
            raise PublicError(f"round {task.round} is not the next: round {self._last} was answered")
        if (unknown := _not_among(task.clients(self.name), self._setup.assignments[self.name])) is not None:
            raise PublicError(f"{ascii(unknown)[:80]} is no client of {self.name}")
        if any(not 0 <= last < task.round for last in task.last_accepted_round.values()):
            raise PublicError("a client goes on from a round that was not")
        if task.factors != "".join(sorted(self._method.trainable_factors(task.round))):
            raise PublicError(f"--aggregator {self._config.aggregator} does not train {task.factors} in this round")
        if task.change and not self._method.updates_base_model:
            raise PublicError(f"--aggregator {self._config.aggregator} never changes the backbone")
        if task.control is not None and not self._config.scaffold:
            raise PublicError("control variates without --scaffold")
        if self._private and any(task.scorers.values()):
            raise PublicError("with --dp local nobody is asked for scores alone")
        if self._answered:
            self._answered.add(task.round)
        self._last = task.round

    def adapter(self, state: Mapping[str, torch.Tensor], spec: Spec) -> None:
        """What the server says the global adapter, or SCAFFOLD's c, is."""
        if problem := check_state(state, spec, largest=LARGEST):
            raise PublicError(f"the server's adapter is none: {problem}")

    def change(self, change: BackboneDelta) -> None:
        """What the backbone is to grow by."""
        tensors: AdapterState = {}
        for number, (module, (left, right)) in enumerate(change.items(), start=1):
            shown = ascii(module)[:80]
            if left.dim() != 2 or right.dim() != 2 or left.shape[1] != right.shape[0]:
                raise PublicError(f"the change of {shown} is no product of two matrices")
            # Names that are cut may be equal: the number keeps the tensors apart.
            tensors |= {f"{shown} (number {number}, left)": left, f"{shown} (number {number}, right)": right}
        if problem := check_values(tensors, LARGEST):
            raise PublicError(f"the server's change of the backbone is none: {problem}")


def _not_among(names: Iterable[str], known: Collection[str]) -> str | None:
    return next((name for name in names if name not in known), None)
