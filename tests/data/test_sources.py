"""Data sources by name, from folders and of a user's own: the right rows, and clear errors."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import easy_vqa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict, disable_progress_bars
from PIL import Image

from fedumm.data import DataRequest, DataSplits, available_sources, load_data, read_image, register_source
from fedumm.errors import FedummError
from support.rows import digests

BLIP = ("image", "question", "multiple_choice_answer", "answers")
TEXTS = ("question", "multiple_choice_answer", "answers")
SHAPES = {"circle", "rectangle", "triangle"}
BOTH = {"vqa": 5, "t2i": 4}


@pytest.fixture(scope="module", autouse=True)
def _no_bars() -> None:
    disable_progress_bars()


def test_importing_the_data_layer_loads_no_library() -> None:
    code = "import sys, fedumm.data; print(sorted({'datasets', 'torch', 'huggingface_hub', 'PIL'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


# easy_vqa


@pytest.fixture(scope="module")
def easy() -> DataSplits:
    return load_data("easy_vqa", DataRequest(columns=BLIP))


def packaged(split: str) -> list[tuple[str, str, int]]:
    """Question, answer and image number, from the package's file."""
    file = Path(easy_vqa.__file__).parent / "data" / split / "questions.json"
    return [tuple(entry) for entry in json.loads(file.read_text())]


@pytest.mark.parametrize(("split", "count"), [("train", 38_575), ("eval", 9_673)])
def test_easy_vqa_is_the_package_row_by_row(easy: DataSplits, split: str, count: int) -> None:
    source = "test" if split == "eval" else split
    rows, raw = getattr(easy, split), packaged(source)
    assert len(rows) == len(raw) == count
    assert rows["question"][:] == [question for question, _, _ in raw]
    assert rows["multiple_choice_answer"][:] == [answer for _, answer, _ in raw]
    assert rows["answers"][:] == [[answer] for _, answer, _ in raw]
    assert rows["image_id"][:] == [f"{source}-{image}" for _, _, image in raw]


@pytest.mark.parametrize("split", ["train", "eval"])
def test_easy_vqa_answer_types(easy: DataSplits, split: str) -> None:
    answers = [answer for _, answer, _ in packaged("test" if split == "eval" else split)]
    known = set((Path(easy_vqa.__file__).parent / "data" / "answers.txt").read_text().split())
    assert set(answers) == known
    assert len(known) == 13
    yes_no, shape = (sum(answer in few for answer in answers) for few in ({"yes", "no"}, SHAPES))
    expected = {"yes/no": yes_no, "shape": shape, "color": len(answers) - yes_no - shape}
    assert Counter(getattr(easy, split)["answer_type"][:]) == expected


def test_easy_vqa_splits_share_no_id(easy: DataSplits) -> None:
    for name, train_count, eval_count in (("image_id", 4000, 1000), ("question_id", 38_575, 9_673)):
        train, test = set(easy.train[name][:]), set(easy.eval[name][:])
        assert (len(train), len(test)) == (train_count, eval_count)
        assert not train & test


def test_easy_vqa_pictures_are_those_of_the_package(easy: DataSplits) -> None:
    folder = Path(easy_vqa.__file__).parent / "data"
    for rows in (easy.train, easy.eval):
        for row in (0, len(rows) // 2, len(rows) - 1):
            split, number = rows[row]["image_id"].split("-")
            stored = (folder / split / "images" / f"{number}.png").read_bytes()
            assert digests(rows.select([row])) == [hashlib.sha256(stored).hexdigest()]
            image = read_image(rows, row)
            assert (image.mode, image.size) == ("RGB", (64, 64))


# tasks


def test_easy_vqa_captions_say_what_its_questions_say() -> None:
    splits = load_data("easy_vqa", DataRequest(columns=("image", "caption"), mix={"t2i": 1}))
    for source, rows, images in (("train", splits.train, 4000), ("test", splits.eval, 1000)):
        answers: dict[str, set[str]] = {}
        for _, answer, image in packaged(source):
            if answer not in ("yes", "no"):
                answers.setdefault(f"{source}-{image}", set()).add(answer)
        assert len(rows) > 0.8 * images
        assert len(set(rows["image_id"])) == len(rows)
        for text, image, metadata in zip(rows["caption"], rows["image_id"], rows["geneval"], strict=True):
            words = text.split()
            # An answer about this image names its shape or its colour, and nothing else.
            assert answers.get(image, set()) <= set(words[1:])
            (clause,) = json.loads(metadata)["include"]
            assert (clause["color"], clause["class"], clause["count"]) == (words[1], words[2], 1)
            assert words[2] in SHAPES


@pytest.mark.parametrize(
    ("limit", "expected"), [(90, {"vqa": 50, "t2i": 40}), (9, {"vqa": 5, "t2i": 4}), (2, {"vqa": 1, "t2i": 1})]
)
def test_a_limit_is_shared_by_the_mix(limit: int, expected: dict[str, int]) -> None:
    request = DataRequest(columns=(*BLIP, "caption"), mix=BOTH, max_train_samples=limit, max_eval_samples=limit)
    splits = load_data("shapes", request)
    assert Counter(splits.train["task"]) == Counter(splits.eval["task"]) == expected
    questions = [row for row in splits.train.remove_columns("image").to_list() if row["task"] == "vqa"]
    alone = load_data("shapes", DataRequest(columns=BLIP, max_train_samples=expected["vqa"], max_eval_samples=2))
    assert [row["question"] for row in questions] == alone.train["question"][:]


def captioned(folder: Path, **columns: Any) -> Path:
    """A saved data set of as many 8 x 8 pictures as there are entries in a column."""
    count = len(next(iter(columns.values())))
    images = [Image.new("RGB", (8, 8), (i, 0, 0)) for i in range(count)]
    rows = Dataset.from_dict({"image": images, **columns})
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(folder))
    return folder


T2I = DataRequest(columns=("image", "caption"), mix={"t2i": 1})


@pytest.mark.parametrize(
    ("columns", "captions"),
    [
        ({"caption": ["a dog", "a cat"]}, ["a dog", "a cat"]),
        ({"text": ["a dog", "a cat"], "question": ["?", "?"]}, ["a dog", "a cat"]),
        ({"captions": [["a dog", "an animal"], ["a cat"]]}, ["a dog", "an animal", "a cat"]),
        ({"captions": [["a dog", " ", "a dog", "a pet"], ["a cat"]]}, ["a dog", "a pet", "a cat"]),
        ({"caption": ["a dog", "a dog", "a dog"], "image_id": ["1", "1", "2"]}, ["a dog", "a dog"]),
        ({"caption": ["a dog", None, "a cat"]}, ["a dog", "a cat"]),
    ],
)
def test_any_folder_with_captions_can_be_learnt_from(
    tmp_path: Path, columns: dict[str, Any], captions: list[str]
) -> None:
    rows = load_data(str(captioned(tmp_path / "data", **columns)), T2I).train
    assert rows["caption"][:] == captions
    assert set(rows["task"]) == {"t2i"}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"question": ["?"], "answer": ["!"]}, r"has no column caption\. It has: image, question, answer"),
        ({"caption": [["a dog"], [" "]]}, r"training row 1: has no caption"),
        ({"caption": [" ", ""]}, r"no training rows with a caption"),
        ({"caption": [None, None]}, r"no training rows with a caption"),
    ],
)
def test_missing_captions_are_one_clear_error(tmp_path: Path, columns: dict[str, Any], message: str) -> None:
    with pytest.raises(FedummError, match=message):
        load_data(str(captioned(tmp_path / "data", **columns)), T2I)


def test_a_row_may_have_a_question_and_a_caption(tmp_path: Path) -> None:
    folder = captioned(tmp_path / "data", question=["who?", "what?"], answer=["he", "it"], caption=["a", "b"])
    rows = load_data(str(folder), DataRequest(columns=(*BLIP, "caption"), mix=BOTH)).train
    assert rows["task"][:] == ["vqa", "vqa", "t2i", "t2i"]
    assert rows["question"][:] == ["who?", "what?", None, None]
    assert rows["caption"][:] == [None, None, "a", "b"]


# limits, names, sources of one's own


def rows_of(count: int) -> Dataset:
    return Dataset.from_dict({"question": [f"q{i}" for i in range(count)], "answer": [str(i) for i in range(count)]})


@pytest.fixture
def mine() -> None:
    """A source called ``mine``: ten rows to train on, three to evaluate on."""
    register_source("mine", lambda request: DataSplits(rows_of(10), rows_of(3)))


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("train", "test", "expected"), [(-1, -1, (10, 3)), (4, 2, (4, 2)), (10, 3, (10, 3)), (99, 99, (10, 3))]
)
def test_a_limit_keeps_the_first_rows(train: int, test: int, expected: tuple[int, int]) -> None:
    splits = load_data("mine", DataRequest(columns=TEXTS, max_train_samples=train, max_eval_samples=test))
    for rows, count in zip((splits.train, splits.eval), expected, strict=True):
        assert rows["question"][:] == [f"q{i}" for i in range(count)]


@pytest.mark.usefixtures("mine")
def test_a_registered_source_is_listed_and_gets_the_request() -> None:
    asked: list[DataRequest] = []

    def load(request: DataRequest) -> DataSplits:
        asked.append(request)
        return DataSplits(rows_of(2), rows_of(2))

    register_source("their_set", load)
    request = DataRequest(columns=TEXTS, cache_dir="somewhere", max_eval_samples=1)
    assert load_data("their_set", request).eval.num_rows == 1
    assert asked == [request]
    assert available_sources() == ["easy_vqa", "mine", "shapes", "their_set", "vqav2"]


@pytest.mark.usefixtures("mine")
def test_a_registered_source_wins_over_a_shipped_one() -> None:
    register_source("easy_vqa", lambda request: DataSplits(rows_of(1), rows_of(1)))
    assert load_data("easy_vqa", DataRequest(columns=TEXTS)).train.num_rows == 1


@pytest.mark.parametrize(
    ("name", "nearest"),
    [("easy-vqa", "easy_vqa"), ("vqa2", "vqav2"), ("shape", "shapes"), ("imagenet", ""), ("a/b/c", ""), ("./no", "")],
)
def test_an_unknown_name_is_an_error_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(FedummError) as caught:
        load_data(name, DataRequest())
    message = str(caught.value)
    assert message.startswith(
        f"--dataset {name}: not a folder or a file, not a Hub id (owner/name), and not one of easy_vqa, "
    )
    assert message.endswith(f"Did you mean {nearest!r}?" if nearest else ".")


@pytest.mark.parametrize(("train", "test", "kind"), [(0, 2, "training"), (2, 0, "evaluation")])
def test_no_rows_are_an_error(train: int, test: int, kind: str) -> None:
    register_source("none", lambda request: DataSplits(rows_of(train), rows_of(test)))
    with pytest.raises(FedummError, match=f"^--dataset none: there are no {kind} rows.$"):
        load_data("none", DataRequest(columns=TEXTS))


# folders


@pytest.mark.parametrize("evaluation", ["validation", "val", "test"])
def test_a_saved_folder_is_read_whatever_its_evaluation_split(tmp_path: Path, evaluation: str) -> None:
    DatasetDict({"train": rows_of(5), evaluation: rows_of(3)}).save_to_disk(str(tmp_path / "set"))
    splits = load_data(str(tmp_path / "set"), DataRequest(columns=TEXTS, max_train_samples=2))
    assert list(splits.train["question"]) == ["q0", "q1"]
    assert list(splits.eval["multiple_choice_answer"]) == ["0", "1", "2"]


def test_the_splits_that_a_backend_names_come_first(tmp_path: Path) -> None:
    parts = {"train": 1, "validation": 2, "test": 3, "minitrain": 4, "minival": 5}
    DatasetDict({name: rows_of(count) for name, count in parts.items()}).save_to_disk(str(tmp_path / "set"))
    default = load_data(str(tmp_path / "set"), DataRequest(columns=TEXTS))
    named = load_data(str(tmp_path / "set"), DataRequest(columns=TEXTS, train_split="minitrain", eval_split="minival"))
    assert [rows.num_rows for rows in (default.train, default.eval, named.train, named.eval)] == [1, 2, 4, 5]


def test_a_folder_in_the_home_directory_may_be_written_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DatasetDict({"train": rows_of(2), "test": rows_of(1)}).save_to_disk(str(tmp_path / "set"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_data("~/set", DataRequest(columns=TEXTS)).train.num_rows == 2


def test_a_folder_of_files_is_read_through_the_cache_directory(tmp_path: Path) -> None:
    folder, cache = tmp_path / "set", tmp_path / "cache"
    folder.mkdir()
    for split, count in (("train", 4), ("test", 2)):
        rows = rows_of(count).add_column("image", [b""] * count)
        pq.write_table(rows.data.table, folder / f"{split}.parquet")
    splits = load_data(str(folder), DataRequest(columns=TEXTS, cache_dir=str(cache)))
    assert (splits.train.num_rows, splits.eval.num_rows) == (4, 2)
    assert list(cache.rglob("*.arrow"))


def save_without_splits(folder: Path) -> None:
    rows_of(2).save_to_disk(str(folder))


def save_train_only(folder: Path) -> None:
    DatasetDict({"train": rows_of(2)}).save_to_disk(str(folder))


def save_two_for_training(folder: Path) -> None:
    DatasetDict({"train": rows_of(2), "more": rows_of(2)}).save_to_disk(str(folder))


def save_two_for_evaluation(folder: Path) -> None:
    DatasetDict({"val": rows_of(2), "test": rows_of(2)}).save_to_disk(str(folder))


def save_other_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")


def save_broken(folder: Path) -> None:
    save_train_only(folder)
    (folder / "dataset_dict.json").write_text("{")


def save_bad_lines(folder: Path) -> None:
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text('question,answer\n"open,1\n2,3,4,5\n')


FOLDERS = {
    "no evaluation among several": (save_two_for_training, "has no split validation or val or test. It has: more."),
    "no training": (save_two_for_evaluation, "has no split train. It has: val, test."),
    "empty": (Path.mkdir, "can't be read as a data set: "),
    "other files": (save_other_files, "can't be read as a data set: "),
    "broken": (save_broken, "can't be read as a data set: "),
    "bad lines": (save_bad_lines, "can't be read as a data set: "),
}


@pytest.mark.parametrize("save", [save_train_only, save_without_splits])
def test_of_one_split_a_part_is_to_evaluate_on(tmp_path: Path, save: Callable[[Path], None]) -> None:
    save(tmp_path / "set")
    splits = load_data(str(tmp_path / "set"), DataRequest(columns=TEXTS))
    assert sorted([*splits.train["question"], *splits.eval["question"]]) == ["q0", "q1"]


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_does_not_serve_is_an_error_that_names_it(tmp_path: Path, case: str) -> None:
    save, message = FOLDERS[case]
    save(tmp_path / "set")
    with pytest.raises(FedummError) as caught:
        load_data(str(tmp_path / "set"), DataRequest(columns=TEXTS, cache_dir=str(tmp_path / "cache")))
    assert str(caught.value).startswith(f"--dataset {tmp_path / 'set'} {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_folder_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="gone: not a folder"):
        load_data(str(tmp_path / "gone"), DataRequest())


@pytest.mark.parametrize(
    ("spec", "limit", "expected"),
    [
        ("validation", -1, range(10)),
        ("validation[:50%]", -1, range(5)),
        ("validation[:50%]", 3, range(3)),
        ("validation[2:6]", -1, range(2, 6)),
        ("validation[2:6]", 3, range(2, 5)),
        ("validation[-30%:]", -1, range(7, 10)),
    ],
)
def test_a_part_of_a_split_is_named_as_in_datasets(tmp_path: Path, spec: str, limit: int, expected: range) -> None:
    """The seed's example backend evaluates on ``validation[:50%]``."""
    rows = Dataset.from_dict({"question": [str(i) for i in range(10)], "answer": ["yes"] * 10})
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "set"))
    request = DataRequest(eval_split=spec, max_eval_samples=limit, columns=("question",))
    assert load_data(str(tmp_path / "set"), request).eval["question"][:] == [str(i) for i in expected]


def test_a_part_that_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"question": ["a"], "answer": ["yes"]})
    DatasetDict({"train": rows, "validation": rows}).save_to_disk(str(tmp_path / "set"))
    with pytest.raises(FedummError, match=r"'validation\[half\]' can't be read"):
        load_data(str(tmp_path / "set"), DataRequest(eval_split="validation[half]", columns=("question",)))
