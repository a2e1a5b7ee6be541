"""Data sets as they are on the Hub: configurations, a single split, and GQA, whose images are a configuration."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from support import hub_child
from support.hub_repositories import child_env
from support.hub_server import HubServer, closed_port
from support.layouts import png

TEXT, NUMBER = Value("string"), Value("int64")
WORDS = List(TEXT)


def parquet(folder: Path, split: str, layout: Mapping[str, Any], rows: Sequence[Sequence[Any]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    listed = [dict(zip(layout, row, strict=True)) for row in rows]
    Dataset.from_list(listed, features=Features(layout)).to_parquet(folder / f"{split}-00000-of-00001.parquet")


def picture(number: int) -> dict[str, Any]:
    return {"bytes": png(10 * number), "path": f"{number}.jpg"}


def card(folder: Path, configs: Mapping[str, Sequence[str]]) -> None:
    """A data card with the splits of each configuration, in a folder of its name."""
    entries = ""
    for name, splits in configs.items():
        entries += f"- config_name: {name}\n  data_files:\n"
        entries += "".join(f"  - split: {split}\n    path: {name}/{split}-*\n" for split in splits)
    (folder / "README.md").write_text(f"---\nconfigs:\n{entries}---\n")


AOKVQA = {"image": Image(), "question_id": TEXT, "question": TEXT, "choices": WORDS, "correct_choice_idx": NUMBER,
          "direct_answers": TEXT, "difficult_direct_answer": Value("bool"), "rationales": WORDS}  # fmt: skip
TEXTVQA = {"image_id": TEXT, "question_id": NUMBER, "question": TEXT, "question_tokens": WORDS, "image": Image(),
           "image_width": NUMBER, "flickr_300k_url": TEXT, "answers": WORDS, "image_classes": WORDS,
           "set_name": TEXT, "ocr_tokens": WORDS}  # fmt: skip
OKVQA = {"question_id": TEXT, "image": Image(), "question": TEXT, "answers": WORDS, "question_type": TEXT,
         "answer_type": TEXT}  # fmt: skip
SCIENCE = {"image": Image(), "question": TEXT, "choices": WORDS, "answer": NUMBER, "hint": TEXT, "task": TEXT,
           "grade": TEXT, "subject": ClassLabel(names=["natural science", "language science"])}  # fmt: skip
FLICKR = {"image": Image(), "caption": WORDS, "sentids": WORDS, "split": TEXT, "img_id": TEXT, "filename": TEXT}
ASKED = {"id": TEXT, "imageId": TEXT, "question": TEXT, "answer": TEXT, "fullAnswer": TEXT, "isBalanced": Value("bool"),
         "groups": {"global": TEXT, "local": TEXT}}  # fmt: skip


def gqa(folder: Path) -> None:
    """Three questions on two images to train on, of three; one to evaluate on."""
    configs = {}
    for part, split, asked, images in (("train", "train", "778", (6, 7, 8)), ("testdev", "testdev", "5", (5,))):
        rows = [
            [f"q{i}", image, f"what is {image}?", "a cat", "It is a cat.", True, {"global": "x", "local": "y"}]
            for i, image in enumerate(asked)
        ]
        parquet(folder / f"{part}_balanced_instructions", split, ASKED, rows)
        pictures = [[str(number), picture(number)] for number in images]
        parquet(folder / f"{part}_balanced_images", split, {"id": TEXT, "image": Image()}, pictures)
        configs |= {f"{part}_balanced_instructions": [split], f"{part}_balanced_images": [split]}
    card(folder, configs)


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("layouts")
    ten = ["nine"] * 9 + ["9"]
    for split in ("train", "validation"):
        row = [
            picture(1),
            "22MexNkBPpdZGX6sxbxVBH",
            "What is it?",
            ["cat", "dog"],
            1,
            str(["dog", "a dog"]),
            False,
            ["."],
        ]
        parquet(root / "a-okvqa" / "data", split, AOKVQA, [row])
        text = ["0054c9", 0, "what number?", ["what"], picture(2), 6, "https://example.org", ten, [], split, ["9"]]
        parquet(root / "textvqa" / "data", split, TEXTVQA, [text])
        for name in ("ScienceQA-FULL", "ScienceQA-IMG"):
            image = picture(3) if name == "ScienceQA-IMG" else None
            science = [image, f"{name}?", ["yes", "no"], 1, "", "closed choice", "grade 2", 0]
            parquet(root / "scienceqa" / name, split, SCIENCE, [science])
    card(root / "scienceqa", dict.fromkeys(("ScienceQA-FULL", "ScienceQA-IMG"), ("train", "validation")))
    parquet(root / "ok-vqa" / "data", "val2014", OKVQA, [["1", picture(4), "how?", ten, "one", "other"]])
    flickr = [
        [picture(number), [f"said {number}.{i}" for i in range(5)], ["1"], split, str(number), f"{number}.jpg"]
        for number, split in enumerate(("train", "test", "val", "train"))
    ]
    parquet(root / "flickr30k" / "data", "test", FLICKR, flickr)
    gqa(root / "gqa")
    return {("dataset", f"lmms-lab/{folder.name}"): folder for folder in root.iterdir()}


Results = dict[str, dict[str, Any]]
Loaded = tuple[Results, Results, Path]


def results(env: dict[str, str], folder: Path, cache: Path, names: Sequence[str]) -> Results:
    """Each data set's raw rows, and, where there is a task for them, the rows of a run."""
    steps: dict[str, Any] = {}
    for name in names:
        repo, _, configuration = name.partition(":")
        kind = "load" if "gqa" in name else "raw"
        args = [f"lmms-lab/{name}"] if kind == "load" else [f"lmms-lab/{repo}", configuration]
        steps[name] = (kind, args, {"cache_dir": str(cache)})
    folder.mkdir()
    (folder / "steps.json").write_text(json.dumps(list(steps.values())))
    subprocess.run([sys.executable, hub_child.__file__, str(folder)], env=child_env(env), check=True, timeout=200)
    return dict(zip(steps, json.loads((folder / "results.json").read_text()), strict=True))


NAMES = (
    "a-okvqa", "textvqa", "ok-vqa", "flickr30k", "scienceqa", "scienceqa:ScienceQA-IMG", "scienceqa:ScienceQA-FULL",
    "scienceqa:ScienceQA", "gqa", "gqa:balanced", "gqa:train_balanced",
)  # fmt: skip


@pytest.fixture(scope="module")
def loaded(repositories: Any, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """With the Hub in reach, and then from the cache alone."""
    root = tmp_path_factory.mktemp("runs")
    with HubServer(repositories) as hub:
        first = results(hub.env(root / "home"), root / "first", root / "cache", NAMES)
    away = {"HF_ENDPOINT": closed_port(), "HF_HOME": str(root / "home")}
    again = results(away, root / "again", root / "cache", ["ok-vqa", "scienceqa:ScienceQA-IMG", "gqa:balanced"])
    return first, again, root / "cache"


def one(found: Results, name: str, part: str = "train") -> dict[str, Any]:
    (row,) = found[name][part]
    return dict(row)


def test_columns_come_as_the_data_sets_have_them(loaded: Loaded) -> None:
    found = loaded[0]
    aokvqa, textvqa = one(found, "a-okvqa"), one(found, "textvqa", "eval")
    assert (aokvqa["choices"], aokvqa["correct_choice_idx"]) == (["cat", "dog"], 1)
    assert aokvqa["direct_answers"] == "['dog', 'a dog']"
    assert textvqa["answers"] == ["nine"] * 9 + ["9"]
    assert (textvqa["set_name"], textvqa["image"]) == ("validation", [6, 4])


def test_a_single_split_is_to_train_on_whatever_its_name(loaded: Loaded) -> None:
    """OK-VQA has val2014 alone: it is not to evaluate on, too."""
    for found in loaded[:2]:
        assert one(found, "ok-vqa")["question"] == "how?"
        assert found["ok-vqa"]["eval"] is None


def test_a_column_divides_a_single_split(loaded: Loaded) -> None:
    rows = loaded[0]["flickr30k"]
    assert [row["img_id"] for row in rows["train"]] == ["0", "3"]
    assert [row["img_id"] for row in rows["eval"]] == ["2"]
    assert rows["train"][1]["caption"] == [f"said 3.{i}" for i in range(5)]


def test_a_configuration_by_name(loaded: Loaded) -> None:
    for found in loaded[:2]:
        row = one(found, "scienceqa:ScienceQA-IMG", "eval")
        assert (row["question"], row["choices"], row["answer"]) == ("ScienceQA-IMG?", ["yes", "no"], 1)
    assert one(loaded[0], "scienceqa:ScienceQA-FULL")["image"] is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "scienceqa",
            "--dataset lmms-lab/scienceqa has several configurations: name one, as --dataset "
            "lmms-lab/scienceqa:ScienceQA-FULL. There are ScienceQA-FULL, ScienceQA-IMG.",
        ),
        (
            "scienceqa:ScienceQA",
            "--dataset lmms-lab/scienceqa has no configuration 'ScienceQA'. It has: ScienceQA-FULL, ScienceQA-IMG. "
            "Did you mean 'ScienceQA-IMG'?",
        ),
    ],
)
def test_one_line_says_what_there_is(loaded: Loaded, name: str, message: str) -> None:
    assert loaded[0][name]["error"] == message


def test_questions_and_images_of_gqa_are_joined(loaded: Loaded) -> None:
    for found in loaded[:2]:
        rows = found["gqa:balanced"]
        assert (rows["train"]["rows"], rows["eval"]["rows"]) == (3, 1)
        assert rows["train"]["first"]["question"] == "what is 7?"
        assert rows["train"]["sizes"] == [[6, 4], [6, 4]]


def test_an_image_of_gqa_is_kept_once_and_only_if_a_question_names_it(
    loaded: Loaded,
) -> None:
    files = list((loaded[2] / "fedumm").glob("*_images-files-*/*"))
    assert {file.name: file.read_bytes() for file in files} == {str(i): png(10 * i) for i in (5, 7, 8)}
