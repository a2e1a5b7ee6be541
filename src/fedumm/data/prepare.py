"""From the rows that a source gives to the samples of a run: which rows, in which order, with which columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedumm.data.column_values import values_of
from fedumm.data.columns import SAMPLES, SOURCE_ROW, Selection, beside, mark_of
from fedumm.data.identity import identity_column, image_identities, plain
from fedumm.data.image_digests import bad_images, image_digests
from fedumm.data.pictures import with_pictures, without_media
from fedumm.data.places import Places
from fedumm.data.request import DataRequest, DataSplits, Progress, RowChoice, SplitReport
from fedumm.errors import FedummError
from fedumm.tasks import T2I, TASKS
from fedumm.texts import one_line

TRAINING, EVALUATION = "training", "evaluation"
_LANGUAGES = ("language", "lang", "qlang", "locale")
_SHOWN = 20
"""Bad rows in a message."""


def prepare(
    raw: DataSplits, request: DataRequest, places: Places, name: str, progress: Progress | None = None
) -> DataSplits:
    """The samples of both splits, task after task, with canonical columns (:mod:`fedumm.data.columns`).

    Args:
        raw: what a source gave. Without rows to evaluate on, a share of the images is split off.
        places: where the files may lie that a column ``image`` names.
        name: of the data set, for messages.
        progress: told how many images have been looked at.

    Raises:
        FedummError: a column is missing, a task has no row, or more rows are bad than ``request.skip_bad``.
    """
    if raw.eval is None:
        whole = _Split(TRAINING, name, request, places, progress)
        rows = whole.samples(raw.train, -1)
        _check_bad([whole], request.skip_bad, name)
        train, test = _split_off(rows, request, name)
        note = f"the data have one split: {request.eval_fraction:.0%} of its images are evaluated on (--eval_fraction)"
        split_off = SplitReport(EVALUATION, 0, len(test), identity=whole.identity, notes=(note,))
        reports = [whole.report(len(train)), split_off]
    else:
        splits = [_Split(kind, name, request, places, progress) for kind in (TRAINING, EVALUATION)]
        train = splits[0].samples(raw.train, request.max_train_samples)
        test = splits[1].samples(raw.eval, request.max_eval_samples)
        _check_bad(splits, request.skip_bad, name)
        reports = [split.report(len(rows)) for split, rows in zip(splits, (train, test), strict=True)]
    if request.drop_overlap:
        shared = set(overlap(train, test, progress))
        train = train.select([place for place in range(len(train)) if place not in shared])
        left_out = {**reports[0].left_out, "image among those to evaluate on": len(shared)}
        reports[0] = replace(reports[0], samples=len(train), left_out=left_out)
    for rows, report in zip((train, test), reports, strict=True):
        if not len(rows):
            raise FedummError(f"--dataset {name}: no {report.kind} rows are left.")
    return replace(raw, train=train, eval=test, reports=tuple(reports))


def overlap(train: Any, test: Any, progress: Progress | None = None) -> list[int]:
    """The samples of ``train`` whose image has the content of an image of ``test``."""
    if "image" not in train.column_names:
        return []
    known = set(image_digests(test, progress))
    return [place for place, digest in enumerate(image_digests(train, progress)) if digest in known]


@dataclass
class _Split:
    """The samples of one split, and what became of the other rows."""

    kind: str
    name: str
    request: DataRequest
    places: Places
    progress: Progress | None = None
    given: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    identity: str = ""

    def report(self, samples: int) -> SplitReport:
        """What became of the rows, ``samples`` of which are used."""
        left_out = {reason: count for reason, count in self.left_out.items() if count}
        return SplitReport(self.kind, self.given, samples, left_out, self.bad, self.identity, tuple(self.notes))

    def samples(self, raw: Any, limit: int) -> Any:
        """The first ``limit`` samples (-1: all) of each task in the proportions of the mix, task after task."""
        from datasets import concatenate_datasets

        from fedumm.data.row_order import as_it_lies

        self.given = len(raw)
        if not self.given:
            raise FedummError(f"--dataset {self.name}: there are no {self.kind} rows.")
        table, numbers = (raw.table, raw.numbers) if isinstance(raw, RowChoice) else (raw, range(len(raw)))
        raw = without_media(as_it_lies(table))
        spoken = self._spoken(raw, numbers)
        chosen = {
            task: self._first(raw, TASKS[task].column, most, spoken)
            for task, most in limits(limit, self.request.mix).items()
        }
        rows = raw.select(range(max(map(max, chosen.values())) + 1))
        if "image" in self.request.columns:
            rows = self._with_pictures(rows, sorted(set().union(*chosen.values())))
        parts = [self._of_task(rows, task, own) for task, own in chosen.items()]
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts)

    def _with_pictures(self, rows: Any, chosen: Sequence[int]) -> Any:
        """``rows`` with pictures, those of ``chosen`` looked at as far as the request says."""
        rows, bad = with_pictures(rows, self.places, f"--dataset {self.name}, {self.kind} rows")
        self.bad |= {n: f"the column image {bad[n]}" for n in chosen if n in bad}
        if wanted := self.request.images_to_open(len(chosen)):
            good = [n for n in chosen if n not in self.bad]
            wanted = min(wanted, len(good))
            found = bad_images(rows, self.progress, [good[place * len(good) // wanted] for place in range(wanted)])
            self.bad |= {n: f"the image can't be read: {reason}" for n, reason in found.items()}
        return rows

    def _spoken(self, raw: Any, numbers: Sequence[int]) -> Sequence[int]:
        """Of ``numbers`` the rows in the language that was asked for."""
        if not (wanted := self.request.language.lower()):
            return numbers
        column = next((c for c in raw.column_names if plain(c) in _LANGUAGES), "")
        if not column:
            raise FedummError(
                f"--language {wanted}: --dataset {self.name} has no column language, lang or q_lang. "
                f"It has: {', '.join(raw.column_names)}."
            )
        values = [str(value).lower() for value in values_of(raw, column)]
        spoken = [row for row in numbers if values[row] == wanted or values[row].startswith(f"{wanted}-")]
        if not spoken:
            known = ", ".join(one_line(value, 20) for value in sorted({values[row] for row in numbers})[:10])
            raise FedummError(f"--language {wanted}: the {self.kind} rows are in: {known}.")
        self.left_out["in another language"] = len(numbers) - len(spoken)
        return spoken

    def _first(self, raw: Any, what: str, most: int, spoken: Sequence[int]) -> Sequence[int]:
        """The first ``most`` rows (-1: all) of ``spoken``; if there is a column for it, of those with a ``what``."""
        chosen = spoken
        if column := mark_of(raw.column_names, what):
            there = [not _is_blank(value) for value in values_of(raw, column)]
            chosen = [row for row in spoken if there[row]]
            self.left_out[f"without a {what}"] = len(spoken) - len(chosen)
        if not chosen:
            raise FedummError(f"--dataset {self.name}: there are no {self.kind} rows with a {what}.")
        return chosen[:most] if 0 <= most < len(chosen) else chosen

    def _of_task(self, rows: Any, task: str, chosen: Sequence[int]) -> Any:
        foreign = {column for other in TASKS.values() if other.name != task for column in other.columns}
        columns = [c for c in self.request.columns if c not in foreign]
        made = SAMPLES[task](rows, [n for n in chosen if n not in self.bad], columns, self.name)
        self.bad |= made.bad
        self.notes |= dict.fromkeys(made.notes)
        self._name_images(rows, made, task)
        made.columns |= {SOURCE_ROW: made.numbers, "task": [task] * len(made.numbers)}
        return beside(rows, made.kept, made.numbers, made.columns)

    def _name_images(self, rows: Any, made: Selection, task: str) -> None:
        """Add ``image_id`` if images can be told apart. An image's caption counts once."""
        column = identity_column(rows.column_names)
        if not column and "image" not in made.kept:
            return
        made.kept = [c for c in made.kept if c != "image_id"]
        made.columns["image_id"], self.identity = image_identities(rows, column, made.numbers)
        if task != T2I.name:
            return
        pairs = zip(made.columns["image_id"], made.columns.get(T2I.column, made.numbers), strict=True)
        first = list({pair: place for place, pair in reversed(list(enumerate(pairs)))}.values())
        self.left_out["repeating a caption of the same image"] = len(made.numbers) - len(first)
        made.keep(sorted(first))


def _is_blank(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def limits(limit: int, mix: Mapping[str, int]) -> dict[str, int]:
    """Most rows of each task: ``limit`` in the proportions of ``mix``, at least one each; -1: all."""
    if limit == -1:
        return dict.fromkeys(mix, -1)
    total, left, found = sum(mix.values()), limit, {}
    for place, (task, part) in enumerate(mix.items(), start=1):
        found[task] = left if place == len(mix) else min(max(1, round(limit * part / total)), limit - 1)
        left -= found[task]
    return found


def _check_bad(splits: Collection[_Split], skip: int, name: str) -> None:
    found = [f"  {split.kind} row {row}: {split.bad[row]}" for split in splits for row in sorted(split.bad)]
    if len(found) <= skip:
        return
    rest = [f"  and {len(found) - _SHOWN:,} more"] if len(found) > _SHOWN else []
    raise FedummError(
        "\n".join(
            [
                f"--dataset {name}: {len(found):,} of {sum(split.given for split in splits):,} rows can't be used:",
                *found[:_SHOWN],
                *rest,
                f"Repair or remove them, or go on without them: --skip_bad {len(found)}",
            ]
        )
    )


def _split_off(rows: Any, request: DataRequest, name: str) -> tuple[Any, Any]:
    """A share of the images with all their samples, and the others, each cut to its limit.

    Which images are split off depends on their order and number only: not on ``--seed``, so that runs with different
    seeds are evaluated on the same images.
    """
    import numpy as np

    images = list(values_of(rows, "image_id" if "image_id" in rows.column_names else SOURCE_ROW))
    distinct = list(dict.fromkeys(images))
    count = min(max(1, round(request.eval_fraction * len(distinct))), len(distinct) - 1)
    if not count:
        raise FedummError(f"--dataset {name} has a single image: there is none to evaluate on.")
    order = np.random.default_rng(len(distinct)).permutation(len(distinct))
    held = {distinct[place] for place in order[:count]}
    tasks = list(values_of(rows, "task"))
    train, test = (
        _cut([p for p, image in enumerate(images) if (image in held) == wanted], tasks, limits(limit, request.mix))
        for wanted, limit in ((False, request.max_train_samples), (True, request.max_eval_samples))
    )
    return rows.select(train), rows.select(test)


def _cut(places: Sequence[int], tasks: Sequence[str], most: Mapping[str, int]) -> list[int]:
    """Of ``places`` the first so many of each task."""
    kept = []
    for task, count in most.items():
        own = [place for place in places if tasks[place] == task]
        kept += own if count == -1 else own[:count]
    return kept
