"""``fedumm <command>``: one file per command, imported when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Sequence

from fedumm.errors import FedummError, did_you_mean
from fedumm.libraries import likely_cause, newer_than_tested
from fedumm.stopping import exit_status, like_ctrl_c

COMMANDS = {
    "federate": "Federated fine-tuning (the same as python job.py)",
    "train": "Centralised baseline (the same as python src/local_train.py)",
    "partition": "Show how a data set would be split among clients, without training",
    "ask": "Ask a question about an image, with an adapter",
    "draw": "Draw images of captions, with an adapter",
    "geneval": "Draw many captions and judge the images by GenEval's rule",
}


def usage() -> str:
    """The list of commands."""
    rows = "\n".join(f"  {name:<11}{text}" for name, text in COMMANDS.items())
    return f"usage: fedumm <command> [options]\n\n{rows}\n\n'fedumm <command> --help' lists the options of one."


def run(command: str, argv: Sequence[str], prog: str) -> int:
    """Run one command; a :class:`FedummError` becomes one message and status 2."""
    if newer := newer_than_tested():
        print(f"{prog}: {newer}", file=sys.stderr)
    try:
        with like_ctrl_c():
            module = importlib.import_module(f"fedumm.cli.{command}")
            return int(module.main(list(argv), prog) or 0)
    except FedummError as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as stop:
        print(f"\n{prog}: stopped.", file=sys.stderr)
        return exit_status(stop)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as error:
        traceback.print_exc()
        print(f"{prog}: unexpected {type(error).__name__}, see above.{likely_cause()}", file=sys.stderr)
        return 1


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console command ``fedumm``."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] in {"-h", "--help"}:
        print(usage())
        return 0
    if args[0] in {"--version", "-V"}:
        from fedumm import __version__

        print(f"fedumm {__version__}")
        return 0
    if args[0] not in COMMANDS:
        print(f"fedumm: unknown command {args[0]!r}.{did_you_mean(args[0], COMMANDS)}\n\n{usage()}", file=sys.stderr)
        return 2
    return run(args[0], args[1:], f"fedumm {args[0]}")


if __name__ == "__main__":
    sys.exit(main())
