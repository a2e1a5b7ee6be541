"""Which files and addresses a data set can make this machine read: its own, and those that the user allows."""

from __future__ import annotations

import io
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datasets import Audio, Dataset, DatasetDict, Features, Image, Value, disable_progress_bars
from PIL import Image as Pillow

from fedumm.data import DataRequest, DataSplits, load_data, read_image, register_source
from fedumm.data.places import Places
from fedumm.errors import FedummError

COLUMNS = ("image", "question", "multiple_choice_answer", "answers")
TEXT = Value("string")


@pytest.fixture(scope="module", autouse=True)
def _no_bars() -> None:
    disable_progress_bars()


def png(red: int = 200) -> bytes:
    buffer = io.BytesIO()
    Pillow.new("RGB", (6, 4), (red, 0, 0)).save(buffer, "PNG")
    return buffer.getvalue()


class _Recorder(BaseHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = png() if self.path.endswith(".png") else b"question,answer,image\nwho?,he,a.png\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def inside() -> Iterator[tuple[str, list[str]]]:
    """A web server of the inside network, and what it was asked for."""
    handler = type("Handler", (_Recorder,), {"asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.asked
        server.shutdown()


def request(cache: Path, **more: Any) -> DataRequest:
    return DataRequest(columns=COLUMNS, cache_dir=str(cache), **more)


def csv_folder(folder: Path, *images: str) -> Path:
    """A folder with a picture ``mine.png`` and a table of rows whose images are ``images``."""
    folder.mkdir(parents=True)
    (folder / "mine.png").write_bytes(png())
    lines = ["question,answer,image", *(f"who{i}?,he,{name}" for i, name in enumerate(images))]
    for split in ("train", "validation"):
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    return folder


def saved_folder(folder: Path, *images: str, kind: Any = None) -> Path:
    """The same in Parquet, without the pictures in it."""
    layout = Features({"question": TEXT, "answer": TEXT, "image": kind or TEXT})
    rows = Dataset.from_dict(
        {"question": ["who?"] * len(images), "answer": ["he"] * len(images), "image": list(images)}, features=layout
    )
    folder.mkdir()
    (folder / "mine.png").write_bytes(png())
    for split in ("train", "validation"):
        pq.write_table(rows.data.table, folder / f"{split}.parquet")
    return folder


def load(folder: Path, cache: Path, **more: Any) -> DataSplits:
    return load_data(str(folder), request(cache, **more))


def test_names_are_those_of_files_in_the_datas_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the program was started."""
    folder = csv_folder(tmp_path / "data", "mine.png", str(tmp_path / "data" / "mine.png"), "./sub/../mine.png")
    (folder / "sub").mkdir()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.png").write_bytes(png(7))
    monkeypatch.chdir(elsewhere)
    rows = load(folder, tmp_path / "cache").train
    assert [read_image(rows, row).getpixel((0, 0)) for row in range(3)] == [(200, 0, 0)] * 3
    assert rows["question"][:] == ["who0?", "who1?", "who2?"]


def outside(tmp_path: Path) -> Path:
    target = tmp_path / "secret" / "patient.png"
    target.parent.mkdir()
    target.write_bytes(png(9))
    return target


@pytest.mark.parametrize("kind", [None, Image()], ids=["text", "image"])
@pytest.mark.parametrize("way", ["absolute", "relative", "link", "linked folder"])
def test_a_file_outside_is_refused_and_named_with_its_row(tmp_path: Path, way: str, kind: Any) -> None:
    target = outside(tmp_path)
    relative = {"relative": "../secret/patient.png", "link": "link.png", "linked folder": "sub/patient.png"}
    name = relative.get(way, str(target))
    folder = saved_folder(tmp_path / "data", "mine.png", name, kind=kind)
    if way == "link":
        (folder / "link.png").symlink_to(target)
    if way == "linked folder":
        (folder / "sub").symlink_to(target.parent)
    with pytest.raises(FedummError) as caught:
        load(folder, tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"--dataset {folder}: 2 of 4 rows can't be used (counted from 0):\n")
    assert f"\n  training row 1: the column image names '{name}'" in message
    assert f"outside {folder}. " in message
    assert "--image_root DIR" in message


@pytest.mark.parametrize("name", ["absolute", "patient.png"])
def test_further_roots_are_allowed_by_name(tmp_path: Path, name: str) -> None:
    """As COCO's pictures beside its questions; a name may begin in any of them."""
    target = outside(tmp_path)
    folder = csv_folder(tmp_path / "data", "mine.png", str(target) if name == "absolute" else name)
    (tmp_path / "other").mkdir()
    rows = load(folder, tmp_path / "cache", image_roots=(str(tmp_path / "other"), str(target.parent))).train
    assert read_image(rows, 1).getpixel((0, 0)) == (9, 0, 0)


def test_a_folder_whose_name_begins_alike_is_another(tmp_path: Path) -> None:
    (tmp_path / "database").mkdir()
    (tmp_path / "database" / "a.png").write_bytes(png())
    folder = csv_folder(tmp_path / "data", "../database/a.png")
    with pytest.raises(FedummError, match="outside"):
        load(folder, tmp_path / "cache")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone.png", ": the column image names 'gone.png', and there is no such file below "),
        ("sub", ": the column image names 'sub', which is no file"),
        ("", ": the column image is empty"),
        ("file:///etc/hostname", ": the column image names 'file:///etc/hostname', which is on the network"),
    ],
)
def test_bad_rows_are_found_before_any_work(tmp_path: Path, name: str, message: str) -> None:
    folder = csv_folder(tmp_path / "data", "mine.png", name)
    (folder / "sub").mkdir()
    with pytest.raises(FedummError, match=r"training row 1 \(train.csv, line 3\)" + re.escape(message)):
        load(folder, tmp_path / "cache")


def test_rows_that_a_limit_leaves_out_are_not_looked_at(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path / "data", "mine.png", "gone.png")
    assert len(load(folder, tmp_path / "cache", max_train_samples=1, max_eval_samples=1).train) == 1


@pytest.mark.parametrize("kind", [None, Image()], ids=["text", "image"])
def test_the_network_is_asked_only_by_leave(tmp_path: Path, inside: tuple[str, list[str]], kind: Any) -> None:
    address, asked = inside
    folder = saved_folder(tmp_path / "data", f"{address}/scan.png", kind=kind)
    with pytest.raises(FedummError, match=r"the column image names 'http://127.*on the network.*--allow_remote_images"):
        load(folder, tmp_path / "cache")
    assert asked == []
    rows = load(folder, tmp_path / "cache", remote_images=True).train
    assert read_image(rows, 0).getpixel((0, 0)) == (200, 0, 0)
    assert asked


@pytest.mark.parametrize("name", ["file:///etc/hostname", "zip://a.png::/etc/hostname", "memory://a.png"])
def test_leave_for_the_network_is_none_for_files(tmp_path: Path, name: str) -> None:
    folder = csv_folder(tmp_path / "data", name)
    with pytest.raises(FedummError, match="neither a path nor an address"):
        load(folder, tmp_path / "cache", remote_images=True)


def card(folder: Path, files: str, name: str = "README.md") -> None:
    entry = f"configs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {json.dumps(files)}\n"
    entry += f"  - split: validation\n    path: {json.dumps(files)}\n"
    (folder / name).write_text(f"---\n{entry}---\n" if name == "README.md" else entry)


@pytest.mark.parametrize("name", ["README.md", ".huggingface.yaml"])
def test_a_card_makes_no_request_without_leave(tmp_path: Path, inside: tuple[str, list[str]], name: str) -> None:
    address, asked = inside
    folder = csv_folder(tmp_path / "data", "mine.png")
    card(folder, f"{address}/rows.csv", name)
    with pytest.raises(FedummError, match=r"data card .*names 'http://127.*--allow_remote_images"):
        load(folder, tmp_path / "cache")
    assert asked == []


@pytest.mark.parametrize("way", ["absolute", "relative", "link"])
def test_a_card_names_files_of_its_own_folder_only(tmp_path: Path, way: str) -> None:
    secret = csv_folder(tmp_path / "secret", "mine.png") / "train.csv"
    folder = csv_folder(tmp_path / "data", "mine.png")
    (folder / "link.csv").symlink_to(secret)
    card(folder, {"absolute": str(secret), "relative": "../secret/train.csv", "link": "link.csv"}[way])
    with pytest.raises(FedummError, match=r"its list of data files names .*outside"):
        load(folder, tmp_path / "cache")
    rows = load(folder, tmp_path / "cache", image_roots=(str(secret.parent),)).train
    assert len(rows) == 1


def test_a_saved_set_whose_rows_lie_elsewhere_is_refused(tmp_path: Path) -> None:
    rows = Dataset.from_dict({"question": ["?"], "answer": ["!"], "image": [{"bytes": png(), "path": None}]})
    both = DatasetDict({"train": rows, "validation": rows}).cast_column("image", Image())
    for name in ("data", "secret"):
        both.save_to_disk(str(tmp_path / name))
    assert len(load(tmp_path / "data", tmp_path / "cache").train) == 1
    state = tmp_path / "data" / "train" / "state.json"
    content = json.loads(state.read_text())
    content["_data_files"][0]["filename"] = os.path.relpath(
        next((tmp_path / "secret" / "train").glob("*.arrow")), state.parent
    )
    state.write_text(json.dumps(content))
    with pytest.raises(FedummError, match=r"its list of data files names .*outside"):
        load(tmp_path / "data", tmp_path / "cache")


def test_a_folder_of_pictures_is_read_and_its_table_names_no_others(tmp_path: Path) -> None:
    target = outside(tmp_path)
    folder = tmp_path / "data"
    for split in ("train", "validation"):
        (folder / split).mkdir(parents=True)
        (folder / split / "a.png").write_bytes(png())
        line = {"file_name": "a.png", "question": "who?", "answer": "he"}
        (folder / split / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    rows = load(folder, tmp_path / "cache").train
    assert read_image(rows, 0).getpixel((0, 0)) == (200, 0, 0)
    line["file_name"] = os.path.relpath(target, folder / "train")
    (folder / "train" / "metadata.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(FedummError):
        read_image(load(folder, tmp_path / "cache2").train, 0)


def test_what_stands_for_text_opens_no_files(tmp_path: Path, inside: tuple[str, list[str]]) -> None:
    """A question that calls itself a picture, or a sound, would be fetched to be read."""
    address, asked = inside
    stored = [{"bytes": None, "path": f"{address}/a.png"}]
    rows = Dataset.from_dict({"question": stored, "answer": ["!"], "image": stored})
    loud, seen = rows.cast_column("image", Audio()), rows.cast_column("question", Image())
    for name, given, message in (("loud", loud, "the column image holds Audio"), ("seen", seen, "no column question")):
        register_source(name, lambda _, given=given: DataSplits(given, given))
        with pytest.raises(FedummError, match=message):
            load_data(name, DataRequest(columns=("question",) if name == "seen" else COLUMNS))
    assert asked == []


def test_pictures_in_the_table_are_taken_as_they_are() -> None:
    """Whatever they were called where they come from."""
    rows = Dataset.from_dict({"question": ["?"], "answer": ["!"], "image": [{"bytes": png(), "path": "/etc/hostname"}]})
    rows = rows.cast_column("image", Image())
    register_source("embedded", lambda _: DataSplits(rows, rows))
    assert read_image(load_data("embedded", DataRequest(columns=COLUMNS)).train, 0).size == (6, 4)


def test_files_of_a_hub_repository_are_its_own() -> None:
    places = Places(own=("hf://datasets/owner/name@",))
    places.check_address("zip://a.png::hf://datasets/owner/name@abc/images.zip")
    for address in (
        "hf://datasets/owner/other@abc/a.png",
        "hf://datasets/owner/name@abc/../../other/a.png",
        "zip://a.png::https://elsewhere.org/a.zip",
        "https://elsewhere.org/hf://datasets/owner/name@abc/a.png",
    ):
        with pytest.raises(FedummError, match="on the network"):
            places.check_address(address)


def test_a_root_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path / "data", "mine.png")
    with pytest.raises(FedummError, match=r"--image_root .*gone: no such folder"):
        load(folder, tmp_path / "cache", image_roots=(str(tmp_path / "gone"),))
