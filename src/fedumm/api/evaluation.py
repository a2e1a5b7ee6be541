"""``fedumm evaluate`` as a function."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.api.given import plain
from fedumm.cli import evaluate as command
from fedumm.cli.plugins import load_for_run
from fedumm.errors import FedummError, did_you_mean
from fedumm.output import check_folder
from fedumm.own_objects import named

if TYPE_CHECKING:
    from fedumm.report.evaluation_result import EvaluationResult

_KNOWN = {*command.SHARED, *command.MODEL, "split", "out", "format"}


def evaluate(**options: Any) -> EvaluationResult:
    """Score a model, with an adapter or without one, on a data set, as ``fedumm evaluate`` does.

    Args:
        options: those of ``fedumm evaluate``, by name: ``adapter`` (a folder, or what ``run.adapter()`` gives),
            ``dataset`` (a name, a folder, or an object of ``datasets``), ``max_eval_samples``, ``out`` and so on.

    Returns:
        ``score`` and ``interval``; ``by_answer_type``, ``by_question_type`` and ``predictions`` as tables of pandas.

    Raises:
        FedummError: an option, the data or the model is invalid.

    Example:
        >>> found = fedumm.evaluate(adapter="runs/demo/adapter/best", dataset="easy_vqa")  # doctest: +SKIP
        >>> found.score, found.interval, found.by_answer_type  # doctest: +SKIP
    """
    with named(plain(options)) as given:
        load_for_run(given)
        if unknown := sorted(given.keys() - _KNOWN):
            raise FedummError(f"Unknown option {unknown[0]!r}.{did_you_mean(unknown[0], _KNOWN)}")
        if not given.get("dataset"):
            raise FedummError("Say which data set: evaluate(dataset=...).")
        if not isinstance(given.get("adapter", ""), str):
            raise FedummError("adapter= is a folder, or what run.adapter() gives.")
        split, out, official = (given.pop(name, "") for name in ("split", "out", "format"))
        if split not in ("", *command.SPLITS) or official not in ("", "vqa"):
            raise FedummError(f"split= is one of {', '.join(command.SPLITS)}, and format= is 'vqa', if given.")
        if official and not out:
            raise FedummError("format= writes a file: say where with out=DIR.")
        if out:
            check_folder("out", out)
        wanted = command.checked(command.namespace({**given, "split": split or "eval", "format": official}))

        from fedumm.report.console import RunConsole

        with RunConsole() as console:
            result = command.evaluated(wanted, console.progress, console.line, out)
    if out:
        command.save(result, Path(out), bool(official))
    return result
