"""Client side: give FLARE's tasks to a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.flare.carrier import TASK, pack, unpack
from fedumm.federation.messages import HostError
from fedumm.report.run_folder import CLIENTS


class _AbortedError(Exception):
    """FLARE asked this process to stop what it is doing."""


class HostExecutor(Executor):  # type: ignore[misc]
    """Keeps one host, with its backbone, for the whole job.

    On a real site that is a :class:`fedumm.federation.host.Host` in this process; in a simulation it
    runs beside FLARE (:mod:`fedumm.federation.flare.host_process`), and this process needs no torch.

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
        from fedumm.federation.host import Host

        workspace = fl_ctx.get_engine().get_workspace()
        folder = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / "fedumm" / CLIENTS
        return Host(name, FederateConfig(**self.run_config), self._progress, folder)

    def _progress(self, text: str, done: int, total: int) -> None:
        if self._abort.triggered:
            raise _AbortedError
