"""A table beside pictures: a folder with CSV or JSON files, or one file as ``--dataset FILE``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset

from fedumm.data import DataRequest
from fedumm.data.layouts import splits_of
from fedumm.data.layouts.json_file import read_json
from fedumm.errors import FedummError
from support.layouts import jsonl, listing, load, pictures, reds, write

ROWS = [
    {"image": "1.png", "question": "What is it, then?", "answer": "a cat", "split": "train"},
    {"image": "2.png", "question": 'A "dog"?', "answer": "yes", "split": "train"},
    {"image": "3.png", "question": "Two\nlines; and more", "answer": "no", "split": "val"},
]


def quoted(rows: list[dict[str, Any]], separator: str = ",", end: str = "\n") -> str:
    lines = [list(rows[0]), *(row.values() for row in rows)]
    return "".join(separator.join('"' + str(cell).replace('"', '""') + '"' for cell in line) + end for line in lines)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {name: [row[name] for row in rows] for name in rows[0]}


FORMS: dict[str, tuple[str, Any]] = {
    "CSV": ("data.csv", quoted(ROWS)),
    "CSV of a spreadsheet": ("my data.CSV", ("\ufeff" + quoted(ROWS, ";", "\r\n")).encode()),
    "CSV with tabs": ("data.csv", quoted(ROWS, "\t")),
    "TSV": ("data.tsv", quoted(ROWS, "\t")),
    "JSON, a list": ("data.json", ROWS),
    "JSON, a list in an object": ("data.json", {"version": 2, "info": {"by": "us"}, "data": ROWS}),
    "JSON, an object for each": ("data.json", {f"q{i}": row for i, row in enumerate(ROWS)}),
    "JSON, columns": ("data.json", columns_of(ROWS)),
    "JSON of pandas": ("data.json", {c: dict(enumerate(v)) for c, v in columns_of(ROWS).items()}),
    "JSON, indented, with a mark": ("data.json", ("\ufeff" + json.dumps(ROWS, indent=2)).encode()),
    "JSON lines": ("data.jsonl", jsonl(ROWS) + "\n"),
    "JSON lines called JSON": ("data.json", jsonl(ROWS)),
}


def expect(splits: Any) -> None:
    assert splits.train["question"][:] == [row["question"] for row in ROWS[:2]]
    assert splits.train["multiple_choice_answer"][:] == ["a cat", "yes"]
    assert splits.eval["question"][:] == [ROWS[2]["question"]]
    assert (reds(splits.train), reds(splits.eval)) == ([1, 2], [3])


@pytest.mark.parametrize("place", ["", "images", "my pictures/all"])
@pytest.mark.parametrize("form", FORMS)
def test_a_file_is_read_as_it_is(tmp_path: Path, form: str, place: str) -> None:
    """Given by its name, or as the only table of its folder; the column ``split`` divides it."""
    name, content = FORMS[form]
    file = write(tmp_path / "data" / name, content)
    pictures(file.parent / place, ["1.png", "2.png", "3.png"], 1)
    before = listing(file.parent)
    expect(load(file, tmp_path / "cache"))
    expect(load(file.parent, tmp_path / "cache"))
    assert listing(file.parent) == before


@pytest.mark.parametrize("place", ["", "images", "deep/er"])
def test_a_parquet_file_is_read_as_it_is(tmp_path: Path, place: str) -> None:
    """Among more pictures than there are tables, too."""
    folder = tmp_path / "data"
    pictures(folder / place, ["1.png", "2.png", "3.png"], 1)
    Dataset.from_list(ROWS).to_parquet(folder / "rows.parquet")
    before = listing(folder)
    expect(load(folder / "rows.parquet", tmp_path / "cache"))
    expect(load(folder, tmp_path / "cache"))
    assert listing(folder) == before


def test_class_labels_in_parquet_are_their_names(tmp_path: Path) -> None:
    rows = Dataset.from_list([{**row, "answer": number % 2} for number, row in enumerate(ROWS)])
    pictures(tmp_path / "data", ["1.png", "2.png", "3.png"])
    rows.cast_column("answer", ClassLabel(names=["left", "right"])).to_parquet(tmp_path / "data" / "rows.parquet")
    assert load(tmp_path / "data", tmp_path / "cache").train["multiple_choice_answer"][:] == ["left", "right"]


def test_cells_of_csv_stay_as_they_are_written(tmp_path: Path) -> None:
    answers = ["001", "1.0", "True", "yes", "NA", "null", "1e5", " x ", "2020-01-01", "None", "٣"]
    rows = [{"image": "1.png", "question": f"q{i}", "answer": a} for i, a in enumerate(answers)]
    for split in ("train", "test"):
        write(tmp_path / "data" / f"{split}.csv", quoted(rows))
    pictures(tmp_path / "data", ["1.png"], 1)
    given = load(tmp_path / "data", tmp_path / "cache").train["multiple_choice_answer"][:]
    assert [answer.strip() for answer in given] == [answer.strip() for answer in answers]


def test_so_do_those_that_a_data_card_lists(tmp_path: Path) -> None:
    write(tmp_path / "data" / "a.csv", "image,question,answer\n1.png,who?,007\n")
    write(tmp_path / "data" / "b.csv", "image,question,answer\n1.png,who?,1.50\n")
    splits = "".join(f"  - split: {split}\n    path: {file}.csv\n" for split, file in (("train", "a"), ("test", "b")))
    card = f"configs:\n- config_name: default\n  data_files:\n{splits}"
    write(tmp_path / "data" / "README.md", f"---\n{card}---\n")
    pictures(tmp_path / "data", ["1.png"], 1)
    splits = load(tmp_path / "data", tmp_path / "cache")
    assert (splits.train["answers"][:], splits.eval["answers"][:]) == ([["007"]], [["1.50"]])


def test_numbers_and_words_in_one_column_of_json_are_texts(tmp_path: Path) -> None:
    answers = [3, "three", True, 2.5, ["a", "b"], None]
    rows = [{"image": "1.png", "question": f"q{i}", "answers": a, "split": "train"} for i, a in enumerate(answers)]
    rows[-1] |= {"answers": "last", "split": "test"}
    write(tmp_path / "data.json", rows)
    pictures(tmp_path, ["1.png"], 1)
    assert load(tmp_path / "data.json", tmp_path / "c").train["answers"][:] == [
        ["3"],
        ["three"],
        ["yes"],
        ["2.5"],
        ["a", "b"],
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.csv", "question,answer\nwäs?,ja\n".encode("latin-1"), "data.csv, line 2 is not in UTF-8: save it so"),
        ("data.csv", "question,answer\nwho?,he\n".encode("utf-16"), "data.csv, line 1 is not in UTF-8"),
        ("data.csv", "question,answer\nwho?,he,she\n", "data.csv, line 2: 3 cells, where the first line has 2"),
        ("data.csv", "question,answer\nwho?\n", "data.csv, line 2: 1 cells, where the first line has 2"),
        ("data.csv", 'question,answer\n"who?,he\nwho?,she\n', "data.csv, line 3: unexpected end of data"),
        ("data.csv", "question,answer,answer\n", "data.csv has two columns 'answer'"),
        ("data.csv", "", "data.csv has no first line with the names of columns"),
        ("data.json", "", "data.json is no JSON that can be read: it is neither a list nor an object"),
        ("data.json", '[{"question": "who?"', "data.json is no JSON that can be read: "),
        ("data.json", '[{"question": "who?"},]', "a comma before the end of a list"),
        ("data.json", '[{"a": 1}] [', "where it should end"),
        ("data.json", "[" * 100_000, "nested too deeply"),
        ("data.json", "[1, 2]", "its entry 0 is no object"),
        ("data.json", "[]", "data.json has no rows"),
        ("data.json", '{"a": [{"b": 1}], "c": [{"d": 1}]}', "holds a, c, and it is not clear which"),
        ("data.json", '[{"question": "\\ud800"}]', "surrogates not allowed"),
        ("data.xlsx", b"PK", "its ending is none of .csv, .tsv, .json"),
    ],
)
def test_a_file_that_can_not_be_read_is_one_clear_error(tmp_path: Path, name: str, content: Any, message: str) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(FedummError, match=message) as caught:
        load(file, tmp_path / "cache")
    assert str(caught.value).startswith(f"--dataset {file} can't be read as a data set: ")
    assert "\n" not in str(caught.value)


METADATA = [
    {"file_name": "1.png", "question": "who?", "answer": "he"},
    {"file_name": "2.png", "question": "what?", "answer": "it"},
]


@pytest.mark.parametrize("form", ["metadata.csv", "metadata.jsonl"])
@pytest.mark.parametrize("where", ["in each split", "for all splits"])
def test_image_folders_with_metadata(tmp_path: Path, form: str, where: str) -> None:
    folder = tmp_path / "data"
    for number, split in enumerate(("train", "validation")):
        pictures(folder / split, ["1.png", "2.png"], 1 + 2 * number)
    content = jsonl if form.endswith("jsonl") else quoted
    if where == "in each split":
        for split in ("train", "validation"):
            write(folder / split / form, content(METADATA))
    else:
        rows = [{**row, "file_name": f"{s}/{row['file_name']}"} for s in ("train", "validation") for row in METADATA]
        write(folder / form, content(rows))
    before = listing(folder)
    splits = load(folder, tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([1, 2], [3, 4])
    assert splits.columns == {"image": "file_name"}
    assert listing(folder) == before


def test_bare_names_are_looked_for_in_the_folder_of_their_split(tmp_path: Path) -> None:
    for number, split in enumerate(("train", "val")):
        write(tmp_path / f"{split}.json", [{"image": "0.jpg", "question": "?", "answers": [{"answer": "a"}]}])
        pictures(tmp_path / split, ["0.jpg"], number)
    splits = load(tmp_path, tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([0], [1])


def test_pictures_that_several_folders_have_are_not_guessed(tmp_path: Path) -> None:
    write(tmp_path / "data.csv", "image,question,answer\n0.jpg,?,a\n")
    for number, place in enumerate(("left", "right")):
        pictures(tmp_path / place, ["0.jpg"], number)
    with pytest.raises(FedummError, match=r"'0\.jpg' is in left and in right: name the folder"):
        load(tmp_path, tmp_path / "cache")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "question,answer\n", "b.json": "[]"}, r"several kinds \(a.csv, b.json\): give one of them"),
        ({"a.csv": "question,answer\n", "b.csv": "answer,key\n"}, "a.csv and b.csv have different columns"),
    ],
)
def test_tables_that_are_no_splits_are_not_guessed(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(FedummError, match=message):
        load(tmp_path, tmp_path / "cache")


def test_tables_whose_names_are_splits_come_before_others(tmp_path: Path) -> None:
    for name in ("vqa_train_1.csv", "vqa_train_2.csv", "vqa_test.csv"):
        write(tmp_path / name, f"image,question,answer\n1.png,{name},yes\n")
    write(tmp_path / "answers.csv", "answer\nyes\n")
    pictures(tmp_path / "img", ["1.png"])
    splits = load(tmp_path, tmp_path / "cache")
    assert splits.train["question"][:] == ["vqa_train_1.csv", "vqa_train_2.csv"]
    assert splits.eval["question"][:] == ["vqa_test.csv"]


@pytest.mark.parametrize("name", ["data.csv", "train.parquet", "metadata.csv"])
def test_a_changed_file_is_read_anew(tmp_path: Path, name: str) -> None:
    """As quickly after the first reading as a test can be, and of the same size."""
    folder, answers = tmp_path / "data", []
    pictures(folder, ["1.png"])
    for answer in ("one", "two"):
        rows = [{"image": "1.png", "question": "?", "answer": answer, "split": s} for s in ("train", "test")]
        if name.endswith("parquet"):
            Dataset.from_list(rows).to_parquet(folder / name)
        else:
            write(folder / name, quoted(rows))
        answers.append(load(folder, tmp_path / "cache").train["multiple_choice_answer"][0])
    assert answers == ["one", "two"]


@pytest.mark.parametrize("name", ["../secret.png", "/etc/hostname", "images/../../secret.png"])
def test_a_name_in_a_table_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    pictures(tmp_path, ["secret.png"])
    pictures(tmp_path / "data" / "images", ["1.png"])
    rows = [
        {"image": n, "question": "?", "answer": "a", "split": s} for s in ("train", "test") for n in ("1.png", name)
    ]
    write(tmp_path / "data" / "data.csv", quoted(rows))
    with pytest.raises(
        FedummError, match=r"row 1 \(data.csv, line 3\): the column image names '.*(outside|no such file)"
    ):
        load(tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize("name", ["data.csv", "dataset_coco.json", "results.csv", "VQA_RAD Dataset Public.json"])
def test_a_table_that_is_a_link_elsewhere_is_not_read(tmp_path: Path, name: str) -> None:
    secret = write(tmp_path / "elsewhere" / "secret", "image_name| comment_number| comment\n1.png| 0| a patient\n")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).symlink_to(secret)
    with pytest.raises(FedummError, match=r"its list of data files names .*leads to .*elsewhere.*outside"):
        load(tmp_path / "data", tmp_path / "cache")


def test_a_large_file_of_pandas_is_columns_and_not_a_column_for_each_row(tmp_path: Path) -> None:
    """In another order, and without what is null in it."""
    count = 3000
    columns = {
        "question": {str(row): f"q{row}" for row in reversed(range(count))},
        "answer": {str(row): "yes" for row in range(1, count)},
    }
    table = read_json(write(tmp_path / "data.json", columns))
    assert table.column_names == ["question", "answer"]
    assert table["question"].to_pylist() == [f"q{row}" for row in reversed(range(count))]
    assert table["answer"].to_pylist() == ["yes"] * (count - 1) + [None]


@pytest.mark.parametrize("name", ["data.csv", "data.jsonl", "results_20130124.token"])
@pytest.mark.parametrize("before", [3, 150_000])
def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, name: str, before: int) -> None:
    """Beyond what is read at a time, too."""
    one = {"data.csv": "who?,he", "data.jsonl": '{"question": "who?", "answer": "he"}'}.get(name, "1.jpg#0\tA man .")
    head = "question,answer" if name == "data.csv" else one
    write(tmp_path / name, "\n".join([head, *[one] * before]).encode() + b"\n" + one.encode() + b"\xe9\n")
    with pytest.raises(FedummError, match=rf"{name}, line {before + 2:,} is not in UTF-8: save it so"):
        splits_of(tmp_path, DataRequest())["train"]()


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize(("read", "other"), [("test", "labels"), ("train", "more"), ("metadata", "rows")])
def test_a_table_with_the_same_columns_is_not_left_out_in_silence(
    tmp_path: Path, read: str, other: str, ending: str
) -> None:
    rows = [{"image": "1.png", "question": "who?", "answer": "he"}]
    pictures(tmp_path, ["1.png"])
    for name, more in ((read, {}), (other, {"by": "us"})):
        own = [{**row, **more} for row in rows]
        if ending == "parquet":
            Dataset.from_list(own).to_parquet(tmp_path / f"{name}.parquet")
        else:
            content = {"csv": quoted, "json": json.dumps, "jsonl": jsonl}[ending](own)
            write(tmp_path / f"{name}.{ending}", content)
    message = (
        rf"{read}\.{ending} would be read, and {other}\.{ending}, .* would not: give one of them as --dataset FILE"
    )
    with pytest.raises(FedummError, match=message):
        load(tmp_path, tmp_path / "cache")
