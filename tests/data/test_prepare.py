"""Which rows become samples: what is left out, bad or repeated, images that are the same, rows to evaluate on."""

from __future__ import annotations

import hashlib
import io
import tracemalloc
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from fedumm.config import FederateConfig
from fedumm.data import DataRequest, DataSplits, columns
from fedumm.data.columns import beside
from fedumm.data.places import Places
from fedumm.data.prepare import overlap, prepare
from fedumm.data.splits import chosen
from fedumm.errors import FedummError
from fedumm.tasks import T2I, VQA
from fedumm.training.data import partition_for

BLIP = ("image", *VQA.columns)
UNIFIED = {VQA.name: 1, T2I.name: 1}


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((4, 4, 3), (number % 256, number // 256, 7), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def table(images: list[int], **columns: list[Any]) -> Dataset:
    """Rows with pictures of these numbers, a question and an answer, unless ``columns`` has others."""
    given = {
        "image": [{"bytes": png(n), "path": None} for n in images],
        "question": [f"what is {row}?" for row in range(len(images))],
        "answer": ["red"] * len(images),
        **columns,
    }
    given = {name: values for name, values in given.items() if values}
    kinds = {
        name: Dataset.from_dict({name: values}).features[name] for name, values in given.items() if name != "image"
    }
    return Dataset.from_dict(given, features=Features({"image": Image(), **kinds}))


def samples(train: Dataset, test: Dataset | None = None, **request: Any) -> DataSplits:
    asked = DataRequest(**{"columns": BLIP, **request})
    return prepare(DataSplits(train, train if test is None else test), asked, Places(), "x")


def content(rows: Dataset) -> list[str]:
    stored = rows.cast_column("image", Image(decode=False))
    return [hashlib.sha256(row["image"]["bytes"]).hexdigest() for row in stored]


# images


def test_a_picture_in_a_column_of_another_name_is_asked_for() -> None:
    with pytest.raises(FedummError, match=r"--dataset x has no column image\. It has: .*--columns image="):
        samples(table([1, 2]).rename_column("image", "slide"), open_images=-1)


@pytest.mark.parametrize("ids", ["no column", "img_id", "nulls", "image_id"])
def test_no_client_trains_on_an_image_that_is_held_out(ids: str) -> None:
    """Two questions an image, whatever the column is called that tells images apart, if there is one."""
    images = [row // 2 for row in range(60)]
    names: dict[str, dict[str, list[Any]]] = {
        "no column": {},
        "img_id": {"img_id": images},
        "nulls": {"image_id": [None] * 60},
        "image_id": {"image_id": [f"i{number}" for number in images]},
    }
    rows = samples(table(images, **names[ids])).train
    config = FederateConfig(model_backend="blip_vqa", num_clients=3, dirichlet_alpha=0.5)
    partition, _ = partition_for(config, rows, ["site-1", "site-2", "site-3"])
    shown = content(rows)
    trained = {shown[i] for share in partition.shares.values() for i in share.train}
    held = [shown[i] for share in partition.shares.values() for i in share.heldout]
    assert len(held) == 6
    assert not trained & set(held)


def test_null_is_no_image_that_rows_share() -> None:
    rows = samples(table(list(range(30)), image_id=[None] * 30)).train
    assert len(set(rows["image_id"])) == 30
    mixed = samples(table([0, 1, 1, 2], image_id=["a", None, None, "a"])).train["image_id"][:]
    assert mixed[0] == mixed[3] == "a"
    assert mixed[1] == mixed[2] != "a"


def test_files_are_images_of_their_own_whatever_way_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    (tmp_path / "link.png").symlink_to(tmp_path / "0.png")
    names = ["0.png", "./0.png", "sub/../0.png", "link.png", "1.png"]
    raw = Dataset.from_dict({"image": names, "question": ["?"] * 5, "answer": ["a"] * 5})
    splits = prepare(DataSplits(raw, raw), DataRequest(columns=BLIP), Places(tmp_path), "x")
    assert len(set(splits.train["image_id"][:4])) == 1
    assert len(set(splits.train["image_id"])) == 2
    assert splits.reports[0].identity == "their files"


@pytest.mark.parametrize(
    ("column", "identity"), [({}, "their content (SHA-256)"), ({"imgid": ["a", "b"]}, "the column imgid")]
)
def test_how_images_are_told_apart_is_told(column: dict[str, Any], identity: str) -> None:
    assert [report.identity for report in samples(table([0, 1], **column)).reports] == [identity] * 2


def test_images_in_both_splits_are_found_by_content_and_left_out_if_asked() -> None:
    train, test = table([0, 1, 2, 1], image_id=["a", "b", "c", "d"]), table([1, 9], image_id=["a", "z"])
    kept = samples(train, test)
    assert overlap(kept.train, kept.eval) == [1, 3]
    assert kept.train.num_rows == 4
    dropped = samples(train, test, drop_overlap=True)
    assert dropped.train["image_id"][:] == ["a", "c"]
    assert dropped.reports[0].left_out == {"samples whose image is evaluated on, too": 2}
    with pytest.raises(FedummError, match="no training rows are left"):
        samples(train, train, drop_overlap=True)


# rows that are not used


def test_rows_without_a_question_are_left_out_and_counted() -> None:
    splits = samples(table([0, 1, 2, 3], question=["a?", None, " ", "b?"]))
    assert splits.train["question"][:] == ["a?", "b?"]
    assert splits.train["source_row"][:] == [0, 3]
    assert splits.reports[0].left_out == {"rows without a question": 2}
    assert (splits.reports[0].given, splits.reports[0].samples) == (4, 2)


def test_all_bad_rows_are_listed_at_once() -> None:
    train = table([0, 1, 2], answer=["a", " ", "b"])
    test = table([0, 1], answer=[None, "a"])
    with pytest.raises(FedummError) as caught:
        samples(train, test)
    assert str(caught.value).splitlines() == [
        "--dataset x: 2 of 5 rows can't be used (counted from 0):",
        "  training row 1: has no answer",
        "  evaluation row 0: has no answer",
        "Repair or remove them, or go on without them: --skip_bad 2",
    ]


def test_of_many_bad_rows_the_first_are_listed() -> None:
    rows = table(list(range(30)), answer=[" "] * 29 + ["a"])
    with pytest.raises(FedummError) as caught:
        samples(rows)
    lines = str(caught.value).splitlines()
    assert len(lines) == 23
    assert lines[-2:] == ["  and 38 more", "Repair or remove them, or go on without them: --skip_bad 58"]


@pytest.mark.parametrize(("allowed", "good"), [(1, False), (2, True), (3, True)])
def test_bad_rows_are_skipped_up_to_a_number(allowed: int, good: bool) -> None:
    rows, test = table([0, 1, 2], answer=["a", None, "  "]), table([5])
    if not good:
        with pytest.raises(FedummError, match="2 of 4 rows"):
            samples(rows, test, skip_bad=allowed)
        return
    splits = samples(rows, test, skip_bad=allowed)
    assert splits.train["source_row"][:] == [0]
    assert splits.reports[0].bad == {1: "has no answer", 2: "has no answer"}


def test_nothing_left_is_an_error_also_where_all_may_be_skipped() -> None:
    with pytest.raises(FedummError, match="no training rows are left"):
        samples(table([0], answer=[" "]), table([1]), skip_bad=5)


def test_rows_of_one_language() -> None:
    rows = table([0, 1, 2, 3], q_lang=["en", "zh", "en-GB", None])
    splits = samples(rows, language="en")
    assert splits.train["source_row"][:] == [0, 2]
    assert splits.reports[0].left_out == {"rows in another language": 2}
    with pytest.raises(FedummError, match=r"--language fr: the training rows are in: en, en-gb, none, zh\."):
        samples(rows, language="fr")
    with pytest.raises(FedummError, match="has no column language, lang or q_lang"):
        samples(table([0]), language="en")


# one split


def test_a_column_divides_one_table_without_copying_it() -> None:
    images = [{"bytes": bytes(1_000_000), "path": None}] * 6
    table_of_all = table([0, 1, 2, 3, 4, 5], image=images, split=["train", "test", "train", "train", "test", "train"])
    held = pa.total_allocated_bytes()
    raw = chosen({"train": lambda: table_of_all}, DataRequest(columns=BLIP, max_train_samples=3), "x")
    splits = prepare(raw, DataRequest(columns=BLIP, max_train_samples=3), Places(), "x")
    assert splits.train["source_row"][:] == [0, 2, 3]
    assert splits.eval["source_row"][:] == [1, 4]
    assert [report.given for report in splits.reports] == [4, 2]
    assert pa.total_allocated_bytes() - held < 1_000_000


def test_of_one_split_a_share_of_the_images_is_to_evaluate_on() -> None:
    images = [row // 4 for row in range(80)]
    asked = DataRequest(columns=BLIP)
    splits = prepare(DataSplits(table(images), None), asked, Places(), "x")
    train, test = Counter(splits.train["image_id"]), Counter(splits.eval["image_id"])
    assert set(test.values()) == set(train.values()) == {4}
    assert len(test) == 2
    assert not train.keys() & test.keys()
    again = prepare(DataSplits(table(images), None), asked, Places(), "x")
    assert again.eval["source_row"][:] == splits.eval["source_row"][:]
    limited = prepare(
        DataSplits(table(images), None),
        DataRequest(columns=BLIP, max_train_samples=5, max_eval_samples=3, eval_fraction=0.5), Places(), "x",
    )  # fmt: skip
    assert (limited.train.num_rows, limited.eval.num_rows) == (5, 3)


def test_each_task_is_evaluated_and_trained_on() -> None:
    """Three images with a question, forty with a caption: among the tenth there is none with a question by chance."""
    count = 43
    raw = table(
        list(range(count)),
        question=["what?"] * 3 + [None] * 40,
        answer=["red"] * 3 + [None] * 40,
        caption=[None] * 3 + [f"caption {n}" for n in range(40)],
    )
    request = DataRequest(columns=(*BLIP, "caption"), mix=UNIFIED)
    splits = prepare(DataSplits(raw, None), request, Places(), "x")
    for rows in (splits.train, splits.eval):
        assert set(rows["task"]) == {VQA.name, T2I.name}
    assert not set(splits.train["image_id"]) & set(splits.eval["image_id"])
    with pytest.raises(FedummError, match="too few images with a question"):
        prepare(DataSplits(raw.select(range(2, count)), None), request, Places(), "x")


def test_of_one_split_a_limit_counts_rows_as_of_two() -> None:
    raw = table(list(range(12)), question=[], answer=[], caption=[[f"{n} a", f"{n} b", f"{n} c"] for n in range(12)])
    request = DataRequest(columns=("image", "caption"), mix={T2I.name: 1}, max_train_samples=4)
    one, two = (prepare(DataSplits(raw, test), request, Places(), "x") for test in (None, raw))
    assert one.train.num_rows == two.train.num_rows == 12
    assert len(set(one.train["source_row"])) == 4


def test_a_limit_of_fewer_samples_than_tasks_is_one_line() -> None:
    raw = table([0, 1], caption=["a", "b"])
    with pytest.raises(FedummError, match="1 samples are too few for 2 tasks"):
        samples(raw, columns=(*BLIP, "caption"), mix=UNIFIED, max_train_samples=1)


def test_a_row_that_is_skipped_is_skipped_for_every_task() -> None:
    raw = table([0, 1, 2], answer=["red", None, "blue"], caption=[["a"], ["b"], [" "]])
    splits = samples(raw, table([5], caption=["c"]), columns=(*BLIP, "caption"), mix=UNIFIED, skip_bad=2)
    assert set(splits.train["source_row"]) == {0}
    assert set(splits.reports[0].bad) == {1, 2}


def test_rows_of_either_task_are_not_left_out_rows() -> None:
    raw = table([0, 1, 2], question=["a?", None, None], answer=["x", None, None], caption=[None, "b", None])
    report = samples(raw, columns=(*BLIP, "caption"), mix=UNIFIED).reports[0]
    assert report.left_out == {"rows without a question and without a caption": 1}


def test_one_image_can_not_be_split() -> None:
    with pytest.raises(FedummError, match="has a single image"):
        prepare(DataSplits(table([3, 3]), None), DataRequest(columns=BLIP), Places(), "x")


# captions and columns


def test_every_caption_of_a_list_is_a_sample_in_its_place() -> None:
    raw = table([0, 1, 2], question=[], answer=[], caption=[["a", "b", "a"], ["c"], ["d", "e"]])
    splits = samples(raw, columns=("image", "caption"), mix={T2I.name: 1})
    assert splits.train["caption"][:] == ["a", "b", "c", "d", "e"]
    assert splits.train["source_row"][:] == [0, 0, 1, 2, 2]
    assert content(splits.train) == [content(raw)[row] for row in (0, 0, 1, 2, 2)]
    assert splits.reports[0].left_out == {"captions that repeat one of the same image": 1}


def test_class_labels_of_types_are_names() -> None:
    rows = table([0, 1], answer_type=[1, 0]).cast_column("answer_type", ClassLabel(names=["closed", "open"]))
    assert samples(rows).train["answer_type"][:] == ["open", "closed"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12), st.integers(1, 6))
def test_rows_by_number_with_columns_beside(numbers: list[int], part: int) -> None:
    rows = Dataset.from_dict({"x": list("abcde"), "y": range(5)})
    made = [str(place) for place in range(len(numbers))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "ROWS", part)
        chosen = beside(rows, ["x"], numbers, {"made": made, "answers": [[text] for text in made]})
    assert chosen["x"][:] == ["abcde"[n] for n in numbers]
    assert chosen["made"][:] == made
    assert chosen["answers"][:] == [[text] for text in made]
    assert chosen.column_names == ["x", "made", "answers"]


def test_many_rows_are_not_all_objects_of_python_at_once() -> None:
    """20,000 rows of ten answers: each as a list of texts of its own, 13 MB."""
    words = ["yes", "no", "a red bus", "3", "playing tennis"]
    answers = [[words[(row + place) % 5] for place in range(10)] for row in range(20_000)]
    rows = Dataset.from_dict({"question": [f"{row}?" for row in range(20_000)], "answers": answers})
    tracemalloc.start()
    try:
        splits = samples(rows, rows.select(range(10)), columns=VQA.columns)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert splits.train["answers"][19_999] == answers[19_999]
    assert peak < 20e6


def test_nothing_is_written_and_no_image_is_copied(tmp_path: Path) -> None:
    """Where rows are left out, and captions repeat: the images stay in the file that is mapped."""
    from datasets import load_from_disk

    count, size = 40, 500_000
    noise = np.random.default_rng(0).integers(0, 256, (count, size), np.uint8)
    raw = Dataset.from_dict(
        {
            "image": [{"bytes": row.tobytes(), "path": None} for row in noise],
            "question": [None if row % 7 == 3 else "what?" for row in range(count)],
            "answers": [["a", "b"]] * count,
            "caption": [["x", "x", "y"]] * count,
            "image_id": list(range(count)),
        },
        features=Features(
            {"image": Image(), "question": Value("string"), "answers": List(Value("string")),
             "caption": List(Value("string")), "image_id": Value("int64")}
        ),
    )  # fmt: skip
    raw.save_to_disk(str(tmp_path / "set"))
    del raw
    before = sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "set").iterdir())
    rows = load_from_disk(str(tmp_path / "set"))
    held = pa.total_allocated_bytes()
    splits = samples(rows, columns=(*BLIP, "caption"), mix=UNIFIED)
    assert splits.train.num_rows == 34 + 80
    assert pa.total_allocated_bytes() - held < size
    assert sorted((path.name, path.stat().st_mtime_ns) for path in (tmp_path / "set").iterdir()) == before
