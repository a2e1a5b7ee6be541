"""A column of images, in any of the ways in which people keep one: the same rows, nothing copied, nothing written."""

from __future__ import annotations

import base64
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Audio, Dataset, Features, Image, List, Value, concatenate_datasets, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.data import read_image
from fedumm.data.picture_storage import STORAGE, stored
from fedumm.data.pictures import image_paths, with_pictures
from fedumm.data.places import Places
from fedumm.errors import FedummError
from support.pictures import encoded, noise

PICTURES = [noise(seed=seed) for seed in range(6)]
FILES = [encoded(picture) for picture in PICTURES]
NAMES = [f"{number}.png" for number in range(6)]
TEXTS = [base64.b64encode(data).decode() for data in FILES]


def structs(data: list[bytes] | None = None, names: list[str] | None = None) -> list[dict[str, Any]]:
    return [{"path": names[i] if names else None, "bytes": data[i] if data else None} for i in range(6)]


def lists(values: list[Any]) -> list[list[Any]]:
    return [[value] for value in values]


BINARY, LARGE = pa.binary(), pa.large_binary()
WAYS: dict[str, pa.Array] = {
    "binary": pa.array(FILES, BINARY),
    "large binary": pa.array(FILES, LARGE),
    "binary view": pa.array(FILES, pa.binary_view()),
    "struct": pa.array(structs(FILES)),
    "struct with names": pa.array(structs(None, NAMES)),
    "struct with names of what is embedded": pa.array(structs(FILES, ["elsewhere/x.png"] * 6)),
    "struct of bytes": pa.array([{"bytes": data} for data in FILES]),
    "struct of paths": pa.array([{"path": name} for name in NAMES]),
    "struct, large": pa.array(structs(FILES), pa.struct({"bytes": LARGE, "path": pa.large_string()})),
    "struct of base64": pa.array([{"bytes": text, "path": "elsewhere/x.png"} for text in TEXTS]),
    "struct with more in it": pa.array([{"width": 9, "bytes": data, "path": None} for data in FILES]),
    "names": pa.array(NAMES),
    "names, large": pa.array(NAMES, pa.large_string()),
    "names, view": pa.array(NAMES, pa.string_view()),
    "base64": pa.array(TEXTS),
    "base64 in lines": pa.array([base64.encodebytes(data).decode() for data in FILES]),
    "data URIs": pa.array([f"data:image/png;base64,{text}" for text in TEXTS]),
    "data URIs in percents": pa.array(["data:image/png," + "".join(f"%{byte:02x}" for byte in data) for data in FILES]),
    "lists": pa.array(lists(FILES), pa.list_(BINARY)),
    "large lists": pa.array(lists(FILES), pa.large_list(LARGE)),
    "lists of a fixed size": pa.array(lists(FILES), pa.list_(BINARY, 1)),
    "lists of structs": pa.array(lists(structs(FILES))),
    "lists of names": pa.array(lists(NAMES)),
    "lists of lists": pa.array(lists(lists(FILES))),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, data in zip(NAMES, FILES, strict=True):
        (tmp_path / name).write_bytes(data)
    return tmp_path


def colours(rows: Any) -> list[bytes]:
    return [read_image(rows, row).tobytes() for row in range(len(rows))]


@pytest.mark.parametrize("way", WAYS)
def test_images_are_read_however_they_are_kept(way: str, folder: Path) -> None:
    """Also from the middle of a table, from several parts, and in another order."""
    array = WAYS[way]
    chunks = pa.chunked_array([array[:2], array[2:3], array[3:]])
    raw = Dataset(pa.table({"image": chunks, "n": list(range(6))}))
    order = [5, 0, 3, 3, 2, 1]
    for rows, wanted in ((raw, range(6)), (raw.select(order), order), (raw.select(range(2, 5)), range(2, 5))):
        found, bad = with_pictures(rows, Places(folder), "x")
        assert not bad
        assert found["n"][:] == list(wanted)
        assert colours(found) == [PICTURES[number].tobytes() for number in wanted]
        assert [row["image"].tobytes() for row in found] == colours(found)


def test_images_of_a_saved_data_set_are_read_with_their_mode(folder: Path) -> None:
    for feature in (Image(), Image(mode="L"), Image(decode=False), List(Image())):
        values: Any = lists(structs(FILES)) if isinstance(feature, List) else structs(FILES)
        raw = Dataset.from_dict({"image": values}, features=Features({"image": feature}))
        found, bad = with_pictures(raw, Places(folder), "x")
        assert not bad
        grey = isinstance(feature, Image) and feature.mode == "L"
        assert colours(found) == [(p.convert("L").convert("RGB") if grey else p).tobytes() for p in PICTURES]


def test_each_row_without_one_image_is_told_with_its_reason(folder: Path) -> None:
    (folder / "sub").mkdir()
    cases = {
        "names 'gone.png', and there is no such file": [{"path": "gone.png"}],
        "names '/etc/passwd': outside": [{"path": "/etc/passwd"}],
        "which is no file": [{"path": "sub"}],
        "is on the network": [{"path": "http://127.0.0.1/a.png"}],
        "is empty": [{"path": ""}],
        "has 3 images, and this backend reads one": [{"path": name} for name in NAMES[:3]],
        "no image": [{"path": "x" * 5000}],
    }
    values = [*cases.values(), None, [], [None], [{"path": None}], [{"path": "1.png"}]]
    array = pa.array(values, pa.list_(pa.struct({"path": pa.string(), "bytes": BINARY})))
    rows, bad = with_pictures(Dataset(pa.table({"image": array})), Places(folder), "x")
    assert list(bad) == list(range(11))
    for reason, wanted in zip(bad.values(), [*cases, *["is empty"] * 4], strict=True):
        assert wanted in reason
    assert read_image(rows, 11).tobytes() == PICTURES[1].tobytes()


def test_numbers_of_rows_are_those_of_the_rows_given(folder: Path) -> None:
    raw = Dataset.from_dict({"image": ["0.png", "gone.png", "1.png", "2.png"]}).select([3, 1, 0, 1])
    rows, bad = with_pictures(raw, Places(folder), "x")
    assert list(bad) == [1, 3]
    assert image_paths(rows) == [str(folder / "2.png"), None, str(folder / "0.png"), None]


def test_files_lie_beside_the_data_first_and_then_below_other_folders(folder: Path, tmp_path: Path) -> None:
    beside, root = folder / "beside", folder / "root"
    for place, names in ((beside, NAMES[:1]), (root, NAMES[:2])):
        place.mkdir()
        for name in names:
            (place / name).write_bytes(FILES[3] if place == root else FILES[0])
    rows, bad = with_pictures(Dataset.from_dict({"image": NAMES[:3]}), Places(beside, (root,)), "x")
    assert list(bad) == [2]
    assert image_paths(rows)[:2] == [str(beside / "0.png"), str(root / "1.png")]
    assert colours(rows.select([0, 1])) == [PICTURES[0].tobytes(), PICTURES[3].tobytes()]


def test_the_name_of_a_file_comes_before_base64(folder: Path) -> None:
    text = TEXTS[0].replace("/", "+")[:200]
    raw = Dataset.from_dict({"image": [text]})
    assert read_image_fails(with_pictures(raw, Places(folder), "x")[0])
    (folder / text).write_bytes(FILES[4])
    assert colours(with_pictures(raw, Places(folder), "x")[0]) == [PICTURES[4].tobytes()]


def read_image_fails(rows: Any) -> bool:
    with pytest.raises(FedummError, match="can't be read"):
        read_image(rows, 0)
    return True


@pytest.mark.parametrize("text", ["Qk1hZ2U", "iVBORw0KGgo", "A" * 64, "holiday pictures/1"])
def test_what_only_looks_like_base64_is_a_name(text: str, folder: Path) -> None:
    _, bad = with_pictures(Dataset.from_dict({"image": [text]}), Places(folder), "x")
    assert "no such file" in bad[0]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 2]),
        pa.array([[[1, 2]], [[3, 4]]]),
        pa.array([{"url": "x"}, {"url": "y"}]),
        pa.array([{"bytes": 1, "path": 2}] * 2),
    ],
)
def test_a_column_of_something_else_is_one_error(column: pa.Array) -> None:
    with pytest.raises(FedummError, match=r"^mine: the column image holds .*, not images or names of files\.$"):
        with_pictures(Dataset(pa.table({"image": column})), Places(), "mine")


def test_sounds_are_no_images() -> None:
    raw = Dataset.from_dict({"image": structs(FILES)}).cast_column("image", Audio())
    with pytest.raises(FedummError, match="holds Audio"):
        with_pictures(raw, Places(), "mine")


def test_there_may_be_no_column_and_no_row() -> None:
    for columns in ({"text": ["a"]}, {"image": []}):
        rows = Dataset.from_dict(columns)
        assert with_pictures(rows, Places(), "x") == (rows, {})


WIDE = 2**20
COPIED = 50_000


def heavy(way: str) -> Any:
    """Twelve images of a megabyte, which nobody reads here."""
    data = [bytes([number]) * WIDE for number in range(12)]
    one: dict[str, Callable[[], pa.Array]] = {
        "struct": lambda: pa.array([{"bytes": value, "path": None} for value in data]),
        "binary": lambda: pa.array(data),
        "large binary": lambda: pa.array(data, LARGE),
        "base64": lambda: pa.array(["data:image/png;base64," + "A" * WIDE for _ in data]),
        "lists": lambda: pa.array([[value] for value in data]),
        "lists of structs": lambda: pa.array([[{"bytes": value, "path": None}] for value in data]),
        "lists with bad ones": lambda: pa.array([[value] * (number % 3) for number, value in enumerate(data)]),
    }
    array = one[way]()
    return Dataset(pa.table({"image": pa.chunked_array([array[:5], array[5:]])})).select([11, 4, 2])


@pytest.mark.parametrize(
    "way", ["struct", "binary", "large binary", "base64", "lists", "lists of structs", "lists with bad ones"]
)
def test_no_image_is_copied(way: str) -> None:
    raw = heavy(way)
    gc.collect()
    before = pa.total_allocated_bytes()
    rows, _ = with_pictures(raw, Places(), "x")
    rows = concatenate_datasets([rows.select([1]), rows])
    assert pa.total_allocated_bytes() - before < COPIED


def test_a_saved_data_set_stays_mapped_and_its_folder_as_it_was(folder: Path) -> None:
    features = Features({"image": Image(), "question": Value("string")})
    columns = {"image": [{"bytes": bytes(WIDE), "path": None}] * 4, "question": ["?"] * 4}
    Dataset.from_dict(columns, features=features).save_to_disk(folder / "data")
    there = sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*"))
    raw = load_from_disk(str(folder / "data"))
    gc.collect()
    before = pa.total_allocated_bytes()
    for rows in (raw, raw.select([3, 0]), raw.shuffle(seed=0, keep_in_memory=True)):
        found, bad = with_pictures(rows, Places(folder), "x")
        assert not bad
        assert found.cache_files == rows.cache_files
        assert pa.total_allocated_bytes() - before < COPIED
    assert sorted((path, path.stat().st_mtime_ns) for path in folder.rglob("*")) == there


def test_only_the_files_of_the_rows_are_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Dataset.from_dict({"image": [*NAMES, *NAMES, *(f"gone{n}.png" for n in range(100))]}).select([0, 6, 1])
    looked: list[str] = []
    real = os.path.lexists
    monkeypatch.setattr(os.path, "lexists", lambda path: looked.append(str(path)) or real(path))
    assert not with_pictures(raw, Places(folder), "x")[1]
    assert looked == [str(folder / "0.png"), str(folder / "1.png")]


VALUES = st.one_of(st.none(), st.fixed_dictionaries({"bytes": st.none() | st.binary(max_size=4), "path": st.none()}))
KINDS = st.sampled_from(["list", "large list", "struct", "fixed"])


@given(st.lists(st.none() | st.lists(VALUES, max_size=3), max_size=8), KINDS, st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=150, deadline=None)
def test_lists_are_taken_as_python_takes_them(values: list[Any], kind: str, start: int, cut: int) -> None:
    one = pa.struct({"path": pa.string(), "bytes": BINARY})
    if kind == "struct":
        values = [value[0] if value else None for value in values]
    elif kind == "fixed":
        values = [None if value is None else (value * 2 + [None, None])[:2] for value in values]
    types = {"list": pa.list_(one), "large list": pa.large_list(one), "struct": one, "fixed": pa.list_(one, 2)}
    array = pa.array(values, types[kind])[start : len(values) - cut]
    part = stored(array)
    assert part.pictures.type == STORAGE
    part.pictures.validate(full=True)
    given = [[value] if kind == "struct" else value or [] for value in array.to_pylist()]
    flat = [[entry for entry in value if entry is not None] for value in given]
    wanted = [value[0] if len(value) == 1 else None for value in flat]
    found = part.pictures.to_pylist()
    whole = [
        value and {"bytes": value["bytes"] and value["bytes"][: value["taken"]], "path": value["path"]}
        for value in found
    ]
    assert whole == wanted
    assert part.counts.tolist() == list(map(len, flat))
