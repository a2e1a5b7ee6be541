"""What the versions of the global adapter scored: who is asked, who is missing, and which version is the best."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from fedumm.config import FederateConfig
from fedumm.federation.server.metrics_records import scores_record
from fedumm.federation.server.sampling import panel_of
from fedumm.federation.server.selection import Selection
from fedumm.metrics.evaluation import Evaluation, Scores, summary
from fedumm.run_events import Record
from fedumm.tasks import GENEVAL


class Scoreboard:
    """The scores of the untrained version, of the best one and of the latest.

    Args:
        panel: whose scores count; None: nothing may be chosen by scores, and those who train score.
        scoring: clients that have something to score: their scores are missing if they are not there.
    """

    def __init__(self, panel: Sequence[str] | None, scoring: Collection[str]) -> None:
        self.panel = panel
        self._scoring = set(scoring)
        self._selection = Selection(panel)
        self._records: dict[int, Record] = {}

    @property
    def best(self) -> int:
        """The best version; -1 before the first."""
        return self._selection.version

    def __getitem__(self, version: int) -> Record:
        """The record of a version that is kept."""
        return self._records[version]

    def enter(self, version: int, training: Sequence[str], scores: Mapping[str, Scores], test: Scores) -> bool:
        """Take in what clients say of a version.

        Args:
            training: who trains from it.
            scores: on held-out rows, by client.
            test: on the common test set.

        Returns:
            Whether it is the best one now.
        """
        judges = training if self.panel is None else self.panel
        own = {client: scores[client] for client in judges if scores.get(client)}
        missing = [client for client in judges if client not in own and client in self._scoring]
        self._records[version] = scores_record(own, missing, test)
        best = self._selection.offer(version, own)
        kept = {0, self.best, version}
        self._records = {number: record for number, record in self._records.items() if number in kept}
        return best

    def enter_drawings(self, version: int, drawn: Evaluation) -> None:
        """Take in what a version that is kept scored by drawing, later than by everything else."""
        own = self._records[version]
        tasks = own["test_tasks"] | summary("test", {GENEVAL.name: drawn})["test_tasks"]
        self._records[version] = own | {"test_tasks": tasks}

    def summary(self) -> dict[str, Record]:
        """The scores of the untrained, the best and the last version."""
        versions = {"untrained": 0, "best": self.best, "last": max(self._records)}
        return {name: {"round": version, **self._records[version]} for name, version in versions.items()}

    def facts(self) -> dict[str, Any]:
        """All of it but the panel, as JSON."""
        return {"best": self._selection.facts(), "scores": self._records}

    def load(self, facts: Mapping[str, Any]) -> None:
        """Restore what :meth:`facts` gave."""
        self._selection.load(facts["best"])
        self._records = {int(version): record for version, record in facts["scores"].items()}


def scoreboard_for(config: FederateConfig, clients: Mapping[str, Mapping[str, Any]]) -> Scoreboard:
    """That of a run.

    Args:
        clients: what each announced of its rows.
    """
    # Choosing by scores that are not private would tell of them.
    per_round = config.clients_per_round or len(clients)
    panel = None if config.dp != "off" else panel_of(clients, per_round, config.seed)
    scoring = [] if config.dp == "local" else [name for name, own in clients.items() if own["heldout"]]
    return Scoreboard(panel, scoring)
