"""Making a report: the examples, if they can be had on this machine, and the page."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fedumm.backends.protocol import Progress
from fedumm.config import FederateConfig, RunConfig
from fedumm.errors import FedummError
from fedumm.files import write_atomically
from fedumm.report.page.examples import make_examples, read_examples, read_options
from fedumm.report.page.history import History, mapping, number, read_history
from fedumm.report.page.render import page
from fedumm.report.run_folder import REPORT
from fedumm.shell import quoted
from fedumm.texts import one_line

AUTO, OFF = "auto", "off"
FEW = 16
"""Examples of a report that is made at the end of a run."""

NOT_KEPT = "No example answers: each client trained an adapter alone, and these are not kept."

_MANY_SAMPLES = 100_000
"""Of a larger data set, loading it once more takes long."""


def make_report(folder: Path, out: Path, samples: int, progress: Progress, gpu: str = "") -> str:
    """Write the report of the run in ``folder`` to ``out``.

    Args:
        samples: examples to show; 0: none. They are made unless they are there.
        gpu: what to make them on, as ``--gpu``.

    Returns:
        Why examples were left out; empty if they were not.

    Raises:
        FedummError: there is no run, it has recorded nothing, or it is damaged.
    """
    return _write(read_history(folder), out, samples, progress, gpu)


def report_at_end(folder: Path, config: RunConfig, progress: Progress) -> list[str]:
    """Make the report that a run on this machine has when it is over, as ``--report_samples`` says.

    Whatever goes wrong is told, and is no error: the run is over.

    Returns:
        Lines to show: where it is, and what it lacks.
    """
    if config.report_samples == OFF:
        return []
    out, again = folder / REPORT, f"fedumm report {quoted(folder)}"
    try:
        history = read_history(folder)
        note = ""
        samples = int(config.report_samples) if config.report_samples != AUTO else FEW
        if config.report_samples == AUTO and history.run.kind != "local" and not _quick(history, config):
            samples, note = 0, f"The report has no example answers, for which the model is loaded again: {again}"
        note = _write(history, out, samples, progress, config.gpu) or note
    except Exception as error:  # of the file system, of matplotlib, of a model that does not fit a second time
        return [f"No report was made ({one_line(error, 200) or type(error).__name__}). Try: {again}"]
    return [f"Report:     {out}", *([note] if note else [])]


def _quick(history: History, config: RunConfig) -> bool:
    """Whether model and data are small and here, so that loading them again takes moments."""
    from fedumm.training.threads import fits_one_core

    sizes = [mapping(own).get("train") for own in mapping(history.setup.get("clients")).values()]
    count = sum(number(size) or 0 for size in [*sizes, history.setup.get("train"), history.setup.get("test_samples")])
    elsewhere = isinstance(config, FederateConfig) and config.use_env_script
    return fits_one_core(config) and count <= _MANY_SAMPLES and not elsewhere


def _write(history: History, out: Path, samples: int, progress: Progress, gpu: str) -> str:
    # Where there can't be any, the page says so in any case.
    note = _examine(history, samples, progress, gpu) if samples or history.run.kind == "local" else ""
    examples = read_examples(history.path)[:samples] if samples and not note else []
    write_atomically(out, page(history, examples, note or (_whose(history) if examples else "")))
    return note


def _whose(history: History) -> str:
    """Where clients have data of their own, the samples are one's."""
    client = next(iter(mapping(history.data.get("clients"))), "")
    return f"These are samples of {one_line(client, 60)}." if client else ""


def _examine(history: History, samples: int, progress: Progress, gpu: str) -> str:
    """Make the examples, unless they are there; why that could not be done, or nothing."""
    if history.run.kind == "local":
        return NOT_KEPT
    try:
        config = read_options(history.path, dict(history.options))
        if isinstance(config, FederateConfig) and config.own_data and not config.client_data:
            return "No example answers: the data are the sites' own, and not here."
        make_examples(history.path, replace(config, gpu=gpu or config.gpu), samples, progress)
    except (FedummError, OSError, ImportError) as error:
        return f"No example answers: {one_line(error).rstrip('.')}."
    return ""
