"""``fedumm report``: a run as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.options import Joined, Parser
from fedumm.config import is_ours
from fedumm.errors import FedummError
from fedumm.output import check_file, check_plain
from fedumm.report.run_folder import CONFIG, METRICS, REPORT, RUNS, folder_for_name

if TYPE_CHECKING:
    from fedumm.backends.protocol import Progress

DESCRIPTION = """Show a run as one HTML file that needs nothing else: scores, curves, clients, costs, example answers.

  fedumm report demo
  fedumm report runs/demo --out demo.html --samples 48

The examples are made on this machine, from the run's data and model, and kept in its folder."""


def main(argv: list[str], prog: str) -> int:
    """Parse, make examples, write."""
    parser = Parser(prog=prog, usage="%(prog)s RUN [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help="folder of a run; a bare name is runs/NAME")
    parser.add_argument("--out", default="", metavar="FILE", help="where to write (default: RUN/report.html)")
    parser.add_argument(
        "--samples", type=int, default=24, metavar="N", help="evaluation samples to show (default: 24; 0: none)"
    )
    parser.add_argument("--gpu", default="", help="GPU id; cpu: none (default: the first, if there is one)")
    parser.add_argument(
        "--plugin", action=Joined, default="", help="Python file that the run needed; it is run; may be repeated"
    )
    args = parser.parse_args(argv)
    folder = run_folder(args.run)
    if not 0 <= args.samples <= 1000:
        raise FedummError(f"--samples must be from 0 to 1,000, not {args.samples}.")
    check_plain(folder)
    out = Path(args.out) if args.out else folder / REPORT
    check_file("out", out)

    from fedumm.report.console import RunConsole
    from fedumm.report.page.making import make_report

    with RunConsole() as console:
        progress: Progress = console.progress
        note = make_report(folder, out, args.samples, progress, args.gpu)
    for line in filter(None, (note, f"Report: {out}")):
        console.line(line)
    return 0


def run_folder(name: str) -> Path:
    """The folder of a run that a command names: a path to one, or as ``fedumm runs`` lists it, in ``runs/``.

    Raises:
        FedummError: there is no run with records.
    """
    places = [folder_for_name(name), RUNS / name]
    found = next((place for place in places if is_ours(place / CONFIG)), None)
    if found is None:
        raise FedummError(f"{places[0]}: there is no run in that folder. 'fedumm runs' lists those that are there.")
    if not (found / METRICS).is_file():
        raise FedummError(f"The run in {found} has recorded nothing: it was stopped before it began.")
    return found
