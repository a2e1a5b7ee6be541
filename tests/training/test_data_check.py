"""What is said of data before a run: every line against data of which it is true, and of which it is not."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset, DatasetDict
from PIL import Image

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.training import data_check
from fedumm.training.data_check import DataReport, check_data, data_to_check
from fedumm.training.data_words import summary, warnings

PARTS = ("training", "evaluation")


def picture(number: int) -> Image.Image:
    return Image.fromarray(np.full((6, 8, 3), number * 9 % 256, np.uint8))


def rows(first: int = 0, count: int = 4, **columns: Any) -> Dataset:
    """Pictures from number ``first`` on, with a question and an answer each unless ``columns`` has others."""
    texts = {"question": ["is it red?"] * count, "answer": ["red", "blue", "yes", "no"] * (count // 4)}
    given = {"image": [picture(first + n) for n in range(count)], **texts, **columns}
    return Dataset.from_dict({name: values for name, values in given.items() if values})


def look(
    folder: Path, train: Dataset, test: Dataset | None = None, closely: bool = False, **options: Any
) -> DataReport:
    parts = DatasetDict({"train": train, "validation": rows(100) if test is None else test})
    parts.save_to_disk(str(folder / "set"))
    config = config_for(folder, **options)
    return check_data(config, data_to_check(config, nobody, closely), nobody, closely=closely)


def nobody(*_: object) -> None:
    """Hears of progress."""


def config_for(folder: Path, **options: Any) -> FederateConfig:
    own = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": str(folder / "set")}
    return FederateConfig(**{**own, **options})


def said(folder: Path, *parts: Dataset, **options: Any) -> list[str]:
    return warnings(look(folder, *parts, **options), config_for(folder, **options))


def test_of_good_data_there_is_one_line(tmp_path: Path) -> None:
    report = look(tmp_path, rows())
    assert warnings(report, config_for(tmp_path)) == []
    assert summary(report) == (
        "Data: 4 training and 4 evaluation samples, on 4 and 4 images (told apart by their content (SHA-256))"
    )


LINES = {
    "cut answers": (
        (rows(answer=["a " * 20, "red", "red", "red"]),),
        {},
        '1 of 4 training answers are longer than --max_a_len 16: a score of such an answer is 0 ("a a a ',
    ),
    "cut answers, fewer tokens": (
        (rows(answer=["a b c", "red", "red", "a b c"]),),
        {"max_a_len": 3},
        '2 of 4 training answers are longer than --max_a_len 3: a score of such an answer is 0 ("a b c")',
    ),
    "cut questions": (
        (rows(question=["is it a b c d e f?", "is it?", "is it?", "is it?"]),),
        {"max_q_len": 8},
        "1 of 4 training questions are longer than --max_q_len 8: the model sees the beginning",
    ),
    "unknown answers": (
        (rows(answer=["红色", "red", "😀", "red"]),),
        {},
        "2 of 4 training answers have characters that the tokenizer does not know: a score of such an answer is 0 "
        '("红色")',
    ),
    "answers alike": (
        (rows(), rows(100, answer=["MRI", "mri", "CT", "x-ray"])),
        {},
        '1 groups of answers are the same to the tokenizer, and count as one: "MRI" = "mri"',
    ),
    "two answers": (
        (rows(), rows(100, answer=[], answers=[["red", "red"], ["blue", "blue"], ["yes"], ["no"]])),
        {},
        "by the VQA v2 rule the score is at most: of 2 evaluation questions with 2 answers 33.3 %; one answer each has "
        "no such limit",
    ),
    "the best score": (
        (rows(), rows(100, answer=[], answers=[["red"] * 2, ["blue"] * 3, ["yes"], ["no"]])),
        {},
        "the best score that any model can reach on these evaluation answers is 75.00 %",
    ),
    "the best score, of what can be said": (
        (rows(), rows(100, answer=["红", "blue", "yes", "no"])),
        {},
        "the best score that any model can reach on these evaluation answers is 75.00 %",
    ),
    "nothing by the rule": (
        (rows(), rows(100, answer=["A", "-", "yes", "no"])),
        {},
        "2 human answers are nothing by the VQA v2 rule, such as an article or a mark",
    ),
    "overlap": (
        (rows(), rows(2)),
        {},
        "2 of 4 training samples show an image that is evaluated on, too: --drop_overlap leaves them out",
    ),
    "overlap, left out": (
        (rows(), rows(2)),
        {"drop_overlap": True},
        "2 training samples whose image is evaluated on, too: left out",
    ),
    "repeated": (
        (Dataset.from_dict({**rows().to_dict(), "image": [picture(1)] * 4, "answer": ["red"] * 4}),),
        {},
        "3 training samples repeat an earlier one, image and all",
    ),
    "left out": (
        (rows(question=["a?", None, "b?", None]),),
        {},
        "2 training rows without a question: left out",
    ),
    "skipped": (
        (rows(answer=["red", None, " ", "red"]),),
        {"skip_bad": 2},
        "training row 1 has no answer: skipped",
    ),
    "another reading": (
        (rows(answer=[True, False, True, True]),),
        {},
        "training rows, answer: true and false are read as yes and no",
    ),
    "another name": (
        (rows(question=[], query=["a?", "b?", "c?", "d?"]), rows(100, question=[], query=["a?", "b?", "c?", "d?"])),
        {},
        "question is read from the column query",
    ),
}  # fmt: skip


def test_the_best_score_of_ranking_is_that_of_the_candidates(tmp_path: Path) -> None:
    """Of four questions two can be answered from the file; one of its answers can't be said."""
    (tmp_path / "answers.txt").write_text("red\nyes\n红\n", encoding="utf-8")
    lines = said(tmp_path, rows(), answer_mode="rank", answers=str(tmp_path / "answers.txt"))
    assert lines == [
        "the best score that any model can reach on these evaluation answers is 50.00 %",
        "1 answers to rank can't be said within --max_a_len 16: left out",
    ]
    test = rows(100, choices=[["red", "x"], ["x", "y"], ["yes", "no"], ["yes", "no"]])
    lines = said(tmp_path, rows(choices=[["red", "blue", "yes", "no"]] * 4), test, answer_mode="rank")
    assert lines == ["the best score that any model can reach on these evaluation answers is 75.00 %"]


@pytest.mark.parametrize("what", LINES)
def test_what_is_wrong_is_one_line(tmp_path: Path, what: str) -> None:
    parts, options, line = LINES[what]
    lines = said(tmp_path, *parts, **options)
    assert [text for text in lines if text.startswith(line)] or lines == line


def test_captions_are_measured_as_questions_are(tmp_path: Path) -> None:
    captions = {"question": [], "answer": [], "caption": ["a red circle on the left side", "a", "b", "c"]}
    parts = rows(**captions), rows(100, **captions)
    lines = said(tmp_path, *parts, model_backend="januspro", task="t2i", max_q_len=3)
    assert lines[0].startswith("1 of 4 training captions are longer than --max_q_len 3: the model sees the beginning")


def test_texts_that_are_cut_are_told_with_the_limit_that_takes_all(tmp_path: Path) -> None:
    texts = {"question": [], "answer": [], "captions": [["a red circle", "a blue circle on the left side"], ["a"]] * 2}
    parts = rows(**texts), rows(100, **texts)
    options: dict[str, Any] = {"model_backend": "januspro", "task": "i2t"}
    lines = said(tmp_path, *parts, **options, max_a_len=3)
    cut = "of 4 {} texts are longer than --max_a_len 3: what is learnt and written ends there, and --max_a_len 4 would"
    assert lines[0].startswith(f"2 {cut.format('training')} take all")
    assert lines[1].startswith(f"2 {cut.format('evaluation')} take all")
    assert lines[2] == "2 training images have several texts: the first is learnt, --train_answers all takes each"
    lines = said(tmp_path / "all", *parts, **options, max_a_len=4, train_answers="all")
    assert [line.split(" longer")[0] for line in lines] == [f"2 of 6 {kind} texts are" for kind in PARTS]
    assert said(tmp_path / "fits", *parts, **options, max_a_len=8, train_answers="all") == []
    report = look(tmp_path / "facts", *parts, **options)
    assert (report.eval.best_score, dict(report.eval.references)) == (None, {1: 2, 2: 2})


def test_an_image_that_can_not_be_read_is_found_before_a_run(tmp_path: Path) -> None:
    broken = {"bytes": b"\x89PNG\r\n\x1a\n and no more", "path": None}
    train = rows().cast_column("image", Dataset.from_dict({"image": [picture(0)]}).features["image"])
    images = [*train.cast_column("image", type(train.features["image"])(decode=False))["image"][:3], broken]
    train = Dataset.from_dict({**train.remove_columns("image").to_dict(), "image": images}, features=train.features)
    with pytest.raises(
        FedummError, match=r"1 of 8 rows can't be used \(counted from 0\):\n  training row 3: the image can't be read: "
    ):
        look(tmp_path, train)
    report = look(tmp_path, train, skip_bad=1)
    assert report.train.rows.samples == 3
    assert list(report.train.rows.bad) == [3]


def test_of_many_images_some_are_opened_unless_features_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_check, "OPENED", 2)
    assert "2 images of each split were opened" in said(tmp_path, rows())[-1]
    assert said(tmp_path, rows(), feature_cache="off") == []


def test_a_close_look_tells_kinds_and_sizes(tmp_path: Path) -> None:
    report = look(tmp_path, rows(), closely=True)
    assert report.train.kinds == {"PNG RGB": 4}
    assert report.train.pixels == "8 x 6"


def test_contents_are_told_from_files(tmp_path: Path) -> None:
    """Three files of one picture are three images, of one content."""
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(4):
        picture(min(number, 1)).save(folder / f"{number}.png")
    lines = ["image,question,answer", *(f"{number}.png,what?,red" for number in range(4))]
    (folder / "train.csv").write_text("\n".join(lines))
    (folder / "test.csv").write_text("\n".join(lines[:2]))
    config = config_for(tmp_path, dataset=str(folder))
    report = check_data(config, data_to_check(config, nobody, True), nobody, closely=True)
    assert (report.train.images, report.train.contents) == (4, 2)
    assert report.overlap == 1


def test_the_report_is_plain_json(tmp_path: Path) -> None:
    report = look(tmp_path, rows(answer=["MRI", "mri", None, "x"]), rows(1), skip_bad=1)
    report.save(tmp_path)
    read = json.loads((tmp_path / "data.json").read_text())
    assert read["train"]["rows"]["bad"] == {"2": "has no answer"}
    assert read["overlap"] == 2
    assert read["train"]["alike"] == [["MRI", "mri"]]
    assert not re.search(r"\bCounter\b", json.dumps(read))
