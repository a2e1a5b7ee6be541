"""``chosen.md``: each learning rate that was tried, its score on held-out data, the choice, and how sure it is; and the
rounds that a search takes, told before it begins."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fedumm.studies.choice import Choice
from fedumm.studies.study import Study
from fedumm.studies.study_run import CENTRAL, COLUMNS, StudyRun

CHOSEN_BEGIN = "The learning rate with the highest"
"""By which such a file is told from others."""


def budget(study: Study) -> str:
    """How many runs and rounds a search takes, and how many it would be without one."""
    short, full, grid = study.short_runs(), study.runs(), study.in_full().runs()
    total, every = _rounds(short) + _rounds(full), _rounds(grid)
    return (
        f"Search for the learning rate: {len(short)} short runs of {study.lr_search} round(s) choose one of "
        f"{len(study.grid['lr'])} for each setting by held-out data, then {len(full)} runs in full. That is "
        f"{total:,} rounds ({_rounds(short):,} + {_rounds(full):,}); every learning rate in full would be {len(grid)} "
        f"runs and {every:,} rounds."
    )


def _rounds(runs: Sequence[StudyRun]) -> int:
    """Of a run without an exchange, as many epochs as a client trains in a round count as one."""
    return sum(run.rounds for run in runs)


def words(choice: Choice, plain: Callable[[Any], str]) -> list[str]:
    """What was chosen, and what to know of it; a line each.

    Args:
        plain: writes a value.
    """
    of = " ".join([COLUMNS[choice.kind], *(f"{name}={plain(value)}" for name, value in choice.setting.items())])
    best = choice.best
    if best is None or best.heldout is None:
        return [f"{of}: the training diverged with every learning rate. Give lower ones."]
    lines = [f"{of}: {plain(best.value)} ({100 * best.heldout:.2f} % of {best.rows:,} held-out rows)"]
    if choice.edge:
        beyond = {"lowest": "lower", "highest": "higher"}[choice.edge]
        lines.append(f"{of}: {plain(best.value)} is the {choice.edge} that was tried. Try a {beyond} one, too.")
    if close := choice.close:
        others = ", ".join(plain(trial.value) for trial in close)
        lines.append(
            f"{of}: {best.rows:,} held-out rows do not tell {plain(best.value)} from {others} (the difference is "
            "within two standard errors)."
        )
    return lines


def notes(own: Sequence[Choice], plain: Callable[[Any], str]) -> list[str]:
    """The :func:`words` of all choices; of those that the same runs made once, by what their settings share."""
    groups: dict[tuple[str, ...], list[Choice]] = {}
    for one in own:
        groups.setdefault(one.runs, []).append(one)
    lines = []
    for first, *others in groups.values():
        common = {n: v for n, v in first.setting.items() if all(other.setting[n] == v for other in others)}
        lines += words(replace(first, setting=common), plain)
    return lines


def chosen_table(
    study: Study, own: Sequence[Choice], headings: Mapping[str, str], plain: Callable[[Any], str], score: Any
) -> str:
    """``chosen.md``: how it was chosen, every trial, and what to know of the choices.

    Args:
        headings: of options.
        plain: writes a value so that Markdown shows it as it is.
        score: writes a spread over seeds.
    """
    names = [name for name in study.varied if name != "lr"]
    header = [*(headings.get(name, name) for name in names), "runs", headings["lr"], "held-out (%)", "held-out rows",
              "chosen", "test (%)"]  # fmt: skip
    body = []
    for one in own:
        for trial in one.trials:
            best = trial is one.best
            held = "diverged" if trial.heldout is None else f"{100 * trial.heldout:.2f}"
            end = ["yes", score(one.test, "±")] if best else ["", ""]
            setting = [plain(one.setting[name]) for name in names]
            body.append([*setting, COLUMNS[one.kind], plain(trial.value), held, str(trial.rows), *end])
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *body)]
    return "\n".join([_about(study), "", *lines, "", *(f"- {line}" for line in notes(own, plain))]) + "\n"


def _about(study: Study) -> str:
    if not study.lr_search:
        return (
            f"{CHOSEN_BEGIN} mean score on held-out data over all seeds, and its score on the "
            "common test set, on which nothing was chosen. Central runs hold out no data to choose by, unless with "
            "--lr_search."
        )
    central = " Central runs hold out the share --holdout for this alone, and train on all rows in full." * (
        CENTRAL in study.compare
    )
    return (
        f"{CHOSEN_BEGIN} score on held-out data after short runs of {study.lr_search} round(s) "
        f"with seed {study.seeds[0]}, and what full runs with it score on the common test set, on which nothing was "
        f"chosen.{central} What is best after few rounds need not be after many."
    )
