"""FLARE's launcher of job processes for a site, which starts one that was killed again.

A site's administrator names it in ``local/resources.json`` (``fedumm check-site KIT --write_launcher``). It is no class
of a job: ``class_allow_list`` does not hold it, and need not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobHandleSpec, JobReturnCode
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher

RESTARTS = 5
"""Of one job; a process that dies more often does so for a reason that stays."""


class RestartingJobLauncher(ClientProcessJobLauncher):  # type: ignore[misc]
    """Starts the process of a job again when a signal ended it, out of memory for instance.

    FLARE hands the new process the task that the old one had. One that ended by itself, whatever it said, or that FLARE
    wants to end, stays ended.

    Args:
        restarts: at most, of one job.
    """

    def __init__(self, restarts: int = RESTARTS) -> None:
        super().__init__()
        self.restarts = restarts

    def launch_job(self, job_meta: dict[str, Any], fl_ctx: FLContext) -> JobHandleSpec:
        """Start it, and watch it."""

        def start() -> Any:
            return super(RestartingJobLauncher, self).launch_job(job_meta, fl_ctx)

        return RestartingHandle(start, self.restarts, self.logger.warning)


class RestartingHandle(JobHandleSpec):  # type: ignore[misc]
    """One process after the other, as one.

    Args:
        start: starts one; its handle has FLARE's ``adapter`` of a process.
        restarts: at most.
        say: is told of each.
    """

    def __init__(self, start: Callable[[], Any], restarts: int, say: Callable[[str], object]) -> None:
        super().__init__()
        self._start, self._left, self._say = start, restarts, say
        self._lock = threading.Lock()
        self._wanted, self._over = True, False
        self._current = start()

    def terminate(self) -> None:
        """End it for good."""
        with self._lock:
            self._wanted = False
            self._current.terminate()

    def poll(self) -> Any:
        """FLARE's code of the last process, once there will be no other."""
        return self._current.poll() if self._over else JobReturnCode.UNKNOWN

    def wait(self) -> None:
        """Until it has ended for good."""
        try:
            while True:
                self._current.wait()
                if not self._started_again(self._current.adapter.poll()):
                    return
        finally:
            self._over = True

    def _started_again(self, code: int | None) -> bool:
        with self._lock:
            # Python and FLARE tell of a signal by a negative number.
            if not self._wanted or code is None or code >= 0 or not self._left:
                return False
            self._left -= 1
            self._say(f"the process of this job was ended by signal {-code}, and is started again ({self._left} left)")
            self._current = self._start()
            return True
