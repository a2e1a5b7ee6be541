"""What a run would make of its data, before any long work: counted, and what is wrong said in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from fedumm.backends.answers import ALL as ALL_ANSWERS
from fedumm.backends.protocol import Progress, SpellsAnswers
from fedumm.backends.registry import backend_for
from fedumm.backends.spelling import Kind, Speller
from fedumm.config import RunConfig
from fedumm.data.answers import ALL, BEST
from fedumm.data.column_values import values_of
from fedumm.data.image_digests import image_kinds
from fedumm.data.prepare import EVALUATION, TRAINING, overlap
from fedumm.data.request import SplitReport
from fedumm.files import write_atomically
from fedumm.metrics.registry import VQA, answer_metric
from fedumm.metrics.vqa import normalises_to_nothing
from fedumm.tasks import T2I
from fedumm.texts import one_line
from fedumm.training.candidates import check_candidates
from fedumm.training.data import load_splits

DATA = "data.json"
"""What was found, in the folder of a run."""

OPENED = 5_000
"""Images of each split that are opened before a run that keeps features: it opens all of them soon afterwards."""

Answers = tuple[str, ...]
"""Those of one question."""

_LIMITS: dict[Kind, str] = {"question": "max_q_len", "answer": "max_a_len", "caption": "max_q_len"}
_COLUMNS: dict[Kind, str] = {"question": "question", "answer": BEST, "caption": T2I.column}
_EXAMPLES = 3
_ALL = 0.99995
"""From here on a share is 100.00 %."""


@dataclass(frozen=True)
class TextFacts:
    """How the texts of one kind in one split fit the model: numbers of samples, and examples.

    Attributes:
        cut: longer than the option that limits them says.
        unknown: with characters or words that the tokenizer does not know.
    """

    kind: Kind
    count: int
    limit: str
    cut: int
    cut_example: str
    unknown: int
    unknown_example: str


@dataclass(frozen=True)
class SplitFacts:
    """What is known of one split.

    Attributes:
        rows: what became of its rows.
        images: distinct ones; 0 where there are none.
        types: samples by answer type or category.
        repeated: samples that have image, question, answer and caption of an earlier one.
        texts: how they fit the model; empty if it can't be asked.
        best_score: the mean of the best scores that answers within the limits can reach, 0 to 1; None without answers.
        references: questions by their number of human answers.
        nothing: human answers that the VQA v2 rule normalises to nothing.
        alike: answers that the tokenizer can't tell apart, in groups.
        kinds: distinct images by their kind, if all were looked at.
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
    kinds: Mapping[str, int] = field(default_factory=dict)
    pixels: str = ""

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
    """

    dataset: str
    columns: Mapping[str, str]
    train: SplitFacts
    eval: SplitFacts
    overlap: int
    opened: bool

    def save(self, folder: Path) -> None:
        """Write it as ``data.json`` into ``folder``."""
        write_atomically(folder / DATA, json.dumps(self.to_mapping(), indent=2))

    def to_mapping(self) -> dict[str, Any]:
        """Plain lists, mappings, texts and numbers, for a JSON file."""
        return asdict(self)


def check_data(config: RunConfig, progress: Progress, *, closely: bool = False, ask_model: bool = True) -> DataReport:
    """Load the data of a run, and look at them.

    Args:
        closely: open each image, however many there are, and tell their kinds.
        ask_model: ask the model's tokenizer how texts fit it.

    Raises:
        FedummError: rows are bad, more than ``--skip_bad`` allows, or the data can't be had; see
            :func:`fedumm.data.load_data`.
    """
    every_image = closely or config.feature_cache == "off"
    splits = load_splits(config, progress, -1 if every_image else OPENED)
    check_candidates(config, splits)
    backend = backend_for(config)
    speller = None
    if ask_model and isinstance(backend, SpellsAnswers):
        speller = backend.speller(backend.load_processor(config.model_name_or_path))
    facts = [
        _split_facts(rows, report, config, speller)
        for rows, report in zip((splits.train, splits.eval), splits.reports, strict=True)
    ]
    if closely and "image" in splits.train.column_names:
        facts = [
            replace(own, **_kinds(image_kinds(rows, progress)))
            for own, rows in zip(facts, (splits.train, splits.eval), strict=True)
        ]
    opened = every_image or all(report.samples <= OPENED for report in splits.reports)
    shared = 0 if config.drop_overlap else len(overlap(splits.train, splits.eval, progress))
    name = config.dataset or backend.hf_dataset_name()
    return DataReport(name, splits.columns, facts[0], facts[1], shared, opened)


def _split_facts(rows: Any, report: SplitReport, config: RunConfig, speller: Speller | None) -> SplitFacts:
    there = rows.column_names
    facts = SplitFacts(
        report,
        images=len(set(values_of(rows, "image_id"))) if "image_id" in there else 0,
        types=dict(Counter(values_of(rows, "answer_type") if "answer_type" in there else ())),
        repeated=_repeated(rows),
        texts=tuple(_texts(rows, config, speller)) if speller else (),
    )
    references = Counter(tuple(own) for own in values_of(rows, ALL) if own) if ALL in there else Counter[Answers]()
    if not references:
        return facts
    counts = Counter[str]()
    for own, questions in references.items():
        counts.update({answer: questions * number for answer, number in Counter(own).items()})
    sizes = Counter[int]()
    for own, questions in references.items():
        sizes[len(own)] += questions
    return replace(
        facts,
        best_score=_best_score(references, config, speller),
        references=dict(sorted(sizes.items())),
        nothing=sum(number for answer, number in counts.items() if normalises_to_nothing(answer)),
        alike=tuple(map(tuple, speller.same_ids(list(counts)))) if speller else (),
    )


def _repeated(rows: Any) -> int:
    """How many samples have image, question, answer and caption of an earlier one."""
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
        if kind == "answer" and config.train_answers == ALL_ANSWERS:
            texts = (text for own in values_of(rows, ALL) for text in dict.fromkeys(own or ()))
        counts = Counter(text for text in texts if text is not None)
        limit = int(getattr(config, _LIMITS[kind]))
        measured = dict(zip(counts, speller.measure(kind, list(counts)), strict=True))
        cut = [text for text, (tokens, _) in measured.items() if tokens > limit]
        unknown = [text for text, (_, known) in measured.items() if not known]
        yield TextFacts(
            kind, counts.total(), f"--{_LIMITS[kind]} {limit}",
            sum(counts[text] for text in cut), next(iter(cut), ""),
            sum(counts[text] for text in unknown), next(iter(unknown), ""),
        )  # fmt: skip


def _best_score(references: Counter[Answers], config: RunConfig, speller: Speller | None) -> float:
    """The mean over questions, so many of which have these answers, of the best score that can be learnt."""
    distinct = list(dict.fromkeys(answer for own in references for answer in own))
    measured = speller.measure("answer", distinct) if speller else [(0, True)] * len(distinct)
    fits = zip(distinct, measured, strict=True)
    learnable = {answer for answer, (tokens, known) in fits if known and tokens <= config.max_a_len}
    metric = answer_metric(config.answer_metric)

    def best(own: Answers) -> float:
        return max((metric(answer, own) for answer in dict.fromkeys(own) if answer in learnable), default=0.0)

    return sum(questions * best(own) for own, questions in references.items()) / references.total()


def summary(report: DataReport) -> str:
    """The data in one line."""
    train, test = report.train, report.eval
    images = ""
    if train.images:
        by = f" (told apart by {train.rows.identity})" if train.rows.identity else ""
        images = f", on {train.images:,} and {test.images:,} images{by}"
    return f"Data: {train.rows.samples:,} training and {test.rows.samples:,} evaluation samples{images}"


def warnings(report: DataReport, config: RunConfig) -> list[str]:
    """What a user should know of the data before a run, a line each."""
    lines = [f"{ours} is read from the column {theirs}" for ours, theirs in report.columns.items()]
    for kind, facts in ((TRAINING, report.train), (EVALUATION, report.eval)):
        lines += row_lines(facts.rows)
        if facts.repeated:
            lines.append(f"{facts.repeated:,} {kind} samples repeat an earlier one, image and all")
        lines += [line for text in facts.texts for line in _text_lines(kind, text)]
    lines += _score_lines(report.eval, config)
    if report.overlap:
        lines.append(
            f"{report.overlap:,} of {report.train.rows.samples:,} training samples show an image that is evaluated on, "
            "too: --drop_overlap leaves them out"
        )
    if not report.opened:
        lines.append(f"{OPENED:,} images of each split were opened to see whether they can be read")
    return lines


def row_lines(report: SplitReport) -> list[str]:
    """What became of the rows of a split that are not samples as they stand."""
    lines = [f"{count:,} {report.kind} rows {why}: left out" for why, count in report.left_out.items()]
    bad = sorted(report.bad.items())
    lines += [f"{report.kind} row {row} {reason}: skipped" for row, reason in bad[:_EXAMPLES]]
    if len(bad) > _EXAMPLES:
        lines.append(f"{len(bad) - _EXAMPLES:,} more bad {report.kind} rows are skipped")
    return lines + [f"{report.kind} rows, {note}" for note in report.notes]


def _text_lines(kind: str, facts: TextFacts) -> Iterable[str]:
    end = "a score of such an answer is 0" if facts.kind == "answer" else "the model sees the beginning"
    if facts.cut:
        yield (
            f"{facts.cut:,} of {facts.count:,} {kind} {facts.kind}s are longer than {facts.limit}: {end} "
            f"({_quoted(facts.cut_example)})"
        )
    if facts.unknown:
        end = "a score of such an answer is 0" if facts.kind == "answer" else "these are one token to the model"
        yield (
            f"{facts.unknown:,} of {facts.count:,} {kind} {facts.kind}s have characters that the tokenizer does not "
            f"know: {end} ({_quoted(facts.unknown_example)})"
        )


def _score_lines(facts: SplitFacts, config: RunConfig) -> Iterable[str]:
    if facts.limit:
        yield f"the best score that any model can reach on these evaluation answers is {facts.limit}"
    few = {count: number for count, number in facts.references.items() if count in (2, 3)}
    if few and config.answer_metric == VQA:
        most = {2: "33.3 %", 3: "66.7 %"}
        parts = [f"{number:,} evaluation questions with {count} answers {most[count]}" for count, number in few.items()]
        yield f"by the VQA v2 rule the score is at most: of {', of '.join(parts)}; one answer each has no such limit"
    if facts.nothing and config.answer_metric == VQA:
        yield (
            f"{facts.nothing:,} human answers are nothing by the VQA v2 rule, such as an article or a mark: "
            "where it normalises, an empty answer is right there"
        )
    if facts.alike:
        shown = "; ".join(" = ".join(map(_quoted, group[:_EXAMPLES])) for group in facts.alike[:_EXAMPLES])
        yield f"{len(facts.alike):,} groups of answers are the same to the tokenizer, and count as one: {shown}"


def _quoted(text: str) -> str:
    return f'"{one_line(text, 60)}"'


def say(report: DataReport, config: RunConfig, line: Callable[[str], object]) -> None:
    """Tell the data in a few lines."""
    line(summary(report))
    for text in warnings(report, config):
        line(f"  {text}")
