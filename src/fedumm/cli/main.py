"""``fedumm <command>``: one file per command, imported when it is asked for."""

from __future__ import annotations

import contextlib
import errno
import importlib
import io
import os
import select
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

from fedumm.errors import FedummError, did_you_mean
from fedumm.libraries import likely_cause, newer_than_tested
from fedumm.stopping import exit_status, like_ctrl_c
from fedumm.texts import plain_lines

COMMANDS = {
    "federate": "Federated fine-tuning (the same as python job.py)",
    "poc": "The same on a real server and real sites, all on this machine, over TLS",
    "kit": "Narrow a startup kit of NVIDIA FLARE to what fedumm's jobs need",
    "submit": "Hand in a job to the server of a federation, and watch it",
    "watch": "Show a job of a federation as it runs, then fetch its result",
    "train": "Centralised baseline (the same as python src/local_train.py)",
    "sweep": "A study: a grid of runs beside its baselines, tables and figures",
    "slurm": "Write a batch script for one federated run on a cluster; it resumes when it is queued again",
    "download": "Fetch a run's model and data from the Hugging Face Hub, for machines without a connection",
    "check": "Look at a data set as a run would: columns, bad rows, images, answers that can't be said",
    "partition": "Show how a data set would be split among clients, without training",
    "runs": "List runs: state, best score, age, size",
    "report": "Show a run as one HTML file: scores, curves, clients, costs, example answers",
    "compare": "Compare runs: settings that differ, results side by side, a paired test over seeds",
    "new": "Start a backend, aggregator, partitioner or source of your own: a commented file and its test",
    "evaluate": "Score any adapter, or none, on any data: intervals, tables by type, every prediction",
    "ask": "Ask a question about an image, with an adapter",
    "draw": "Draw images from captions, with an adapter",
    "play": "A local page: pictures and questions, answers before and after the training side by side",
    "cache": "List, verify or remove the stored features of images",
    "export": "Hand on an adapter: as a folder, merged into its model, or on the Hugging Face Hub",
    "doctor": "Look at this machine: would a run work, and if not, what is to be done?",
    "check-site": "Look at a site before it joins: its kit, its policy, its data, and what would leave it",
    "site-log": "Show what has left a site, from the log that the site keeps",
    "completion": "Print a script for bash, zsh or tcsh that completes commands and options",
    "schema": "Print the JSON schema of config.yaml, for editors",
    "geneval": "Draw many captions and judge the images by GenEval's rule",
}


def usage() -> str:
    """The list of commands."""
    rows = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return f"usage: fedumm <command> [options]\n\n{rows}\n\n'fedumm <command> --help' lists the options of one."


def run(command: str, argv: Sequence[str], prog: str) -> int:
    """Run one command; a :class:`FedummError` becomes one message and status 2."""
    return _guarded(prog, lambda: _command(command, list(argv), prog))


def _command(command: str, argv: list[str], prog: str) -> int:
    for text in argv:
        # Python keeps bytes that are no UTF-8 as characters that no file or screen takes.
        if not _encodable(text):
            raise FedummError(f"The argument {text!a} is not valid UTF-8. Rename the file, or choose another name.")
    if newer := newer_than_tested():
        print(f"{prog}: {newer}", file=sys.stderr)
    with like_ctrl_c():
        from fedumm.cli.plugins import load_named_plugins

        load_named_plugins(argv, prog)
        return int(module_of(command).main(argv, prog) or 0)


def module_of(command: str) -> Any:
    """That of a command, imported."""
    return importlib.import_module(f"fedumm.cli.{command.replace('-', '_')}")


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _guarded(prog: str, work: Callable[[], int]) -> int:
    """The status of ``work``, once all that it printed is written: what can't be is no traceback at the very end."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What a screen has no character for is shown by its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = _status(prog, work)
        print(end="", flush=True)
        return status
    except BrokenPipeError as error:
        if not any(map(_reader_gone, (sys.stdout, sys.stderr))):
            return _unexpected(prog, error)
        # head, less: nothing is left to say to it. The status is that of a program that SIGPIPE ended.
        _drop(sys.stdout, sys.stderr)
        return 128 + signal.SIGPIPE
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return _unexpected(prog, error)
        _drop(sys.stdout)
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        return _unexpected(prog, error)


def _unexpected(prog: str, error: Exception) -> int:
    """A fault of the program or of a library: its traceback, and what may be behind it."""
    traceback.print_exception(error)
    print(f"{prog}: unexpected {type(error).__name__}, see above.{likely_cause()}", file=sys.stderr)
    return 1


def _status(prog: str, work: Callable[[], int]) -> int:
    try:
        return work()
    except FedummError as error:
        # Of its lines; what a file or another party put into them acts on no screen.
        print(f"{prog}: {plain_lines(error)}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name is None or "." in error.name or error.name == "fedumm":
            raise  # a part of a library, or of ours
        print(f"{prog}: {error}. Install what it needs with: {_install_command()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{prog}: stopped.", file=sys.stderr)
        return exit_status(stop)
    except SystemExit as done:
        if not isinstance(done.code, int | None):
            raise
        return done.code or 0


def _reader_gone(stream: TextIO) -> bool:
    """Whether ``stream`` is a pipe that nobody reads any more."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (AttributeError, OSError, ValueError):  # closed, or none
        return False
    return bool(poll.poll(0))


def _drop(*streams: TextIO) -> None:
    """Python would try once more to write what is left, when it ends."""
    for stream in streams:
        with contextlib.suppress(AttributeError, OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _install_command() -> str:
    """For this interpreter, from any folder."""
    checkout = Path(__file__).parents[3]
    what = ["-e", str(checkout)] if (checkout / "pyproject.toml").is_file() else ["fedumm"]
    return shlex.join([sys.executable, "-m", "pip", "install", *what])


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command ``fedumm``."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] in COMMANDS:
        return run(args[0], args[1:], f"fedumm {args[0]}")
    return _guarded("fedumm", lambda: _without_command(args))


def _without_command(args: list[str]) -> int:
    if not args or args[0] in {"-h", "--help"}:
        print(usage())
        return 0
    if args[0] in {"--version", "-V"}:
        from fedumm import __version__

        print(f"fedumm {__version__}")
        return 0
    print(f"fedumm: unknown command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}\n\n{usage()}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
