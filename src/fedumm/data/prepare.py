"""From the rows that a source gives to the samples of a run: which rows, in which order, with which columns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fedumm.config.columns import further_images
from fedumm.data.bad_rows import LISTED
from fedumm.data.column_values import SOURCE_ROW, values_of
from fedumm.data.columns import SAMPLES, Selection, beside, mark_of, one_an_image
from fedumm.data.each_picture import each_picture
from fedumm.data.identity import identity_column, image_identities, plain
from fedumm.data.image_digests import bad_images, image_digests
from fedumm.data.pictures import with_pictures, without_media
from fedumm.data.places import Places
from fedumm.data.request import DataRequest, DataSplits, Origins, Progress, RowChoice, SplitReport
from fedumm.errors import FedummError
from fedumm.tasks import I2T, T2I, TASKS
from fedumm.texts import one_line

TRAINING, EVALUATION = "training", "evaluation"
_LANGUAGES = ("language", "lang", "qlang", "locale")


def prepare(
    raw: DataSplits,
    request: DataRequest,
    places: Places,
    name: str,
    progress: Progress | None = None,
    origins: Origins = lambda kind, rows: {},
) -> DataSplits:
    """The samples of both splits, task after task, with canonical columns (:mod:`fedumm.data.columns`).

    Args:
        raw: what a source gave. Without rows to evaluate on, a share of the images is split off.
        places: where the files may lie that a column ``image`` names.
        name: of the data set, for messages.
        progress: told how many images have been looked at.
        origins: asked where bad rows are.

    Raises:
        FedummError: a column is missing, a task has no row, or more rows are bad than ``request.skip_bad``.
    """
    if raw.eval is None:
        whole = _Split(TRAINING, name, request, places, origins, progress)
        rows = whole.samples(raw.train, -1)
        _check_bad([whole], request.skip_bad, name)
        train, test = _split_off(rows, request, name)
        note = f"the data have one split: {request.eval_fraction:.0%} of its images are evaluated on (--eval_fraction)"
        split_off = SplitReport(EVALUATION, 0, len(test), identity=whole.identity, notes=(note,))
        reports = [whole.report(len(train)), split_off]
    else:
        splits = [_Split(kind, name, request, places, origins, progress) for kind in (TRAINING, EVALUATION)]
        train = splits[0].samples(raw.train, request.max_train_samples)
        test = splits[1].samples(raw.eval, request.max_eval_samples)
        _check_bad(splits, request.skip_bad, name)
        reports = [split.report(len(rows)) for split, rows in zip(splits, (train, test), strict=True)]
    if request.drop_overlap:
        shared = set(overlap(train, test, progress))
        train = train.select([place for place in range(len(train)) if place not in shared])
        left_out = {**reports[0].left_out, "samples whose image is evaluated on, too": len(shared)}
        reports[0] = replace(reports[0], samples=len(train), left_out=left_out)
    for rows, report in zip((train, test), reports, strict=True):
        if not len(rows):
            raise FedummError(f"--dataset {name}: no {report.kind} rows are left.")
    return replace(raw, train=train, eval=test, reports=tuple(reports))


def overlap(train: Any, test: Any, progress: Progress | None = None) -> list[int]:
    """The samples of ``train`` one of whose images has the content of an image of ``test``."""
    if "image" not in train.column_names:
        return []
    one, other = each_picture(train), each_picture(test)
    known = set(image_digests(other.rows, progress))
    digests = image_digests(one.rows, progress)
    return sorted({row for row, digest in zip(one.owners, digests, strict=True) if digest in known})


@dataclass
class _Split:
    """The samples of one split, and what became of the other rows."""

    kind: str
    name: str
    request: DataRequest
    places: Places
    origins: Origins
    progress: Progress | None = None
    given: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    bad: dict[int, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    identity: str = ""

    def report(self, samples: int) -> SplitReport:
        """What became of the rows, ``samples`` of which are used."""
        left_out = {reason: count for reason, count in self.left_out.items() if count}
        origins = self.origins(self.kind, sorted(self.bad)[:LISTED]) if self.bad else {}
        return SplitReport(
            self.kind, self.given, samples, left_out, self.bad, self.identity, tuple(self.notes), origins
        )  # fmt: skip

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
        chosen = self._chosen(raw, limits(limit, self.request.mix), spoken)
        rows = raw.select(range(max(map(max, chosen.values())) + 1))
        if "image" in self.request.columns and "image" in rows.column_names:
            rows = self._with_pictures(rows, sorted(set().union(*chosen.values())))
        made = {task: self._selected(rows, task, own) for task, own in chosen.items()}
        parts = [self._of_task(rows, task, own) for task, own in made.items()]
        return parts[0] if len(parts) == 1 else concatenate_datasets(parts)

    def _with_pictures(self, rows: Any, chosen: Sequence[int]) -> Any:
        """``rows`` with pictures, those of ``chosen`` looked at as far as the request says."""
        what = f"--dataset {self.name}, {self.kind} rows"
        rows, bad = with_pictures(rows, self.places, what, several=self.request.several_images)
        self.bad |= {n: bad[n] for n in chosen if n in bad}
        if wanted := self.request.images_to_open(len(chosen)):
            good = [n for n in chosen if n not in self.bad]
            wanted = min(wanted, len(good))
            some = {good[place * len(good) // wanted] for place in range(wanted)}
            images = each_picture(rows.select_columns(["image", *further_images(rows.column_names)]))
            numbers = [number for number, row in enumerate(images.owners) if row in some]
            found = bad_images(images.rows, self.progress, numbers)
            self.bad |= {images.owners[n]: f"the image can't be read: {reason}" for n, reason in found.items()}
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
        self.left_out["rows in another language"] = len(numbers) - len(spoken)
        return spoken

    def _chosen(self, raw: Any, most: Mapping[str, int], spoken: Sequence[int]) -> dict[str, Sequence[int]]:
        """The first so many rows (-1: all) of ``spoken`` for each task: those with something in its column."""
        marked = {task: self._marked(raw, TASKS[task].column, spoken) for task in most}
        what = " and without a ".join(TASKS[task].column for task in most)
        self.left_out[f"rows without a {what}"] = len(spoken) - len(set().union(*marked.values()))
        return {task: own[: most[task]] if 0 <= most[task] < len(own) else own for task, own in marked.items()}

    def _marked(self, raw: Any, what: str, spoken: Sequence[int]) -> Sequence[int]:
        """The rows of ``spoken``; if there is a column for it, those with a ``what``."""
        marked = spoken
        if column := mark_of(raw.column_names, what):
            there = [not _is_blank(value) for value in values_of(raw, column)]
            marked = [row for row in spoken if there[row]]
        if not marked:
            raise FedummError(f"--dataset {self.name}: there are no {self.kind} rows with a {what}.")
        return marked

    def _selected(self, rows: Any, task: str, chosen: Sequence[int]) -> Selection:
        foreign = {column for other in TASKS.values() if other.name != task for column in other.columns}
        further = further_images(rows.column_names) if "image" in self.request.columns else []
        columns = [*(c for c in self.request.columns if c not in foreign), *further]
        made = SAMPLES[task](rows, [n for n in chosen if n not in self.bad], columns, self.name)
        self.bad |= made.bad
        self.notes |= dict.fromkeys(made.notes)
        return made

    def _of_task(self, rows: Any, task: str, made: Selection) -> Any:
        # A row that is bad for one task is skipped for all.
        made.keep([place for place, number in enumerate(made.numbers) if number not in self.bad])
        self._name_images(rows, made, task)
        made.columns |= {SOURCE_ROW: made.numbers, "task": [task] * len(made.numbers)}
        return beside(rows, made.kept, made.numbers, made.columns)

    def _name_images(self, rows: Any, made: Selection, task: str) -> None:
        """Add ``image_id`` if images can be told apart. An image's caption counts once; its texts are one sample."""
        column = identity_column(rows.column_names)
        if not column and "image" not in made.kept:
            return
        made.kept = [c for c in made.kept if c != "image_id"]
        images = image_identities(rows, column, made.numbers)
        made.columns["image_id"], self.identity = images.names, images.how
        if task == I2T.name:
            again = one_an_image(made, images.exact)
            self.left_out["rows with an image that has come before, whose texts count"] = again
        if task != T2I.name:
            return
        pairs = zip(made.columns["image_id"], made.columns.get(T2I.column, made.numbers), strict=True)
        first = list({pair: place for place, pair in reversed(list(enumerate(pairs)))}.values())
        self.left_out["captions that repeat one of the same image"] = len(made.numbers) - len(first)
        made.keep(sorted(first))


def _is_blank(value: Any) -> bool:
    """Whether a cell says nothing."""
    return value is None or (isinstance(value, str) and not value.strip())


def limits(limit: int, mix: Mapping[str, int]) -> dict[str, int]:
    """Most rows of each task: ``limit`` in the proportions of ``mix``, at least one each; -1: all."""
    if limit == -1:
        return dict.fromkeys(mix, -1)
    if limit < len(mix):
        raise FedummError(f"{limit} samples are too few for {len(mix)} tasks: each takes one.")
    total, left, found = sum(mix.values()), limit, {}
    for place, (task, part) in enumerate(mix.items(), start=1):
        found[task] = left if place == len(mix) else min(max(1, round(limit * part / total)), limit - 1)
        left -= found[task]
    return found


def _check_bad(splits: Collection[_Split], skip: int, name: str) -> None:
    reports = [split.report(0) for split in splits]
    found = [(report, row) for report in reports for row in sorted(report.bad)]
    if len(found) <= skip:
        return
    told = [f"  {report.named(row)}: {report.bad[row]}" for report, row in found[:LISTED]]
    rest = [f"  and {len(found) - LISTED:,} more"] if len(found) > LISTED else []
    given = sum(split.given for split in splits)
    lines = [
        f"--dataset {name}: {len(found):,} of {given:,} rows can't be used (counted from 0):",
        *told,
        *rest,
        f"Repair or remove them, or go on without them: --skip_bad {len(found)}",
    ]
    raise FedummError("\n".join(lines))


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
        why = "has a single image"
        if further_images(rows.column_names):
            why = "has rows that are all joined by images which they share, as one image"
        raise FedummError(f"--dataset {name} {why}: there is none to evaluate on. Give a split of its own for that.")
    order = [distinct[place] for place in np.random.default_rng(len(distinct)).permutation(len(distinct))]
    held = _with_every_task(order, count, images, rows["task"][:], name)
    train, test = (
        _cut([p for p, image in enumerate(images) if (image in held) == wanted], rows, limits(limit, request.mix))
        for wanted, limit in ((False, request.max_train_samples), (True, request.max_eval_samples))
    )
    return rows.select(train), rows.select(test)


def _with_every_task(
    order: Sequence[str], count: int, images: Sequence[str], tasks: Sequence[str], name: str
) -> set[str]:
    """The first ``count`` images of ``order``, and the first one with a task that these have no sample of.

    Raises:
        FedummError: a task has a single image, or none is left to train on.
    """
    held = set(order[:count])
    for task in sorted(set(tasks)):
        own = {image for image, other in zip(images, tasks, strict=True) if other == task}
        if not own & held:
            held.add(next(image for image in order if image in own))
        if own <= held:
            raise FedummError(
                f"--dataset {name} has one split, and too few images with a {TASKS[task].column} to train on some and "
                "evaluate on others."
            )
    return held


def _cut(places: Sequence[int], rows: Any, most: Mapping[str, int]) -> list[int]:
    """Of ``places`` the samples of the first so many rows of each task."""
    tasks, numbers = rows["task"][:], rows[SOURCE_ROW][:]
    kept = []
    for task, count in most.items():
        own = [place for place in places if tasks[place] == task]
        first = set(list(dict.fromkeys(numbers[place] for place in own))[: None if count == -1 else count])
        kept += [place for place in own if numbers[place] in first]
    return kept
