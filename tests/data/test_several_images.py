"""Rows with several images: of lists, of columns, in tables; nothing copied, and told apart all together."""

from __future__ import annotations

import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, Features, Image, List, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.data import DataRequest, DataSplits, load_data, read_image
from fedumm.data.each_picture import each_picture
from fedumm.data.image_digests import bad_images, image_digests
from fedumm.data.picture_storage import stored
from fedumm.data.pictures import with_pictures
from fedumm.data.places import Places
from fedumm.data.prepare import overlap, prepare
from fedumm.errors import FedummError
from fedumm.tasks import I2T, VQA
from support.pictures import encoded, noise

FILES = [encoded(noise(seed=seed, width=9 + seed)) for seed in range(6)]
DIGESTS = [hashlib.sha256(data).hexdigest() for data in FILES]
COLUMNS = ("image", *VQA.columns)
ROWS = ([0], [1, 2], [2, 3, 4], [5, 0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, data in enumerate(FILES):
        (tmp_path / f"{number}.png").write_bytes(data)
    return tmp_path


def in_lists(rows: Any = ROWS) -> Dataset:
    images = [[{"bytes": FILES[number], "path": None} for number in own] for own in rows]
    return Dataset.from_dict({"image": images}, features=Features({"image": List(Image())}))


def in_columns(rows: Any = ROWS) -> Dataset:
    names = ["image", "image_2", "image_3"]
    columns = {
        name: [{"bytes": FILES[own[place]], "path": None} if place < len(own) else None for own in rows]
        for place, name in enumerate(names)
    }
    return Dataset.from_dict(columns, features=Features(dict.fromkeys(names, Image())))


def asked(rows: Dataset, **columns: list[Any]) -> Dataset:
    for name, values in {"question": ["?"] * len(rows), "answer": ["a"] * len(rows), **columns}.items():
        rows = rows.add_column(name, values)
    return rows


def samples(train: Dataset, test: Dataset | None, **request: Any) -> DataSplits:
    wanted = DataRequest(**{"columns": COLUMNS, "several_images": True, **request})
    return prepare(DataSplits(train, test), wanted, Places(), "x")


def shown(rows: Any) -> list[list[str]]:
    """The digests of each row's images."""
    pictures = each_picture(rows)
    digests = image_digests(pictures.rows)
    return [[digests[number] for number in own] for own in pictures.of_rows()]


WAYS = {
    "lists": in_lists(),
    "columns": in_columns(),
    "lists of names": Dataset.from_dict({"image": [[f"{number}.png" for number in own] for own in ROWS]}),
    "padded lists": Dataset(
        pa.table({"image": pa.array([[FILES[n] for n in own] + [None] * (3 - len(own)) for own in ROWS])})
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_all_images_of_a_row_are_read_in_order(way: str, folder: Path) -> None:
    rows, bad = with_pictures(WAYS[way], Places(folder), "x", several=True)
    assert not bad
    assert shown(rows) == [[DIGESTS[number] for number in own] for own in ROWS]
    pictures = each_picture(rows)
    for number, digest in enumerate(image_digests(pictures.rows)):
        wanted = noise(seed=DIGESTS.index(digest), width=9 + DIGESTS.index(digest))
        assert read_image(pictures.rows, number).tobytes() == wanted.tobytes()
    order = [3, 1, 1]
    assert shown(rows.select(order)) == [[DIGESTS[number] for number in ROWS[row]] for row in order]


@given(
    st.lists(st.none() | st.lists(st.none() | st.binary(max_size=4), max_size=4), max_size=8),
    st.sampled_from(["list", "large list", "fixed", "structs"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 4),
)
@settings(max_examples=200, deadline=None)
def test_entries_are_taken_as_python_takes_them(values: Any, kind: str, start: int, cut: int, number: int) -> None:
    if kind == "fixed":
        values = [None if value is None else (value * 2 + [None, None])[:2] for value in values]
    one = pa.struct({"bytes": pa.binary(), "path": pa.string()}) if kind == "structs" else pa.binary()
    given = values
    if kind == "structs":
        given = [
            None if value is None else [None if v is None else {"bytes": v, "path": "x"} for v in value]
            for value in values
        ]
    types = {"large list": pa.large_list(one), "fixed": pa.list_(one, 2)}
    array = pa.array(given, types.get(kind, pa.list_(one)))[start : len(values) - cut]
    part = stored(array, number)
    part.pictures.validate(full=True)
    for found, own in zip(part.pictures.to_pylist(), array.to_pylist(), strict=True):
        there = [entry for entry in own or [] if entry is not None]
        wanted = there[number] if number < len(there) else None
        wanted = wanted["bytes"] if isinstance(wanted, dict) else wanted
        assert (found and found["bytes"] and found["bytes"][: found["taken"]]) == wanted
    counts = [sum(entry is not None for entry in own or []) for own in array.to_pylist()]
    assert part.counts.tolist() == counts
    alone = stored(array)
    alone.pictures.validate(full=True)
    assert alone.counts.tolist() == counts
    for found, own in zip(alone.pictures.to_pylist(), array.to_pylist(), strict=True):
        there = [entry for entry in own or [] if entry is not None]
        wanted = (there[0]["bytes"] if kind == "structs" else there[0]) if len(there) == 1 else None
        assert (found and found["bytes"] and found["bytes"][: found["taken"]]) == wanted


def test_no_image_is_copied(tmp_path: Path) -> None:
    wide = 2**20
    images = [[{"bytes": bytes([row, k]) + bytes(wide), "path": None} for k in range(3)] for row in range(4)]
    Dataset.from_dict({"image": images}, features=Features({"image": List(Image())})).save_to_disk(tmp_path / "data")
    raw = load_from_disk(str(tmp_path / "data"))
    gc.collect()
    before = pa.total_allocated_bytes()
    rows, bad = with_pictures(raw, Places(), "x", several=True)
    pictures = each_picture(rows)
    assert not bad
    assert len(pictures.rows) == 12
    assert pa.total_allocated_bytes() - before < 50_000


def test_what_is_missing_is_told_by_its_column(folder: Path) -> None:
    raw = Dataset.from_dict({"image": ["0.png", "1.png", ""], "image_2": ["gone.png", "", "2.png"]})
    _, bad = with_pictures(raw, Places(folder), "x", several=True)
    assert list(bad) == [0, 2]
    assert bad[0].startswith("the column image_2 names 'gone.png', and there is no such file")
    assert bad[2] == "the column image is empty"
    rows, bad = with_pictures(raw.select([1]), Places(folder), "x", several=True)
    assert not bad
    assert shown(rows) == [[DIGESTS[1]]]


@pytest.mark.parametrize("way", ["lists", "columns"])
def test_a_backend_that_reads_one_image_gets_no_row_with_several(way: str, folder: Path) -> None:
    rows, bad = with_pictures(WAYS[way], Places(folder), "x")
    assert bad == {row: f"has {count} images, and this backend reads one" for row, count in ((1, 2), (2, 3), (3, 2))}
    assert rows.column_names == ["image"]


def test_nulls_that_fill_a_list_are_no_images(folder: Path) -> None:
    raw = Dataset.from_dict({"image": [["1.png", None], [None, "2.png"], ["3.png", "4.png"], [None, None]]})
    rows, bad = with_pictures(raw, Places(folder), "x")
    assert bad == {2: "has 2 images, and this backend reads one", 3: "the column image is empty"}
    assert shown(rows.select([0, 1])) == [[DIGESTS[1]], [DIGESTS[2]]]
    rows, bad = with_pictures(raw, Places(folder), "x", several=True)
    assert list(bad) == [3]
    assert shown(rows.select([0, 1, 2])) == [[DIGESTS[1]], [DIGESTS[2]], DIGESTS[3:5]]


def test_lists_beside_columns_and_other_columns_are_refused(folder: Path) -> None:
    both = in_lists().add_column("image_2", ["0.png"] * 4)
    with pytest.raises(FedummError, match="put all in one way"):
        with_pictures(both, Places(folder), "x", several=True)
    with pytest.raises(FedummError, match="the column image_2 holds int64, not images"):
        with_pictures(
            in_columns([[0]]).remove_columns("image_2").add_column("image_2", [7]), Places(), "x", several=True
        )
    hidden = Dataset.from_dict({"image": ["0.png"], "image_2": [["1.png", "2.png"]]})
    with pytest.raises(FedummError, match="image_2 holds lists"):
        with_pictures(hidden, Places(folder), "x", several=True)
    with pytest.raises(FedummError, match="a row has 100 images; 99 is the limit"):
        with_pictures(Dataset.from_dict({"image": [["0.png"] * 100]}), Places(folder), "x", several=True)


def test_rows_that_share_an_image_are_never_trained_on_and_evaluated() -> None:
    """1 and 2 share an image, 2 and 3 another one: all three are on one side of a data set with one split."""
    rows = asked(in_columns([[0, 1], [1, 2], [2, 3], [4], [5]]))
    for fraction in (0.2, 0.4, 0.6):
        splits = samples(rows, None, eval_fraction=fraction)
        train, test = ({image for own in shown(part) for image in own} for part in (splits.train, splits.eval))
        assert not train & test
        assert len(splits.train) + len(splits.eval) == 5
    names = samples(rows, rows).train["image_id"][:]
    assert len({*names[:3]}) == 1
    assert len({*names}) == 3


def test_overlap_counts_every_image() -> None:
    train, test = (samples(asked(in_columns(own)), asked(in_columns([[5]]))) for own in ([[0, 1], [2], [3, 4]], [[4]]))
    assert overlap(train.train, test.train) == [2]
    dropped = samples(asked(in_lists([[0, 1], [2, 5], [3, 4]])), asked(in_lists([[5, 3]])), drop_overlap=True)
    assert shown(dropped.train) == [DIGESTS[:2]]


def test_texts_of_the_same_images_are_one_sample_and_of_others_another() -> None:
    rows = in_columns([[0, 1], [0, 1], [0, 2]]).add_column("report", ["a", "b", "c"]).rename_column("report", "text")
    made = samples(rows, rows, columns=("image", *I2T.columns), mix={I2T.name: 1}).train
    assert made["texts"][:] == [["a", "b"], ["c"]]
    assert len(set(made["image_id"][:])) == 1


def test_a_bad_image_is_told_with_the_row_of_the_data() -> None:
    broken = [{"bytes": b"no image", "path": None}, None]
    rows = in_columns([[0], [1]]).remove_columns(["image_2", "image_3"])
    rows = rows.add_column("image_2", [None, broken[0]], feature=Image())
    with pytest.raises(FedummError, match="training row 1: the image can't be read"):
        samples(asked(rows), asked(in_columns([[5]])), open_images=-1)
    kept = each_picture(samples(asked(rows), asked(in_columns([[5]]))).train).rows
    assert list(bad_images(kept)) == [2]
    with pytest.raises(FedummError, match=r"\(row 1 of the data, image_id"):
        read_image(kept, 2)


@pytest.mark.parametrize("kind", ["csv", "json", "lists"])
def test_tables_name_several_images(kind: str, folder: Path) -> None:
    (folder / "images").mkdir()
    for number in range(6):
        (folder / f"{number}.png").rename(folder / "images" / f"{number}.png")
    if kind == "csv":
        lines = [
            "image,image_2,question,answer",
            *(f"{n}.png,{n + 1}.png,is it?,yes" for n in range(4)),
            "5.png,,is it?,no",
        ]
        (folder / "train.csv").write_text("\n".join(lines))
        (folder / "val.csv").write_text("image,image_2,question,answer\n5.png,,is it?,no\n")
    else:
        images = [[f"{n}.png", f"{n + 1}.png"] for n in range(4)] + [["5.png"]]
        for split, own in (("train", images), ("val", images[4:])):
            keys = "images" if kind == "lists" else "image"
            (folder / f"{split}.json").write_text(
                json.dumps([{keys: i, "question": "is it?", "answer": "yes"} for i in own])
            )
    splits = load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True))
    assert shown(splits.train) == [[DIGESTS[n], DIGESTS[n + 1]] for n in range(4)] + [[DIGESTS[5]]]


def test_columns_may_be_named(folder: Path) -> None:
    (folder / "train.csv").write_text("frontal,lateral,question,answer\n0.png,1.png,is it?,yes\n2.png,,is it?,no\n")
    (folder / "val.csv").write_text("frontal,lateral,question,answer\n3.png,,is it?,yes\n")
    names = {"image": "frontal", "image_2": "lateral"}
    splits = load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True, column_names=names))
    assert shown(splits.train) == [DIGESTS[:2], [DIGESTS[2]]]


def test_prepared_rows_may_be_saved(tmp_path: Path) -> None:
    rows, _ = with_pictures(in_lists(), Places(), "x", several=True)
    rows.save_to_disk(tmp_path / "saved")
    assert shown(load_from_disk(str(tmp_path / "saved"))) == [[DIGESTS[number] for number in own] for own in ROWS]


def test_lists_of_several_lists_are_bad_rows(folder: Path) -> None:
    raw = Dataset.from_dict({"image": [[["0.png", "1.png"], ["2.png"]], [["3.png", "4.png"]], [["5.png"]]]})
    rows, bad = with_pictures(raw, Places(folder), "x", several=True)
    assert list(bad) == [0]
    assert shown(rows.select([1, 2])) == [DIGESTS[3:5], [DIGESTS[5]]]


def test_a_name_of_images_joins_rows_and_parts_no_images(folder: Path) -> None:
    """Two pairs of one name are two samples; rows of other names that share a second image are one group."""
    rows = (
        in_columns([[0, 1], [0, 2]]).add_column("text", ["nothing changed", "a car"]).add_column("image_id", ["a", "a"])
    )
    made = samples(rows, rows, columns=("image", *I2T.columns), mix={I2T.name: 1}).train
    assert made["texts"][:] == [["nothing changed"], ["a car"]]
    assert len(set(made["image_id"][:])) == 1
    shared = asked(in_columns([[0, 5], [1, 5], [2]])).add_column("image_id", ["a", "b", "c"])
    names = samples(shared, shared).train["image_id"][:]
    assert names[0] == names[1] != names[2]


def test_an_official_split_by_folders_holds_for_lists(folder: Path) -> None:
    for number, split in enumerate(["train", "train", "train", "train", "test", "test"]):
        (folder / split).mkdir(exist_ok=True)
        (folder / f"{number}.png").rename(folder / split / f"{number}.png")
    entries = [["train/0.png", "train/1.png"], ["train/2.png"], ["train/3.png"], ["test/4.png", "test/5.png"]]
    lines = [json.dumps({"image": own, "question": "?", "answer": "a"}) for own in entries]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    splits = load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True))
    assert shown(splits.eval) == [DIGESTS[4:]]
    (folder / "metadata.jsonl").write_text("\n".join([*lines, lines[0].replace("train/1.png", "test/4.png")]))
    with pytest.raises(FedummError, match="the pictures of row 4 lie in several splits"):
        load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True))


@pytest.mark.parametrize("kind", [pa.large_list(pa.string()), pa.list_(pa.large_string()), pa.list_(pa.string(), 2)])
def test_lists_of_other_kinds_in_parquet_are_found_too(kind: Any, folder: Path) -> None:
    (folder / "images").mkdir()
    for number in range(6):
        (folder / f"{number}.png").rename(folder / "images" / f"{number}.png")
    for split, own in (("train", [["0.png", "1.png"], ["2.png", "3.png"]]), ("test", [["4.png", "5.png"]])):
        columns = {"image": pa.array(own, kind), "question": ["?"] * len(own), "answer": ["a"] * len(own)}
        pq.write_table(pa.table(columns), folder / f"{split}.parquet")
    splits = load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True))
    assert shown(splits.train) == [DIGESTS[:2], DIGESTS[2:4]]


def test_a_further_image_of_another_name_is_told(folder: Path) -> None:
    (folder / "train.csv").write_text("image,image2,question,answer\n0.png,1.png,is it?,yes\n")
    (folder / "val.csv").write_text("image,image2,question,answer\n3.png,4.png,is it?,yes\n")
    splits = load_data(str(folder), DataRequest(columns=COLUMNS, several_images=True))
    notes = [note for report in splits.reports for note in report.notes]
    assert any("the column image2 is not read: --columns image_2=image2" in note for note in notes)


def test_rows_in_a_chain_are_one_group_and_the_message_says_so() -> None:
    with pytest.raises(FedummError, match="joined by images which they share"):
        samples(asked(in_columns([[k, k + 1] for k in range(5)])), None)
