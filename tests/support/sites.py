"""Hosts of real sites, each with a process's memory of its own, in one process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fedumm.config import FederateConfig
from fedumm.federation.client.host import Host
from fedumm.federation.protocol.messages import Message
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.runners.flare.site_identity import read_identity
from fedumm.federation.runners.in_process import ask_in_turn
from fedumm.federation.runners.round_loop import drive
from fedumm.federation.server.server import Server
from fedumm.plugins import load_plugins
from fedumm.report.run_folder import read_records
from support.certificates import write_startup
from support.toy import PlainFolder, lora_options, toy_config

SITES = ("site-1", "site-2")
ROUNDS = 4


class Sites:
    """Sites' hosts, each of which can be made anew, and a run of theirs.

    Args:
        names: of the sites.
        before: called with the site, the message and this; what it gives takes the place of the host's answer.
    """

    def __init__(
        self,
        folder: Path,
        before: Callable[[str, Message, Sites], Message | None] | None = None,
        names: Sequence[str] = SITES,
        **options: Any,
    ) -> None:
        own = {"num_clients": len(names), "num_rounds": ROUNDS, "in_process": False, "lr": 0.05}
        self.config: FederateConfig = toy_config(**lora_options(**{**own, **options}))
        load_plugins(self.config.plugins)
        folder.mkdir(exist_ok=True)
        self.folder, self.before, self.asked = folder, before, list[tuple[str, Message]]()
        self.hosts = {site: self.new(site) for site in names}
        self.server = Server(
            self.config, {site: [site] for site in names}, folder / "state", [PlainFolder(folder, self.config)]
        )

    def new(self, site: str) -> Host:
        own = None
        if self.config.secure_aggregation:
            own = read_identity(write_startup(self.folder / "kits" / site, site), site, self.folder.name)
        return Host(site, self.config, lambda *_: None, self.folder / "kept" / site, identity=own)

    def run(self) -> Sites:
        drive(self.server, partial(ask_in_turn, self.handle))
        return self

    def handle(self, site: str, message: Message) -> Message:
        self.asked.append((site, message))
        instead = self.before(site, message, self) if self.before else None
        return instead or from_wire(to_wire(self.hosts[site].handle(message)))

    def records(self, event: str) -> list[dict[str, Any]]:
        return [r for r in read_records(self.folder) if r["event"] == event]

    def weights(self) -> list[bytes]:
        return [(self.folder / "adapter" / w / "adapter_model.safetensors").read_bytes() for w in ("best", "last")]
