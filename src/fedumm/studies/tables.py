"""A study as tables: Markdown for a page, LaTeX (booktabs) for a paper, CSV for everything else."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedumm.files import write_atomically
from fedumm.studies.choice import choices, with_test
from fedumm.studies.chosen import CHOSEN_BEGIN, chosen_table
from fedumm.studies.results import ALL_COLUMNS, SHOWN, Outcome, Row, Spread
from fedumm.studies.study import Study
from fedumm.studies.study_run import CHOSEN
from fedumm.tasks import TASK_OPTIONS, TASKS, VQA
from fedumm.texts import one_line

_HEADINGS = {"num_clients": "clients", "dirichlet_alpha": "alpha", "lr": "learning rate"}
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
_MARKDOWN = {"|": r"\|", "*": r"\*", "`": r"\`", "<": "&lt;", ">": "&gt;", "[": r"\[", "]": r"\]", "\\": "\\\\"}
_LONGEST = 80
_NOTHING = "No run has a score on the test set yet."


def write_tables(study: Study, found: Mapping[str, Outcome], rows: Sequence[Row], folder: Path) -> str:
    """Write ``table.md``, ``table.csv``, ``table.tex`` and ``runs.csv``.

    Returns:
        The table in Markdown, without what stands around it.
    """
    table = markdown(study, rows)
    write_atomically(folder / "table.md", f"{about(study, found)}\n\n{table}\n")
    write_atomically(folder / "table.tex", latex(study, rows))
    write_atomically(folder / "table.csv", _csv(study, rows))
    write_atomically(folder / "runs.csv", _runs_csv(study, found))
    chosen = folder / "chosen.md"
    if own := with_test(study, choices(study, found), found):
        write_atomically(chosen, chosen_table(study, own, _HEADINGS, _markdown, _score))
    elif chosen.is_file() and chosen.read_bytes().startswith(CHOSEN_BEGIN.encode()):
        chosen.unlink()  # of an earlier table, with several learning rates
    return table


def score_name(study: Study) -> str:
    """What a score is: the name of the task's, or that it is a mean of several."""
    tasks = TASK_OPTIONS.get(str(study.base.get("task", VQA.name)), (VQA.name,))
    return TASKS[tasks[0]].score if len(tasks) == 1 else f"mean score of {' and '.join(tasks)}"


def about(study: Study, found: Mapping[str, Outcome]) -> str:
    """What the numbers are, with every option that was given: a table alone says too little."""
    given = ", ".join(f"{_markdown(name)} {_markdown(value)}" for name, value in study.base.items())
    total = study.runs()
    done = sum(run.name in found for run in total)
    unfinished = f" {len(total) - done} of {len(total)} runs are not finished." if done < len(total) else ""
    searched = f" Learning rates are those of chosen.md, of {_values(study.grid[CHOSEN])}." if study.lr_search else ""
    return (
        f"{score_name(study).capitalize()} on the common test set after the last round, in percent: mean ± standard "
        f"deviation over {len(study.seeds)} seed(s) ({', '.join(map(str, study.seeds))}); in brackets how many, where "
        f"some are missing. Central and local only train for as many epochs as a client of the federated run. "
        f"Options: {given or 'the defaults'}.{searched}{unfinished}"
    )


def _values(values: Sequence[Any]) -> str:
    return ", ".join(map(_markdown, values))


def markdown(study: Study, rows: Sequence[Row]) -> str:
    """The table, with columns of equal width; a line while there is nothing to put into it."""
    if not any(row.columns for row in rows):
        return _NOTHING
    cells = _cells(study, rows, _markdown, "±", "%")
    widths = [max(3, *(len(row[place]) for row in cells)) for place in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def latex(study: Study, rows: Sequence[Row]) -> str:
    """A ``tabular`` that needs the package booktabs; texts are escaped. A comment while there is nothing to put in."""
    if not any(row.columns for row in rows):
        return f"% {_NOTHING}\n"
    header, *body = _cells(study, rows, _latex, r"$\pm$", r"\%")
    keys = len(study.varied)
    lines = [
        "% Needs \\usepackage{booktabs}. Written by fedumm sweep.",
        rf"\begin{{tabular}}{{{'l' * keys}{'r' * (len(header) - keys)}}}",
        r"\toprule",
        f"{' & '.join(header)} \\\\",
        r"\midrule",
        *(f"{' & '.join(row)} \\\\" for row in body),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _cells(study: Study, rows: Sequence[Row], escape: Callable[[Any], str], plus: str, sign: str) -> list[list[str]]:
    """Heading and rows as texts."""
    columns = [column for column in SHOWN if any(column in row.columns for row in rows)]
    header = [*(_HEADINGS.get(name, name) for name in study.varied), *(ALL_COLUMNS[column] for column in columns)]
    body = [
        [*(escape(row.setting[name]) for name in study.varied), *(_score(row.columns.get(c), plus) for c in columns)]
        for row in rows
    ]
    shown = [*map(escape, header)]
    return [[*shown[: len(study.varied)], *(f"{text} ({sign})" for text in shown[len(study.varied) :])], *body]


def _score(own: Spread | None, plus: str) -> str:
    """``93.20 ± 0.45``, with the number of seeds behind it where some are missing."""
    if own is None:
        return "-"
    around = "" if own.std is None else f" {plus} {100 * own.std:.2f}"
    missing = f" ({own.n})" if own.n < own.expected else ""
    return f"{100 * own.mean:.2f}{around}{missing}"


def _csv(study: Study, rows: Sequence[Row]) -> str:
    """One line for each setting and column; scores are 0 to 1."""
    content: list[list[Any]] = [[*study.varied, "column", "n", "mean", "std", "min", "max"]]
    for row in rows:
        for column, own in row.columns.items():
            setting = [row.setting[name] for name in study.varied]
            content.append([*setting, column, own.n, own.mean, "" if own.std is None else own.std, own.least, own.most])
    return _written(content)


def _runs_csv(study: Study, found: Mapping[str, Outcome]) -> str:
    """One line for each finished run."""
    names = [*study.varied, *([CHOSEN] if study.lr_search else []), "seed"]
    content: list[list[Any]] = [["run", "kind", *names, *ALL_COLUMNS, "seconds"]]
    for run in study.runs():
        if own := found.get(run.name):
            options = [run.options.get(name, "") for name in names]
            scores = [own.scores.get(column, "") for column in ALL_COLUMNS]
            content.append([run.name, run.kind, *options, *scores, own.seconds])
    return _written(content)


def _written(content: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(content)
    return text.getvalue()


def _plain(value: Any) -> str:
    return one_line(f"{value:g}" if isinstance(value, float) else str(value), _LONGEST)


def _latex(value: Any) -> str:
    return "".join(_LATEX.get(c, c) for c in _plain(value))


def _markdown(value: Any) -> str:
    return "".join(_MARKDOWN.get(c, c) for c in _plain(value))
