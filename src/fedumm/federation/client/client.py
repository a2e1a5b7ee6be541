"""One client's part of a round: score, train, pack the update, and keep what the client does not send."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedumm.adapters import AdapterState, Spec
from fedumm.adapters.factors import at_rank, spec_at_rank
from fedumm.adapters.folder import save_folder
from fedumm.adapters.origin import Origin
from fedumm.adapters.state import part, under
from fedumm.aggregation.base import Aggregator
from fedumm.backends.protocol import Progress
from fedumm.backends.registry import backend_plugins, with_model_name
from fedumm.compression.packing import pack, unpack
from fedumm.config import FederateConfig
from fedumm.data.partition.split import ClientShare
from fedumm.federation.client.client_state import CONTROL, OWN, RESIDUAL, ClientState, next_client_state
from fedumm.federation.client.global_model import GlobalModel
from fedumm.federation.client.masking import Masking
from fedumm.federation.protocol.client_view import communicated_tensors, steps_of
from fedumm.federation.protocol.messages import ClientUpdate, RoundTask
from fedumm.federation.protocol.transfer import pack_update
from fedumm.formatting import cut_text
from fedumm.metrics.evaluation import Scores
from fedumm.model_card import own_card
from fedumm.privacy.mechanism import private_update
from fedumm.privacy.plan import DPPlan
from fedumm.seeds import derive
from fedumm.step_losses import StepLosses, points_of_a_part
from fedumm.training.dataset_pool import DatasetPool
from fedumm.training.evaluation import evaluate
from fedumm.training.gradient_correction import ControlVariates, GradientHook, Proximal
from fedumm.training.results import TrainResult
from fedumm.training.trainer import train_epochs


@dataclass(frozen=True)
class ClientSetting:
    """What all clients of a host share.

    ``privacy`` is the plan of ``--dp local``, None without it; ``pool`` holds the host's training rows; ``states`` is
    where clients keep things between rounds; ``steps`` is the folder of losses by step, None if nobody is told them;
    ``masking`` hides updates in their sum, None without ``--secure_aggregation``.
    """

    config: FederateConfig
    aggregator: type[Aggregator]
    privacy: DPPlan | None
    model: GlobalModel
    pool: DatasetPool
    states: ClientState
    progress: Progress
    steps: Path | None = None
    masking: Masking | None = None

    @property
    def keeps(self) -> bool:
        """Whether clients keep something from round to round."""
        config, method = self.config, self.aggregator
        rounded = method.supports_deltas and (config.up != "float32" or config.top_k < 1)
        return config.scaffold or rounded or method.communicated_factors != frozenset("AB")


class Client:
    """One client: a name and its rows.

    Its optimiser and random state live only within a round, and every round starts from the global adapter, so nothing
    depends on which clients the backbone served before. Its data sets are built when it first takes part.
    """

    def __init__(self, name: str, share: ClientShare, setting: ClientSetting) -> None:
        self.name = name
        self._share, self._setting, self._config = share, setting, setting.config
        self._model, self._privacy = setting.model, setting.privacy

    @property
    def rows(self) -> int:
        """Number of training rows."""
        return len(self._share.train)

    @cached_property
    def _train_set(self) -> Any:
        return self._setting.pool.part(self._share.train.tolist())

    @cached_property
    def _heldout_set(self) -> Any:
        return self._setting.pool.part(self._share.heldout.tolist())

    @cached_property
    def _losses(self) -> StepLosses | None:
        folder, config = self._setting.steps, self._config
        most = points_of_a_part(config.num_clients * config.num_rounds)
        return StepLosses(folder / f"{self.name}.jsonl", most) if folder else None

    @cached_property
    def _spec(self) -> Spec:
        spec, config = self._model.backbone.slot.spec, self._config
        return spec if config.equal_ranks else spec_at_rank(spec, config.rank_of(self.name))

    def run_round(self, task: RoundTask, trains: bool) -> ClientUpdate:
        """Score the global adapter on the client's held-out rows and, if it ``trains``, train from it.

        After the last round (``task.train`` is false) a client with factors of its own saves its own adapter.
        """
        last = task.last_accepted_round.get(self.name, 0)
        kept = self._setting.states.load(self.name, last)
        if trains and last and self._setting.keeps and not kept:
            self._model.backbone.say(f"what {self.name} kept of round {last} is not there any more: it begins anew")
            # The server's mean still holds the c_k that is lost; the mean itself is the best guess of it.
            kept = under(CONTROL, self._model.control) if self._config.scaffold else kept
        start = self._model.put_for(self.name, part(kept, OWN))
        before, seconds = self._score()
        if not task.train:
            self._save_own_adapter(kept)
        if not trains:
            return ClientUpdate(client=self.name, round=task.round, before=before, seconds_eval=seconds)
        return self._train(task, start, kept, before, seconds)

    def noise_alone(self, task: RoundTask) -> ClientUpdate:
        """The update of a client that failed, with ``--dp local``: nobody can tell it from the others'."""
        start = self._model.put_for(self.name, {})
        payload, residual = self._pack(start, self._expected(start, task), {})
        self._keep(task, next_client_state({}, {}, {}, residual))
        return self._private_update(task, payload)

    def _score(self) -> tuple[Scores, float]:
        """Scores on the held-out rows, and the seconds that this took."""
        if self._privacy or self._heldout_set is None:
            # Of the client's data --dp local lets the noisy update out, and nothing else.
            return {}, 0.0
        start = time.monotonic()
        what, progress = f"scoring {self.name}", self._setting.progress
        progress(what, 0, len(self._heldout_set))
        scores = evaluate(self._model.backbone, self._heldout_set, self._config, progress, what)
        return scores, time.monotonic() - start

    def _train(
        self, task: RoundTask, start: AdapterState, kept: AdapterState, before: Scores, seconds: float
    ) -> ClientUpdate:
        if self._setting.masking:
            self._setting.masking.check_member(self.name)
        variates = self._control_variates(kept)
        result = self._fit(task, variates)
        after, seconds_after = self._score()
        sent, own = self._sent_and_own(result.adapter)
        if self._privacy:
            # Which tensors its data had use for would tell of them: noise goes on all.
            sent = self._expected(start, task) | sent
        payload, residual = (
            self._pack(start, sent, kept)
            if not self._setting.masking
            else (self._masked(self._setting.masking, start, sent, task), {})
        )
        control, own_control = self._pack_control(variates, kept) if variates else (b"", {})
        self._keep(task, next_client_state(kept, own, own_control, residual))
        if self._privacy:
            self._say_if_cut(task, result.steps)
            return self._private_update(task, payload)
        return ClientUpdate(
            client=self.name,
            round=task.round,
            adapter=payload,
            # Of a sum that only one client has a part in, it would tell whose it is.
            untrained=[] if self._setting.masking else sorted(self._expected(start, task).keys() - sent.keys()),
            num_samples=result.samples,
            steps=result.steps,
            train_loss=result.loss,
            train_losses=result.losses,
            before=before,
            after=after,
            seconds_train=result.seconds,
            seconds_eval=seconds + seconds_after,
            control=control,
        )

    def _control_variates(self, kept: AdapterState) -> ControlVariates | None:
        if not self._config.scaffold:
            return None
        return ControlVariates(self._model.backbone.slot.parameters, self._model.control, part(kept, CONTROL))

    def _fit(self, task: RoundTask, variates: ControlVariates | None) -> TrainResult:
        """Train on the client's rows; the backbone holds the result."""
        config, backbone = self._config, self._model.backbone
        hooks: list[GradientHook] = [variates] if variates else []
        if config.prox_mu:
            hooks.append(Proximal(backbone.slot.parameters, config.prox_mu))
        seed = derive(config.seed, "client", self.name, "round", task.round)
        span = (task.round - 1) / config.num_rounds, task.round / config.num_rounds
        with backbone.slot.training_only(task.factors):
            result = train_epochs(
                backbone, self._train_set, config, config.local_epochs, seed, self._show_progress, None, hooks, span,
                self._losses.add if self._losses else None, 60 * config.round_minutes,
            )  # fmt: skip
        if self._losses:
            self._losses.end(task.round)
        return result

    def _show_progress(self, done: int, total: int, loss: float) -> None:
        self._setting.progress(f"training {self.name}  loss {loss:.3f}", done, total)

    def _sent_and_own(self, adapter: AdapterState) -> tuple[AdapterState, AdapterState]:
        """The tensors that are sent and those that the client keeps to itself, at its rank."""
        trained = adapter if self._config.equal_ranks else at_rank(adapter, self._config.rank_of(self.name))
        sent = communicated_tensors(trained, self._setting.aggregator.communicated_factors)
        return (
            {name: t for name, t in trained.items() if name in sent},
            {name: t for name, t in trained.items() if name not in sent},
        )

    def _expected(self, start: AdapterState, task: RoundTask) -> AdapterState:
        """The tensors of ``start`` that the server expects of a client whose data have a use for all of them."""
        factors = self._setting.aggregator.communicated_factors & frozenset(task.factors)
        return {name: start[name] for name in communicated_tensors(start, factors)}

    def _pack(self, start: AdapterState, sent: AdapterState, kept: AdapterState) -> tuple[bytes, AdapterState]:
        """The update as bytes, and what rounding lost of it, with ``--dp local`` after clipping and noise."""
        if self._privacy:
            sent = private_update(start, sent, self._privacy.clip, self._privacy.std)
        deltas = self._setting.aggregator.supports_deltas
        residual = part(kept, RESIDUAL) if deltas else {}
        payload, lost = pack_update(start, sent, self._config.up, self._config.top_k, self._spec, residual)
        return payload, lost if deltas else {}

    def _masked(self, masking: Masking, start: AdapterState, sent: AdapterState, task: RoundTask) -> bytes:
        """The update as its part of the round's sum."""
        names = sorted(self._expected(start, task))
        moves = {name: sent[name].double() - start[name].double() for name in names if name in sent}
        return masking.payload(self.name, moves, names, self._spec)

    def _pack_control(self, variates: ControlVariates, kept: AdapterState) -> tuple[bytes, AdapterState]:
        """The change of SCAFFOLD's c_k as bytes, and the new c_k as the server, after rounding, knows it."""
        spec, old = self._model.backbone.slot.spec, part(kept, CONTROL)
        change = {name: t - old[name] if name in old else t for name, t in variates.mean_gradient().items()}
        payload = pack(change, self._config.up, spec)
        sent = unpack(payload, spec)
        return payload, {name: old[name] + t if name in old else t for name, t in sent.items()}

    def _private_update(self, task: RoundTask, payload: bytes) -> ClientUpdate:
        """An update that tells nothing of the client's data beyond their number, which the server knows already.

        Of the steps, those that were planned: how many fit into ``--round_minutes`` follows from the data, too.
        """
        return ClientUpdate(
            client=self.name,
            round=task.round,
            adapter=payload,
            num_samples=self.rows,
            steps=steps_of(self._config, self.rows),
        )

    def _say_if_cut(self, task: RoundTask, steps: int) -> None:
        """To this host's user: the server is not told."""
        planned = steps_of(self._config, self.rows)
        if steps < planned:
            self._model.backbone.say(f"round {task.round}: {cut_text(self.name, steps, planned)}")

    def _keep(self, task: RoundTask, state: AdapterState) -> None:
        self._setting.states.save(self.name, task.round, state, task.last_accepted_round.get(self.name, 0))

    def _save_own_adapter(self, kept: AdapterState) -> None:
        """A client with factors of its own has an adapter of its own, which stays here."""
        if part(kept, OWN):
            backbone, folder = self._model.backbone, self._setting.states.folder / self.name / "adapter"
            plugins = backend_plugins(self._config)
            card = own_card(with_model_name(self._config), self.name, plugins)
            save_folder(folder, backbone.adapter(), backbone.adapter_config(), card, Origin.of(self._config, plugins))
