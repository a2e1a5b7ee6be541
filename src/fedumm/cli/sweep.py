"""``fedumm sweep``: a study, which is a grid of runs beside its baselines, and the tables of it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli import federate as federate_command
from fedumm.cli import train as train_command
from fedumm.cli.options import (
    check_caches,
    check_model,
    check_partition,
    with_absolute_paths,
)
from fedumm.cli.sweep_options import check_ranks, parser_of
from fedumm.config import CODE, CentralConfig, FederateConfig, RunConfig, is_ours, read_yaml
from fedumm.errors import FedummError
from fedumm.federation.runners.same_options import check_same
from fedumm.output import check_folder
from fedumm.report.run_folder import CONFIG, LOCK, folder_for_name
from fedumm.run_options import from_mapping
from fedumm.shell import quoted
from fedumm.stopping import StoppedError, exit_status
from fedumm.studies.study import NAME, STUDY, Study, is_study, write_study
from fedumm.studies.study_run import CENTRAL, COLUMNS, FEDERATED, LOCAL_ONLY, StudyRun
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.studies.console import StudyConsole
    from fedumm.studies.engine import Job
    from fedumm.training.stock import Stock


def main(argv: list[str], prog: str) -> int:
    """Parse, check every run, then list them, write the array job, or carry them out."""
    flags = vars(parser_of(prog).parse_args(argv))
    if "collect" in flags:
        return _collect(flags)
    study, folder = _study(flags)
    _check_folder(folder)
    for run in (*study.short_runs(), *study.in_full().runs()):
        _check(run, _config(run, folder), folder / run.name)
    if flags.get("slurm"):
        return _write_job(study, folder)
    study = _settled(study, folder)
    if flags.get("dry_run"):
        return _list(study, folder)
    if "run" in flags:
        return _carry_out_one(study, folder, flags["run"], prog)
    return _carry_out(study, folder, prog)


def _study(flags: Mapping[str, Any]) -> tuple[Study, Path]:
    """The study that file and flags name, and its folder."""
    file = flags.get("file", "")
    values = read_yaml(file) if file else {}
    given = {n: v for n, v in flags.items() if n not in ("file", "run", "dry_run", "slurm")}
    check_ranks(given)
    values |= given
    if NAME in values:
        folder = folder_for_name(str(values[NAME]))
    elif file and Path(file).name == STUDY and is_study(Path(file).parent):
        folder = Path(file).parent
    elif file:
        folder = folder_for_name(Path(file).stem)
    else:
        raise FedummError("Give the study a name: --name STUDY. Its runs and tables are kept in runs/STUDY.")
    return Study.of(values), folder


# ---- Checks before any work ----


def _check_folder(folder: Path) -> None:
    check_folder("name", folder)
    if folder.is_dir() and any(file.name != LOCK for file in folder.iterdir()) and not is_study(folder):
        raise FedummError(f"{folder} exists and holds no study. Choose another --name.")


def _config(run: StudyRun, folder: Path) -> RunConfig:
    """The options of a run as its own command would read them."""
    # A page for each of a hundred runs would take longer than they do: fedumm report makes it of any of them.
    options = {"report_samples": "off", **run.options}
    if run.kind == CENTRAL:
        central = {**options, "output_dir": str(folder / run.name), "overwrite": True}
        return with_absolute_paths(from_mapping(CentralConfig, central, "the study"))
    options |= {"in_process": True, "name": str(folder / run.name)}
    return with_absolute_paths(from_mapping(FederateConfig, options, "the study"))


def _check(run: StudyRun, config: RunConfig, path: Path) -> None:
    check_model(config)
    check_caches(config)
    if isinstance(config, FederateConfig):
        check_partition(config)
        if run.kind == FEDERATED:
            federate_command.check_rules_of(config)
    if is_ours(path / CONFIG):
        begun = from_mapping(type(config), read_yaml(path / CONFIG), str(path / CONFIG))
        check_same(path, begun, config, may_differ=("output_dir",))


def _state(run: StudyRun, path: Path) -> str:
    """Whether the run is finished, was begun, or is to do."""
    from fedumm.studies.engine import BEGUN, FINISHED, NEW
    from fedumm.studies.results import outcome

    if not is_ours(path / CONFIG):
        return NEW
    with contextlib.suppress(FedummError):  # damaged records are that run's error, when it is done
        if outcome(path, run.kind):
            return FINISHED
    return BEGUN


# ---- What is done ----


def _settled(study: Study, folder: Path) -> Study:
    """With the learning rates that are chosen by now."""
    from fedumm.studies.choice import chosen
    from fedumm.studies.results import outcomes

    return chosen(study, outcomes(study.short_runs(), folder)) if study.lr_search else study


def _list(study: Study, folder: Path) -> int:
    from fedumm.studies.chosen import budget

    runs = [*study.short_runs(), *study.runs()]
    width = len(str(len(runs)))
    for number, run in enumerate(runs, start=1):
        print(f"{number:>{width}}  {_state(run, folder / run.name):<8}  {run.name}")
    parts = [f"{sum(run.kind == kind and not run.short for run in runs)} {COLUMNS[kind]}" for kind in study.kinds]
    if study.lr_search:
        print(budget(study))
        parts.append(f"{sum(run.short for run in runs)} short")
    print(f"{len(runs)} runs ({', '.join(parts)}) in {folder}")
    return 0


def _write_job(study: Study, folder: Path) -> int:
    from fedumm.studies.slurm import submission, write_script

    if study.base.get(CODE):
        raise FedummError("--plugin is in no study's file: add it to the command in slurm.sh by hand, then.")
    folder.mkdir(parents=True, exist_ok=True)
    write_study(study, folder)
    short, runs = len(study.short_runs()), len(study.runs())
    script = write_script(folder, folder / STUDY, runs, short)
    print(f"Array job of {short + runs} runs written to {script}. Submit it from here, and make the tables when done:")
    print("  mkdir -p logs")
    for line in submission(quoted(script), runs, short):
        print(f"  {line}")
    print(f"  fedumm sweep --collect {quoted(folder)}")
    return 0


def _collect(flags: Mapping[str, Any]) -> int:
    if len(flags) > 1:
        raise FedummError(
            f"--collect takes the study as it is: leave --{next(n for n in flags if n != 'collect')} out."
        )
    folder = folder_for_name(flags["collect"])
    if not is_study(folder):
        raise FedummError(f"{folder}: there is no study in that folder.")
    _write_results(Study.of(read_yaml(folder / STUDY)), folder, print)
    return 0


def _write_results(study: Study, folder: Path, tell: Callable[[str], None]) -> None:
    from fedumm.studies.choice import chosen
    from fedumm.studies.curves import save_figures
    from fedumm.studies.results import outcomes, rows
    from fedumm.studies.tables import write_tables

    found = outcomes([*study.short_runs(), *study.runs()], folder)
    study = chosen(study, found)
    found |= outcomes(study.runs(), folder)
    table = rows(study, found)
    tell(write_tables(study, found, table, folder))
    figures = ", ".join(file.name for file in save_figures(study, table, folder) if found)
    runs = study.runs()
    tell(f"{sum(run.name in found for run in runs)} of {len(runs)} runs are finished.")
    tell(f"Study: {folder} (table.md, table.csv, table.tex, runs.csv{', ' if figures else ''}{figures})")
    if not figures:
        tell("No figure: it takes an option with several numbers besides the seed, such as --num_clients 2,4.")
    if others := _other_runs(study, folder):
        named = f"{others[0]} ..." if others[1:] else others[0]
        tell(
            f"Not in these tables: {len(others)} earlier run(s) in that folder ({named}). "
            "For tables of all, give all values together: finished runs are not done again."
        )


def _other_runs(study: Study, folder: Path) -> list[str]:
    """Runs in the study's folder that are not, or no longer, its own."""
    own = {run.name for run in (*study.short_runs(), *study.runs())}
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}") if path.parent.name not in own)


def _carry_out(study: Study, folder: Path, prog: str) -> int:
    """Write the study down, do its runs, the short ones of a search first, and make its tables in the end."""
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder):
        write_study(study, folder)
        return _carry_out_locked(study, folder, prog)


def _carry_out_one(study: Study, folder: Path, number: int, prog: str) -> int:
    """Do the run that ``--dry_run`` lists so."""
    runs = [*study.short_runs(), *study.runs()]
    if not 1 <= number <= len(runs):
        raise FedummError(f"--run {number}: the study has the runs 1 to {len(runs)}.")
    run = runs[number - 1]
    if run.to_choose:
        raise FedummError(
            f"--run {number} waits for its learning rate, which the short runs 1 to {len(study.short_runs())} choose: "
            "not all of them are finished, or all have diverged."
        )
    folder.mkdir(parents=True, exist_ok=True)
    from fedumm.studies.console import StudyConsole
    from fedumm.studies.engine import carry_out
    from fedumm.training.stock import Stock

    try:
        failed = carry_out([_job(run, folder)], StudyConsole(), Stock(keeps=True))
    except KeyboardInterrupt as stop:
        return _stopped(stop, folder, prog)
    return _failures(failed, [], prog)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes would do the same runs."""
    from filelock import Timeout

    from fedumm.report.run_folder import locked_folder

    try:
        lock = locked_folder(folder)
    except Timeout:
        raise FedummError(f"The study in {folder} is in use by another process.") from None
    try:
        yield
    finally:
        lock.release()


def _carry_out_locked(study: Study, folder: Path, prog: str) -> int:
    from fedumm.studies.chosen import budget
    from fedumm.studies.console import StudyConsole
    from fedumm.studies.engine import Progress, carry_out
    from fedumm.training.stock import Stock

    console, stock, progress, failed = StudyConsole(), Stock(keeps=True), Progress(), list[str]()
    try:
        if short := study.short_runs():
            console.tell(budget(study))
            failed += carry_out([_job(run, folder) for run in short], console, stock, progress, study.runs())
            study = _settled(study, folder)
            _tell_choices(study, folder, console.tell)
        runs = study.runs()
        ready = [_job(run, folder) for run in runs if not run.to_choose]
        failed += carry_out(ready, console, stock, progress)
    except KeyboardInterrupt as stop:
        return _stopped(stop, folder, prog)
    _write_results(study, folder, print)
    return _failures(failed, [run.name for run in runs if run.to_choose], prog)


def _job(run: StudyRun, folder: Path) -> Job:
    from fedumm.studies.engine import Job

    config = _config(run, folder)
    return Job(run, config, folder / run.name, _state(run, folder / run.name), _DO[run.kind](run, config))


def _tell_choices(study: Study, folder: Path, tell: Callable[[str], None]) -> None:
    """What the short runs have chosen."""
    from fedumm.studies.choice import choices
    from fedumm.studies.chosen import notes
    from fedumm.studies.results import outcomes

    tell("Learning rates by held-out data:")
    made = choices(study, outcomes(study.short_runs(), folder))
    for line in notes(made, lambda value: f"{value:g}" if isinstance(value, float) else one_line(value, 60)):
        tell(f"  {line}")


def _stopped(stop: KeyboardInterrupt, folder: Path, prog: str) -> int:
    print(f"\n{prog}: stopped. The same command goes on with the study in {folder}.", file=sys.stderr)
    return exit_status(stop)


def _failures(failed: Sequence[str], waiting: Sequence[str], prog: str) -> int:
    if failed:
        print(f"{prog}: {len(failed)} run(s) failed, see above: {', '.join(failed)}", file=sys.stderr)
    if waiting:
        print(f"{prog}: {len(waiting)} run(s) have no learning rate yet: {', '.join(waiting)}", file=sys.stderr)
    return 1 if failed or waiting else 0


def _federated(run: StudyRun, config: FederateConfig) -> Callable[[StudyConsole, Stock], None]:
    def do(console: StudyConsole, stock: Stock) -> None:
        from fedumm.federation.runners.launch import run as launch

        checked = federate_command.check(replace(config, resume_if_exists=True))
        if checked and (status := launch(checked, run.command, console=console, stock=stock)):
            raise StoppedError(status - 128)

    return do


def _central(run: StudyRun, config: CentralConfig) -> Callable[[StudyConsole, Stock], None]:
    def do(console: StudyConsole, stock: Stock) -> None:
        train_command.train(config, run.command, console, stock)

    return do


def _local_only(run: StudyRun, config: FederateConfig) -> Callable[[StudyConsole, Stock], None]:
    def do(console: StudyConsole, stock: Stock) -> None:
        from fedumm.report.page.making import report_at_end
        from fedumm.studies.local_run import run_local_only

        run_local_only(config, Path(config.name), run.command, console, stock)
        for line in report_at_end(Path(config.name), config, console.progress):
            console.line(line)

    return do


_DO: dict[str, Callable[[StudyRun, Any], Callable[[StudyConsole, Stock], None]]] = {
    FEDERATED: _federated,
    CENTRAL: _central,
    LOCAL_ONLY: _local_only,
}
"""What carries out a run of each kind."""
