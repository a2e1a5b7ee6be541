"""What was found in the data of a run, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fedumm.backends.answers import ALL
from fedumm.config import RunConfig
from fedumm.data.prepare import EVALUATION, TRAINING
from fedumm.data.request import SplitReport
from fedumm.metrics.registry import VQA
from fedumm.tasks import I2T
from fedumm.texts import one_line
from fedumm.training import data_check
from fedumm.training.data_check import DataReport, SplitFacts, TextFacts

_EXAMPLES = 3

_CUT = {
    "answer": "a score of such an answer is 0",
    "text": "what is learnt and written ends there, and --max_a_len {longest} would take all",
}
"""What becomes of texts that are too long."""


def summary(report: DataReport) -> str:
    """The data in one line."""
    train, test = report.train, report.eval
    images = ""
    if train.images:
        by = f" (told apart by {train.rows.identity})" if train.rows.identity else ""
        own = (facts.contents if facts.images_each else facts.images for facts in (train, test))
        images = f", on {' and '.join(f'{count:,}' for count in own)} images{by}"
    return f"Data: {train.rows.samples:,} training and {test.rows.samples:,} evaluation samples{images}"


def warnings(report: DataReport, config: RunConfig) -> list[str]:
    """What a user should know of the data before a run, a line each."""
    lines = [f"{ours} is read from the column {theirs}" for ours, theirs in report.columns.items()]
    for kind, facts in ((TRAINING, report.train), (EVALUATION, report.eval)):
        lines += row_lines(facts.rows)
        if facts.repeated:
            lines.append(f"{facts.repeated:,} {kind} samples repeat an earlier one, image and all")
        lines += [line for text in facts.texts for line in _text_lines(kind, text)]
    several = sum(number for count, number in report.train.references.items() if count > 1)
    if several and I2T.name in config.tasks and config.train_answers != ALL:
        lines.append(
            f"{several:,} training images have several texts: the first is learnt, --train_answers all takes each"
        )
    lines += _score_lines(report.eval, config)
    if report.unsaid:
        lines.append(f"{report.unsaid:,} answers to rank can't be said within --max_a_len {config.max_a_len}: left out")
    if report.overlap:
        lines.append(
            f"{report.overlap:,} of {report.train.rows.samples:,} training samples show an image that is evaluated on, "
            "too: --drop_overlap leaves them out"
        )
    if not report.opened:
        lines.append(f"{data_check.OPENED:,} images of each split were opened to see whether they can be read")
    return lines


def row_lines(report: SplitReport) -> list[str]:
    """What became of the rows of a split that are not samples as they stand."""
    lines = [f"{count:,} {report.kind} {what}: left out" for what, count in report.left_out.items()]
    bad = sorted(report.bad.items())
    lines += [f"{report.named(row)} {reason}: skipped" for row, reason in bad[:_EXAMPLES]]
    if len(bad) > _EXAMPLES:
        lines.append(f"{len(bad) - _EXAMPLES:,} more bad {report.kind} rows are skipped")
    return lines + [f"{report.kind} rows, {note}" for note in report.notes]


def _text_lines(kind: str, facts: TextFacts) -> Iterable[str]:
    if facts.cut:
        end = _CUT.get(facts.kind, "the model sees the beginning").format(longest=f"{facts.longest:,}")
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
    if few and config.metric == VQA:
        most = {2: "33.3 %", 3: "66.7 %"}
        parts = [f"{number:,} evaluation questions with {count} answers {most[count]}" for count, number in few.items()]
        yield f"by the VQA v2 rule the score is at most: of {', of '.join(parts)}; one answer each has no such limit"
    if facts.nothing and config.metric == VQA:
        yield (
            f"{facts.nothing:,} human answers are nothing by the VQA v2 rule, such as an article or a mark: "
            "where it normalises, an empty answer is right there"
        )
    if facts.alike:
        shown = "; ".join(" = ".join(map(_quoted, group[:_EXAMPLES])) for group in facts.alike[:_EXAMPLES])
        yield f"{len(facts.alike):,} groups of answers are the same to the tokenizer, and count as one: {shown}"


def _quoted(text: str) -> str:
    return f'"{one_line(text, 60)}"'


def say(report: DataReport, config: RunConfig, line: Callable[[str], object], client: str = "") -> None:
    """Tell the data in a few lines; of the data of one ``client``, whose they are."""
    whose = f"{client}: " if client else ""
    for text in (summary(report), *(f"  {text}" for text in warnings(report, config))):
        line(f"{whose}{text}")
