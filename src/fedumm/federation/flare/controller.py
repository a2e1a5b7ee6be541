"""Server side: broadcast what the server object says, hand it the answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.controller_spec import ClientTask, Task
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.flare.carrier import TASK, pack, unpack
from fedumm.federation.flare.watch import ERROR, leave_with_launcher
from fedumm.federation.messages import HostError, Message
from fedumm.federation.topology import assign, natural
from fedumm.report.run_folder import RunFolder, create, write_atomically

_POLL = 0.05


class JobAbortedError(Exception):
    """FLARE ended the job: on an administrator's word, or because a host was lost."""


class ServerController(Controller):  # type: ignore[misc]
    """Drives :class:`fedumm.federation.server.Server`. It never loads a model.

    Args:
        run_config: the run's options.
        run_dir: an existing run folder; empty (an exported job): ``fedumm`` in the job's own folder.
        num_hosts: simulated hosts, named ``host-1`` ...; 0: every connected FLARE site is a client.
    """

    # Arguments are stored under their own names: FLARE's job export reads them back from there.
    def __init__(self, run_config: dict[str, Any], run_dir: str = "", num_hosts: int = 0) -> None:
        super().__init__(task_check_period=_POLL)
        self.run_config = run_config
        self.run_dir = run_dir
        self.num_hosts = num_hosts
        self._answers: dict[str, Message] = {}

    def set_communicator(self, communicator: Any) -> None:
        """FLARE 2.9 sets ``task_check_period``, but its communicator reads ``_task_check_period``."""
        super().set_communicator(communicator)
        if hasattr(communicator, "_task_check_period"):
            communicator._task_check_period = _POLL

    def start_controller(self, fl_ctx: FLContext) -> None:
        """End with the process that started the simulator, however that ended."""
        leave_with_launcher()

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing is held."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """The whole run."""
        # Not above: the process that only builds the job has no use for torch.
        from fedumm.federation.drive import drive
        from fedumm.federation.server import Server

        config = FederateConfig(**self.run_config)
        path = Path(self.run_dir) if self.run_dir else self._own_folder(config, fl_ctx)
        folder = RunFolder(path, config)
        try:
            server = Server(config, self._assignments(config, fl_ctx), folder, balance=bool(self.num_hosts))
            drive(server, lambda message: self._send(message, list(server.assignments), abort_signal, fl_ctx))
        except JobAbortedError:
            self.log_info(fl_ctx, "the job was aborted")
        except FedummError as error:
            write_atomically(path / ERROR, str(error))
            self.system_panic(str(error), fl_ctx)
        finally:
            folder.finish()

    def _own_folder(self, config: FederateConfig, fl_ctx: FLContext) -> Path:
        workspace = fl_ctx.get_engine().get_workspace()
        path = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / "fedumm"
        # No file that a job names is opened, not even to know its digest.
        create(path, replace(config, backend_file=""), "nvflare job submit")
        return path

    def _assignments(self, config: FederateConfig, fl_ctx: FLContext) -> dict[str, list[str]]:
        if self.num_hosts:
            return assign(config.num_clients, self.num_hosts)
        sites = sorted((client.name for client in fl_ctx.get_engine().get_clients()), key=natural)
        if len(sites) != config.num_clients:
            raise FedummError(
                f"The job was exported for --num_clients {config.num_clients}, but {len(sites)} sites take part: "
                f"{', '.join(sites)}."
            )
        return {site: [site] for site in sites}

    def _send(self, message: Message, hosts: list[str], abort_signal: Signal, fl_ctx: FLContext) -> dict[str, Message]:
        self._answers = {}
        task = Task(name=TASK, data=pack(message), result_received_cb=self._received)
        self.broadcast_and_wait(task, fl_ctx, targets=hosts, min_responses=len(hosts), abort_signal=abort_signal)
        if abort_signal.triggered:
            raise JobAbortedError
        lost = HostError("no answer: the process died or the connection was lost")
        return {host: self._answers.get(host, lost) for host in hosts}

    def _received(self, client_task: ClientTask, fl_ctx: FLContext) -> None:
        result, host = client_task.result, client_task.client.name
        code = result.get_return_code()
        try:
            answer = unpack(result) if code == ReturnCode.OK else HostError(f"NVIDIA FLARE reports {code}")
        except Exception as error:
            # FLARE would give up the task for everybody.
            answer = HostError(f"{type(error).__name__}: {error}")
        self._answers[host] = answer
        client_task.result = None

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A late answer to a finished task is dropped."""
