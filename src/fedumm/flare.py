"""The two classes that NVIDIA FLARE builds by name: all that ``class_allow_list`` of a server or a site has to admit.

Sites have these names in their configuration: they do not move. A job chooses their arguments, so the constructors
take nothing but options (:mod:`fedumm.federation.runners.flare.job_options`), and where a simulated run lies is told
by its launcher. Nothing else is defined here: an entry of that list that is cut short would admit it.
"""

from __future__ import annotations

import contextlib
import os
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.job_def import JobMetaKey
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal

from fedumm import errors, files
from fedumm.federation import assignment
from fedumm.federation.client import redaction
from fedumm.federation.protocol import messages
from fedumm.federation.runners.flare import (
    admission,
    job_options,
    kept_run,
    outgoing_log,
    process_guard,
    shareables,
    site_host,
    sites,
    telling,
    waiting,
)
from fedumm.report import run_folder

__all__ = ["HostExecutor", "ServerController"]

_POLL = 0.05


class HostExecutor(Executor):  # type: ignore[misc]
    """Gives FLARE's tasks to one host, which it keeps, with its backbone, for the whole job.

    On a real site the host runs in a child of this process (``runners.flare.site_host``), in a simulation beside FLARE
    (``runners.flare.host_process``): this process needs no torch.

    Args:
        run_config: the options of the job, which are held against the site's policy when there is one to read: before
            the first answer. A simulated run has its own in its folder.
        resumes: number of the first job of the run that this one resumes.
    """

    # Arguments are stored under their own names: FLARE's job export reads them back from there.
    def __init__(self, run_config: dict[str, Any], resumes: str = "") -> None:
        super().__init__()
        self.run_config, self.resumes = run_config, resumes
        self._simulated = process_guard.simulated_run() is not None
        self._host: Any = None
        self._abort = Signal()
        self._left: outgoing_log.OutgoingLog | None = None
        self._keeps = Path()
        self._lock: Any = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Answer one message."""
        if task_name != shareables.TASK:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        self._abort = abort_signal
        message: messages.Message | None = None
        try:
            if self._host is None:
                self._host = self._make_host(fl_ctx)
            message = shareables.unpack(shareable)
            answer = self._host.handle(message)
        except Exception as error:
            # FLARE would pass on no more than that there was one.
            answer = self._failure(error, fl_ctx)
        return shareables.pack(answer if self._simulated else self._on_record(message, answer, fl_ctx))

    def _on_record(
        self, message: messages.Message | None, answer: messages.Message, fl_ctx: FLContext
    ) -> messages.Message:
        """``answer``, once the site's own log has its line."""
        try:
            if self._left is None:
                meta = fl_ctx.get_prop(FLContextKey.JOB_META) or {}
                path = shareables.root_of(fl_ctx) / outgoing_log.FILE
                submitter = str(meta.get(JobMetaKey.SUBMITTER_NAME, ""))
                self._left = outgoing_log.OutgoingLog(path, str(fl_ctx.get_job_id()), submitter)
            self._left.add(message, answer)
            return answer
        except OSError:
            with contextlib.suppress(OSError):  # the disk may be full
                site_host.write_log(self._folder(fl_ctx), traceback.format_exc())
            return messages.HostError(outgoing_log.FULL)

    def _make_host(self, fl_ctx: FLContext) -> Any:
        name = fl_ctx.get_identity_name()
        if self._simulated:
            from fedumm.federation.runners.flare.host_process import RemoteHost

            process_guard.leave_with_launcher()
            return RemoteHost(name)
        kit = fl_ctx.get_engine().get_workspace()
        config = admission.site_config(self.run_config, kit.get_site_config_dir())
        if self._lock is None:
            job = str(fl_ctx.get_job_id())
            kept = kept_run.kept_at_site(shareables.root_of(fl_ctx), job, self.resumes, self.run_config)
            self._keeps, self._lock = kept
            # FLARE's process of a site that is ended does not always end those of its jobs: they would train on.
            process_guard.leave_with(os.getppid())
        startup = Path(kit.get_startup_kit_dir())
        return site_host.SiteHost(name, config, self._keeps, startup, lambda: self._abort.triggered)

    def _failure(self, error: Exception, fl_ctx: FLContext) -> messages.HostError:
        if self._simulated:
            return redaction.whole(error)
        # Not into FLARE's log, which a site may send to the server; on a full disk nowhere.
        with contextlib.suppress(OSError):
            site_host.write_log(self._folder(fl_ctx), traceback.format_exc())
        return messages.HostError(redaction.told(error, "process"))

    def _folder(self, fl_ctx: FLContext) -> Path:
        """Beside the folders of FLARE's jobs: what is in those, a job may have sent to the server as a log."""
        return shareables.root_of(fl_ctx) / kept_run.PLACE / kept_run.run_of(str(fl_ctx.get_job_id()), "")

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """End the child with the job."""
        if event_type == EventType.END_RUN and isinstance(self._host, site_host.SiteHost):
            self._host.close()


class ServerController(Controller):  # type: ignore[misc]
    """Broadcasts what :class:`~fedumm.federation.server.server.Server` asks, and hands it the answers; loads no model.

    Args:
        run_config: the options of the job; a simulated run has its own in its folder.
        resumes: number of the first job of the run that this one resumes.

    Raises:
        FedummError: a job may not ask for this.
    """

    def __init__(self, run_config: dict[str, Any], resumes: str = "") -> None:
        super().__init__(task_check_period=_POLL)
        self.run_config, self.resumes = run_config, resumes
        self._run = process_guard.simulated_run()
        self._config = process_guard.simulated_config() if self._run else job_options.config_of_job(run_config)
        self._gone: dict[str, float] = {}
        self._telling = telling.Telling(self.logger.info)

    def set_communicator(self, communicator: Any) -> None:
        """FLARE 2.9 sets ``task_check_period``, but its communicator reads ``_task_check_period``."""
        super().set_communicator(communicator)
        if hasattr(communicator, "_task_check_period"):
            communicator._task_check_period = _POLL

    def start_controller(self, fl_ctx: FLContext) -> None:
        """End with the process that started it, however that ended; answer the administrator's questions."""
        process_guard.leave_with_launcher()
        if not self._run:
            fl_ctx.get_engine().register_app_command(telling.TOPIC, self._telling.answer)

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is held."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """The whole run."""
        # Not above: the process that only builds the job has no use for torch.
        from fedumm.federation.runners.round_loop import drive
        from fedumm.federation.server.server import Server

        try:
            with contextlib.ExitStack() as stack:
                path, mirror = self._run, []
                if path is None:
                    path = stack.enter_context(self._own_folder(fl_ctx))
                    mirror = [kept_run.Mirror(path, self._archived(fl_ctx))]
                    stack.callback(mirror[0].update)
                folder = run_folder.RunFolder(path, self._config)
                stack.callback(folder.finish)
                self._telling.begin(path)
                hosts, balance = self._assignments(fl_ctx), bool(self._run)
                server = Server(self._config, hosts, folder.state, [folder, self._telling, *mirror], balance=balance)
                drive(server, lambda messages, follow_up: self._ask(messages, follow_up, abort_signal, fl_ctx))
        except shareables.JobAbortedError:
            self.log_info(fl_ctx, "the job was aborted")
        except errors.FedummError as error:
            place = self._run or self._archived(fl_ctx)
            with contextlib.suppress(OSError):  # the disk may be full
                place.mkdir(parents=True, exist_ok=True)
                files.write_atomically(place / process_guard.ERROR, str(error))
            self.system_panic(str(error), fl_ctx)

    def _own_folder(self, fl_ctx: FLContext) -> contextlib.AbstractContextManager[Path]:
        return kept_run.kept_at_server(shareables.root_of(fl_ctx), str(fl_ctx.get_job_id()), self.resumes, self._config)

    def _archived(self, fl_ctx: FLContext) -> Path:
        """The part of the job's folder that its result is fetched from."""
        workspace = fl_ctx.get_engine().get_workspace()
        return Path(workspace.get_run_dir(fl_ctx.get_job_id())) / kept_run.PLACE

    def _assignments(self, fl_ctx: FLContext) -> dict[str, list[str]]:
        config = self._config
        if self._run:
            return assignment.layout(config)
        connected = [client.name for client in fl_ctx.get_engine().get_clients()]
        return {site: [site] for site in sites.present(connected, config)}

    def _ask(
        self,
        messages_by_host: Mapping[str, messages.Message],
        follow_up: Callable[[str, messages.Message], messages.Message | None],
        abort_signal: Signal,
        fl_ctx: FLContext,
    ) -> dict[str, messages.Message]:
        """See ``fedumm.federation.runners.asking.Ask``."""
        inbox: SimpleQueue[tuple[str, messages.Message]] = SimpleQueue()
        setup = messages.DataStatsRequest | messages.InitRequest
        rounds = not any(isinstance(message, setup) for message in messages_by_host.values())
        limit = self._config.round_timeout if rounds else 0.0
        wait = waiting.Waiting(messages_by_host, limit, self._config.min_clients, gone=self._gone)
        self._telling.waiting = wait.now
        tasks = [self._post(message, hosts, inbox, fl_ctx) for message, hosts in sites.alike(messages_by_host)]
        try:
            while wait.open:
                with contextlib.suppress(Empty):
                    host, answer = inbox.get(timeout=_POLL)
                    if host not in wait.open:
                        continue
                    if (more := follow_up(host, answer)) is None:
                        wait.answered(host, answer)
                    else:
                        tasks.append(self._post(more, [host], inbox, fl_ctx))
                if abort_signal.triggered:
                    raise shareables.JobAbortedError
                # A simulation's processes are watched by their launcher.
                for host, reason in (wait.why_over() if not self._run else {}).items():
                    wait.answered(host, messages.HostError(reason))
                if line := wait.word():
                    self.log_info(fl_ctx, line)
        finally:
            for task in tasks:
                if task.completion_status is None:
                    self.cancel_task(task, fl_ctx=fl_ctx)
        return wait.answers

    def _post(self, message: messages.Message, hosts: list[str], inbox: SimpleQueue[Any], fl_ctx: FLContext) -> Task:
        """Give a message to hosts; their answers come into ``inbox``."""

        def received(client_task: ClientTask, fl_ctx: FLContext) -> None:
            inbox.put((client_task.client.name, shareables.answer_of(client_task.result)))
            client_task.result = None

        task = Task(name=shareables.TASK, data=shareables.pack(message), result_received_cb=received)
        self.broadcast(task, fl_ctx, targets=hosts, min_responses=len(hosts))
        return task

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Give ``nvflare job monitor`` its numbers, and keep in mind whose connection is lost."""
        self._telling.handle_event(event_type, fl_ctx)
        if event_type == EventType.CLIENT_DISCONNECTED:
            self._gone.setdefault(fl_ctx.get_prop(FLContextKey.DISCONNECTED_CLIENT_NAME), time.monotonic())
        elif event_type == EventType.CLIENT_RECONNECTED:
            self._gone.pop(fl_ctx.get_prop(FLContextKey.RECONNECTED_CLIENT_NAME), None)

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A late answer to a finished task is dropped."""
