"""Client side: give FLARE's tasks to the host object of this process."""

from __future__ import annotations

import json
import os
import time
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
from fedumm.federation.flare.watch import PROGRESS, leave_with_launcher
from fedumm.federation.messages import HostError
from fedumm.report.run_folder import write_atomically

_PROGRESS_EVERY = 0.5


class _AbortedError(Exception):
    """FLARE asked this process to stop what it is doing."""


class HostExecutor(Executor):  # type: ignore[misc]
    """Keeps one :class:`fedumm.federation.host.Host`, with its backbone, for the whole job.

    Args:
        run_config: the run's options.
        run_dir: the simulated run's folder, for the files that show progress; empty on a real site.
        num_hosts: how many hosts share this machine; 0 on a real site.
    """

    def __init__(self, run_config: dict[str, Any], run_dir: str = "", num_hosts: int = 0) -> None:
        super().__init__()
        self.run_config = run_config
        self.run_dir = run_dir
        self.num_hosts = num_hosts
        self._host: Any = None
        self._abort = Signal()
        self._last_shown = 0.0

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one message."""
        if task_name != TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        self._abort = abort_signal
        try:
            host = self._host = self._host or self._make_host(fl_ctx.get_identity_name())
            return pack(host.handle(unpack(shareable)))
        except Exception as error:
            # FLARE would pass on no more than that there was one.
            told = str(error) if isinstance(error, FedummError) else f"{type(error).__name__}: {error}"
            return pack(HostError(told))

    def _make_host(self, name: str) -> Any:
        from fedumm.backends import load_backend_file
        from fedumm.federation.host import Host

        leave_with_launcher()
        config = FederateConfig(**self.run_config)
        if config.backend_file:
            load_backend_file(config.backend_file)
        self._progress_file = Path(self.run_dir) / PROGRESS / f"{name}.json" if self.run_dir else None
        index = int(name.rsplit("-", 1)[-1]) - 1 if self.num_hosts else 0
        return Host(name, config, self._progress, index, max(1, self.num_hosts))

    def _progress(self, text: str, done: int, total: int) -> None:
        if self._abort.triggered:
            raise _AbortedError
        if not self._progress_file or time.monotonic() - self._last_shown < _PROGRESS_EVERY:
            return
        self._last_shown = time.monotonic()
        self._progress_file.parent.mkdir(exist_ok=True)
        content = {"text": text, "done": done, "total": total, "pid": os.getpid()}
        write_atomically(self._progress_file, json.dumps(content))
