"""Client side: give FLARE's tasks to a host."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fedumm.errors import FedummError
from fedumm.federation.admission import site_config
from fedumm.federation.flare.carrier import TASK, pack, unpack
from fedumm.federation.flare.site_host import SiteHost
from fedumm.federation.messages import HostError


class HostExecutor(Executor):  # type: ignore[misc]
    """Keeps one host, with its backbone, for the whole job.

    On a real site that runs in a child of this process (:mod:`fedumm.federation.flare.site_host`), in a simulation
    beside FLARE (:mod:`fedumm.federation.flare.host_process`): this process needs no torch.

    Args:
        run_config: the run's options.
        num_hosts: how many hosts share this machine; 0 on a real site.
    """

    def __init__(self, run_config: dict[str, Any], num_hosts: int = 0) -> None:
        super().__init__()
        self.run_config = run_config
        self.num_hosts = num_hosts
        self._host: Any = None
        self._abort = Signal()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one message."""
        if task_name != TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        self._abort = abort_signal
        try:
            host = self._host = self._host or self._make_host(fl_ctx.get_identity_name(), fl_ctx)
            return pack(host.handle(unpack(shareable)))
        except Exception as error:
            # FLARE would pass on no more than that there was one.
            told = str(error) if isinstance(error, FedummError) else f"{type(error).__name__}: {error}"
            return pack(HostError(told))

    def _make_host(self, name: str, fl_ctx: FLContext) -> Any:
        if self.num_hosts:
            from fedumm.federation.flare.host_process import RemoteHost
            from fedumm.federation.flare.watch import leave_with_launcher

            leave_with_launcher()
            return RemoteHost(name)
        workspace = fl_ctx.get_engine().get_workspace()
        folder = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / "fedumm"
        config = site_config(self.run_config, workspace.get_site_config_dir())
        return SiteHost(name, asdict(config), folder, lambda: self._abort.triggered)

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """End the child with the job."""
        if event_type == EventType.END_RUN and isinstance(self._host, SiteHost):
            self._host.close()
