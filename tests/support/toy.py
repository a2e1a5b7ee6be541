"""Quick federated runs of the backends in ``toy_backend.py`` and ``lora_toy_backend.py``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message, RoundReply, RoundTask
from fedumm.federation.runners.asking import Ask, FollowUp
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import RunFolder
from fedumm.run_options import from_mapping

TOY = Path(__file__).parent / "toy_backend.py"
LORA_TOY = Path(__file__).parent / "lora_toy_backend.py"
Run = Callable[..., tuple[Path, list[dict[str, Any]]]]


def toy_config(**options: Any) -> FederateConfig:
    """A run of the toy backend: 3 clients with 160 questions between them, 2 rounds."""
    defaults: dict[str, Any] = {
        "model_backend": "toy",
        "plugin": str(TOY),
        "num_clients": 3,
        "num_rounds": 2,
        "max_train_samples": 160,
        "max_eval_samples": 40,
        "batch_size": 4,
        "grad_accum": 2,
        "lr": 1e-2,
        "dirichlet_alpha": 0.5,
        "in_process": True,
        "threads": 1,
        "report_samples": "off",
    }
    return from_mapping(FederateConfig, {**defaults, **options})


def lora_options(**options: Any) -> dict[str, Any]:
    """Options for :func:`toy_config` of a run of the toy backend with LoRA: fewer questions, rank 4, alpha 6."""
    defaults: dict[str, Any] = {
        "model_backend": "lora_toy",
        "plugin": str(LORA_TOY),
        "max_train_samples": 72,
        "max_eval_samples": 12,
        "lora_r": 4,
        "lora_alpha": 6,
    }
    return {**defaults, **options}


class PlainFolder(RunFolder):
    """Without figures and TensorBoard's files, which take longer than a quick run."""

    def _draw_partition(self, labels: Any) -> None: ...

    def _write_events(self, record: Any) -> None: ...


def together(send: Callable[[Message], dict[str, Message]]) -> Ask:
    """Asks hosts, of which none ever misses anything, all at once."""

    def ask(messages: Mapping[str, Message], follow_up: FollowUp) -> dict[str, Message]:
        (message,) = {id(message): message for message in messages.values()}.values()
        answers = send(message)
        assert not any(follow_up(name, answer) for name, answer in answers.items())
        return answers

    return ask


class Driven:
    """A run whose every message was kept.

    Attributes:
        hosts: by name, as the last round left them.
        rounds: each round's task, and all hosts' updates in it by client.
    """

    def __init__(self, folder: Path, assignments: Mapping[str, Sequence[str]], config: FederateConfig) -> None:
        self.folder, self.config = folder, config
        load_plugins(config.plugins, again=True)
        folder.mkdir()
        self.hosts = {
            name: Host(name, config, lambda *_: None, folder / "clients", i, len(assignments), simulated=True)
            for i, name in enumerate(assignments)
        }
        self.rounds: list[tuple[RoundTask, dict[str, Any]]] = []
        self.server = Server(config, assignments, folder / "state", [PlainFolder(folder, config)])
        drive(self.server, together(self._send))

    def _send(self, message: Message) -> dict[str, Message]:
        answers = {name: host.handle(message) for name, host in self.hosts.items()}
        if isinstance(message, RoundTask):
            replies = [a for a in answers.values() if isinstance(a, RoundReply)]
            self.rounds.append((message, {u.client: u for reply in replies for u in reply.updates}))
        return answers
