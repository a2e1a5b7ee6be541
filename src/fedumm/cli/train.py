"""``fedumm train``: the centralised baseline."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.options import Parser, add_options, check_caches, check_model, config_from
from fedumm.config import CentralConfig
from fedumm.shell import quoted
from fedumm.stopping import StoppedError, exit_status

if TYPE_CHECKING:
    from fedumm.report.central_folder import CentralFolder
    from fedumm.report.console import RunConsole
    from fedumm.training.centralized import CentralResult
    from fedumm.training.stock import Stock

DESCRIPTION = """Centralised baseline: the same training with all data in one place.

  python src/local_train.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \\
      --max_train_samples 500 --max_eval_samples 100"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, train, save the adapter."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, CentralConfig, argv)
    config = config_from(parser.parse_args(argv), CentralConfig)
    try:
        if config.dry_run:
            from fedumm.cli.dry_run import dry_run

            check_model(config)
            check_caches(config)
            return dry_run(config)
        train(config, shlex.join([*prog.split(), *argv]))
        return 0
    except _ReportStopped as stop:
        print(
            f"\n{prog}: stopped. The run is finished, without its report: fedumm report {quoted(stop.folder)}",
            file=sys.stderr,
        )
        return exit_status(stop)
    except KeyboardInterrupt as stop:
        print(
            f"\n{prog}: stopped. No adapter is saved before the end: the same command starts from the beginning.",
            file=sys.stderr,
        )
        return exit_status(stop)


class _ReportStopped(StoppedError):
    """Ctrl-C, or a signal like it, after all that counts was saved."""

    def __init__(self, folder: Path, number: int) -> None:
        super().__init__(number)
        self.folder = folder


def train(
    config: CentralConfig, command: str, console: RunConsole | None = None, stock: Stock | None = None
) -> CentralResult:
    """Train, and write the run into ``config.output_dir`` with the ``command`` that repeats it.

    Args:
        console: shows what happens.
        stock: data and models that runs of this process share.

    Raises:
        FedummError: bad options, data or model, the folder holds a finished run, or the loss is no longer a number.
    """
    check_model(config)
    check_caches(config)
    from fedumm.report.central_folder import CentralFolder, check_output
    from fedumm.report.console import RunConsole
    from fedumm.temporary import leave_room_for_sockets
    from fedumm.training.centralized import train_centrally
    from fedumm.training.data_words import say
    from fedumm.training.stock import Stock

    output, console, stock = Path(config.output_dir), console or RunConsole(), stock or Stock()
    check_output(output, config.overwrite)
    if config.num_workers:
        leave_room_for_sockets()
    with console:
        _, data = stock.checked(config, console.progress)
        say(data, config, console.line)
        folder = CentralFolder(output, config, command, console.line)
        try:
            data.save(output)
            result = train_centrally(
                config,
                console.line,
                console.progress,
                lambda done, total, loss: console.progress(f"training  loss {loss:.3f}", done, total),
                folder.on_record,
                stock,
                output,
            )
            _save(config, folder, result)
        except BaseException:
            folder.tracking.finish(failed=True)
            raise
    if problem := folder.finish():
        console.line(problem)
    _tell(result, data.eval.limit, console)
    console.line(f"Run folder: {output} ({folder.contents})")
    console.line(f"Adapter: {output / 'adapter'}")
    _report(config, console)
    return result


def _report(config: CentralConfig, console: RunConsole) -> None:
    """Make the run's report and say where it is; that it can't be made is told, and no error."""
    from fedumm.report.page.making import report_at_end

    output = Path(config.output_dir)
    with console:
        try:
            lines = report_at_end(output, config, console.progress)
        except KeyboardInterrupt as stop:
            raise _ReportStopped(output, exit_status(stop) - 128) from stop
        for line in lines:
            console.line(line)


def _save(config: CentralConfig, folder: CentralFolder, result: CentralResult) -> None:
    """The adapter, then the record that says that all is there."""
    from fedumm.adapters.folder import save_folder
    from fedumm.adapters.origin import Origin
    from fedumm.backends.registry import backend_plugins, with_model_name
    from fedumm.model_card import central_card

    plugins = backend_plugins(config)
    scores = result.records()
    card = central_card(with_model_name(config), result.epochs, scores["trained"], plugins)
    save_folder(folder.path / "adapter", result.adapter, result.adapter_config, card, Origin.of(config, plugins))
    folder.on_record({"event": "summary", "epochs": result.epochs, **scores})


def _tell(result: CentralResult, limit: str, console: RunConsole) -> None:
    """Scores before and after."""
    from fedumm.formatting import others_text, score_text
    from fedumm.metrics.evaluation import mean_score, summary
    from fedumm.report.console import NO_BETTER
    from fedumm.tasks import TASKS, VQA

    before, after = (summary("test", scores)["test_tasks"] for scores in (result.before, result.after))
    for name, trained in after.items():
        most = f" of at most {limit}" if name == VQA.name and limit else ""
        console.line(
            f"{TASKS[name].score}: untrained {score_text(before.get(name))}, trained {score_text(trained)}{most}"
        )
    if (mean_score(result.after) or 0.0) <= (mean_score(result.before) or 0.0):
        console.line(NO_BETTER)
    for when, scores in (("untrained", result.before), ("trained", result.after)):
        if others := others_text(summary("test", scores), "test"):
            console.line(f"{when}: {others}")
