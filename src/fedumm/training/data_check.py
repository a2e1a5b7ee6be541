"""What a run would make of its data, before any long work: counted, and what is wrong said in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any

from fedumm.backends.answers import ALL as ALL_ANSWERS
from fedumm.backends.protocol import Progress, SpellsAnswers
from fedumm.backends.registry import backend_for
from fedumm.backends.spelling import Kind, Speller
from fedumm.config import RunConfig
from fedumm.config.columns import further_images
from fedumm.data import DataSplits
from fedumm.data.answers import ALL, BEST, CHOICES
from fedumm.data.bad_rows import LISTED
from fedumm.data.column_values import values_of
from fedumm.data.each_picture import EachPicture, each_picture
from fedumm.data.image_digests import image_digests, image_kinds
from fedumm.data.request import SplitReport
from fedumm.errors import FedummError
from fedumm.files import write_atomically
from fedumm.metrics.registry import AnswerMetric, answer_metric
from fedumm.metrics.vqa import normalises_to_nothing
from fedumm.tasks import I2T, T2I
from fedumm.texts import one_line
from fedumm.training.candidates import check_candidates
from fedumm.training.data import load_splits
from fedumm.training.reach import Reach

DATA = "data.json"
"""What was found, in the folder of a run."""

OPENED = 5_000
"""Images of each split that are opened before a run that keeps features: it opens all of them soon afterwards."""

Asked = tuple[tuple[str, ...], tuple[str, ...]]
"""A question's human answers, and what it can be answered with, where that is limited."""

_LIMITS: dict[Kind, str] = {
    "question": "max_q_len",
    "answer": "max_a_len",
    "caption": "max_q_len",
    "text": "max_a_len",
}
_COLUMNS: dict[Kind, str] = {"question": "question", "answer": BEST, "caption": T2I.column, "text": I2T.column}
_ALL_OF: dict[Kind, str] = {"answer": ALL, "text": "texts"}
"""Where there are all answers of a question, all texts of an image."""

_ALL = 0.99995
"""From here on a share is 100.00 %."""


@dataclass(frozen=True)
class TextFacts:
    """How the texts of one kind in one split fit the model: numbers of samples, and examples.

    Attributes:
        cut: longer than the option that limits them says.
        longest: tokens of the longest one.
        unknown: with characters or words that the tokenizer does not know.
    """

    kind: Kind
    count: int
    limit: str
    cut: int
    cut_example: str
    unknown: int
    unknown_example: str
    longest: int = 0


@dataclass(frozen=True)
class SplitFacts:
    """What is known of one split.

    Attributes:
        rows: what became of its rows.
        images: distinct ones; 0 where there are none. Where samples have several, groups of samples with an image in
            common.
        images_each: samples by their number of images, where some have several.
        types: samples by answer type or category.
        repeated: samples that have image, question, answer and caption of an earlier one.
        texts: how they fit the model; empty if it can't be asked.
        best_score: the mean of the best scores that answers within the limits can reach, 0 to 1; None without answers.
        references: questions by their number of human answers, or images by their number of texts.
        nothing: human answers that the VQA v2 rule normalises to nothing.
        alike: answers that the tokenizer can't tell apart, in groups.
        contents: images of different content.
        kinds: images by their kind, if all were looked at.
        pixels: their sizes, in words.
    """

    rows: SplitReport
    images: int
    types: Mapping[str, int]
    repeated: int
    texts: tuple[TextFacts, ...] = ()
    best_score: float | None = None
    references: Mapping[int, int] = field(default_factory=dict)
    nothing: int = 0
    alike: tuple[tuple[str, ...], ...] = ()
    contents: int = 0
    kinds: Mapping[str, int] = field(default_factory=dict)
    pixels: str = ""
    images_each: Mapping[int, int] = field(default_factory=dict)

    @property
    def limit(self) -> str:
        """The best score in percent; empty if that is 100."""
        if self.best_score is None or self.best_score > _ALL:
            return ""
        return f"{100 * self.best_score:.2f} %"


@dataclass(frozen=True)
class DataReport:
    """What a run would make of its data.

    Attributes:
        dataset: its name.
        columns: what a column is called in the data, by what it is called here, where the two differ.
        train, eval: the two splits.
        overlap: training samples whose image, by its content, is evaluated on, too.
        opened: whether every image was opened.
        unsaid: answers to rank that the model can't say.
    """

    dataset: str
    columns: Mapping[str, str]
    train: SplitFacts
    eval: SplitFacts
    overlap: int
    opened: bool
    unsaid: int = 0

    def save(self, folder: Path) -> None:
        """Write it as ``data.json`` into ``folder``."""
        write_atomically(folder / DATA, json.dumps(self.to_mapping(), indent=2))

    def to_mapping(self) -> dict[str, Any]:
        """Plain lists, mappings, texts and numbers, for a JSON file."""
        return asdict(self)


def save_reports(reports: Mapping[str, DataReport], folder: Path) -> None:
    """Write what was found as ``data.json`` into ``folder``: by client, or of one data set, whose name is empty."""
    if list(reports) == [""]:
        reports[""].save(folder)
        return
    content = {"clients": {client: report.to_mapping() for client, report in reports.items()}}
    write_atomically(folder / DATA, json.dumps(content, indent=2))


def data_to_check(config: RunConfig, progress: Progress, closely: bool = False) -> DataSplits:
    """The data of a run, whose images are opened to see whether they can be read.

    Args:
        closely: open all of them, however many there are.

    Raises:
        FedummError: rows are bad, more than ``--skip_bad`` allows, or the data can't be had; see
            :func:`fedumm.data.load_data`.
    """
    return load_splits(config, progress, -1 if _opens_all(config, closely) else OPENED)


def _opens_all(config: RunConfig, closely: bool) -> bool:
    return closely or config.feature_cache == "off" or config.skip_bad > 0


def check_data(
    config: RunConfig, splits: DataSplits, progress: Progress, *, closely: bool = False, ask_model: bool = True
) -> DataReport:
    """Look at the data of a run.

    Args:
        splits: of :func:`data_to_check`.
        closely: all images were opened; tell their kinds.
        ask_model: ask the model's tokenizer how texts fit it.

    Raises:
        FedummError: there is nothing to rank, or the model has no tokenizer.
    """
    check_candidates(config, splits)
    backend = backend_for(config)
    both = splits.train, splits.eval
    speller = None
    if ask_model and isinstance(backend, SpellsAnswers):
        speller = backend.speller(backend.load_processor(config.model_name_or_path))
        _check_reserved(zip(both, splits.reports, strict=True), config, speller)
    reach = Reach.of(config, splits.train, speller)
    facts = [
        _split_facts(rows, report, config, speller, reach) for rows, report in zip(both, splits.reports, strict=True)
    ]
    shared = 0
    if "image" in splits.train.column_names:
        pictures = [each_picture(rows) for rows in both]
        train, test = (image_digests(own.rows, progress) for own in pictures)
        facts = [
            replace(facts[0], contents=len(set(train)), images_each=_images_each(pictures[0])),
            replace(facts[1], contents=len(set(test)), images_each=_images_each(pictures[1])),
        ]
        evaluated = set(test)
        shared = len({row for row, digest in zip(pictures[0].owners, train, strict=True) if digest in evaluated})
        if closely:
            kinds = (image_kinds(own.rows, progress) for own in pictures)
            facts = [replace(own, **_kinds(seen)) for own, seen in zip(facts, kinds, strict=True)]
    opened = _opens_all(config, closely) or all(report.samples <= OPENED for report in splits.reports)
    name = config.dataset or backend.hf_dataset_name()
    return DataReport(name, splits.columns, facts[0], facts[1], shared, opened, reach.unsaid)


def _images_each(pictures: EachPicture) -> dict[int, int]:
    """How many rows have one image, two, and so on; none if all have one."""
    found = Counter(Counter(pictures.owners).values())
    return dict(sorted(found.items())) if max(found, default=1) > 1 else {}


def _check_reserved(both: Iterable[tuple[Any, SplitReport]], config: RunConfig, speller: Speller) -> None:
    """Raise :class:`FedummError` if texts hold special tokens of the model, which names all rows that do."""
    bad, every = list[str](), _ALL_OF.values() if config.train_answers == ALL_ANSWERS else ()
    reserved = speller.reserved
    if reserved is None:
        return
    for rows, report in both:
        for column in (*_COLUMNS.values(), *every):
            if column not in rows.column_names:
                continue
            for row, entry in enumerate(values_of(rows, column)):
                texts = entry if isinstance(entry, list) else [entry]
                found = next((hit for text in texts if text and (hit := reserved.search(text))), None)
                if found:
                    bad.append(f"{report.kind} sample {row} ({column}): {found[0]!r} in {one_line(found.string, 80)!r}")
    if bad:
        more = f", and {len(bad) - LISTED:,} more" if len(bad) > LISTED else ""
        raise FedummError(
            f"{len(bad):,} texts hold special tokens of this model, which it would not read as text. Take them out of "
            f"the data: {'; '.join(bad[:LISTED])}{more}."
        )


def _split_facts(
    rows: Any, report: SplitReport, config: RunConfig, speller: Speller | None, reach: Reach
) -> SplitFacts:
    there = rows.column_names
    facts = SplitFacts(
        report,
        images=len(set(values_of(rows, "image_id"))) if "image_id" in there else 0,
        types=dict(Counter(values_of(rows, "answer_type") if "answer_type" in there else ())),
        repeated=_repeated(rows),
        texts=tuple(_texts(rows, config, speller)) if speller else (),
    )
    if "texts" in there:
        sizes = Counter(len(own) for own in values_of(rows, "texts") if own)
        return replace(facts, references=dict(sorted(sizes.items())))
    if ALL not in there:
        return facts
    choices = values_of(rows, CHOICES) if CHOICES in there and reach.candidates is not None else repeat(None)
    asked = Counter((tuple(own), tuple(c or ())) for own, c in zip(values_of(rows, ALL), choices, strict=False) if own)
    if not asked:
        return facts
    counts, sizes = Counter[str](), Counter[int]()
    for (own, _), questions in asked.items():
        counts.update({answer: questions * number for answer, number in Counter(own).items()})
        sizes[len(own)] += questions
    return replace(
        facts,
        best_score=_best_score(asked, answer_metric(config.metric), reach),
        references=dict(sorted(sizes.items())),
        nothing=sum(number for answer, number in counts.items() if normalises_to_nothing(answer)),
        alike=tuple(map(tuple, speller.same_ids(list(counts)))) if speller else (),
    )


def _repeated(rows: Any) -> int:
    """How many samples have image, question, answer and caption of an earlier one."""
    if further_images(rows.column_names):
        return 0  # image_id does not say that all images are the same
    same = [name for name in ("image_id", "question", BEST, T2I.column) if name in rows.column_names]
    # Of hundreds of thousands of samples their hashes are kept, not their texts.
    return len(rows) - len({hash(one) for one in zip(*(values_of(rows, name) for name in same), strict=True)} or rows)


def _kinds(seen: Sequence[tuple[str, int, int]]) -> dict[str, Any]:
    kinds = Counter(kind for kind, _, _ in seen)
    by_area = sorted((width * height, f"{width} x {height}") for _, width, height in seen)
    least, middle, most = (by_area[place][1] for place in (0, len(by_area) // 2, -1))
    pixels = least if least == most else f"{least} to {most}, half up to {middle}"
    return {"kinds": dict(kinds.most_common()), "pixels": pixels}


def _texts(rows: Any, config: RunConfig, speller: Speller) -> Iterable[TextFacts]:
    for kind, column in _COLUMNS.items():
        if column not in rows.column_names:
            continue
        texts = values_of(rows, column)
        if kind in _ALL_OF and config.train_answers == ALL_ANSWERS:
            texts = (text for own in values_of(rows, _ALL_OF[kind]) for text in dict.fromkeys(own or ()))
        counts = Counter(text for text in texts if text is not None)
        limit = int(getattr(config, _LIMITS[kind]))
        measured = dict(zip(counts, speller.measure(kind, list(counts)), strict=True))
        cut = [text for text, (tokens, _) in measured.items() if tokens > limit]
        unknown = [text for text, (_, known) in measured.items() if not known]
        yield TextFacts(
            kind, counts.total(), f"--{_LIMITS[kind]} {limit}",
            sum(counts[text] for text in cut), next(iter(cut), ""),
            sum(counts[text] for text in unknown), next(iter(unknown), ""),
            max((tokens for tokens, _ in measured.values()), default=0),
        )  # fmt: skip


def _best_score(asked: Counter[Asked], metric: AnswerMetric, reach: Reach) -> float:
    """The mean over questions of the best score that an answer within ``reach`` has."""

    def best(own: tuple[str, ...], choices: tuple[str, ...]) -> float:
        return max((metric(answer, own) for answer in reach.within(list(dict.fromkeys(own)), choices)), default=0.0)

    return sum(questions * best(*one) for one, questions in asked.items()) / asked.total()
