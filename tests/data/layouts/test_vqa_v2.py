"""VQA v2, VQA v1 and OK-VQA as their sites give them: official JSON and folders of COCO's pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedumm.errors import FedummError
from support.layouts import ANSWERS, coco_pictures, listing, load, png, questions_and_annotations, reds, vqa_v2, write


def test_all_of_the_annotations_is_kept(tmp_path: Path) -> None:
    folder = vqa_v2(tmp_path / "data")
    coco_pictures(folder)
    before = listing(folder)
    splits = load(folder, tmp_path / "cache")
    assert splits.train.remove_columns("image")[0] == {
        "question": "is this 458752000?",
        "multiple_choice_answer": "yes",
        "answers": ANSWERS,
        "answer_type": "yes/no",
        "question_type": "is this",
        "image_id": "9",
        "question_id": 458752000,
        "source_row": 0,
        "task": "vqa",
    }
    assert splits.train["question_id"][:] == [458752000, 7, 8]
    assert (reds(splits.train), reds(splits.eval)) == ([1, 1, 2], [3, 4])
    assert listing(folder) == before


@pytest.mark.parametrize(
    ("begins", "places"),
    [
        (("v2_OpenEnded_mscoco", "v2_mscoco"), ("Questions", "Annotations")),
        (("OpenEnded_mscoco", "mscoco"), ("", "")),
        (("OpenEnded_mscoco", "mscoco"), ("questions", "annotations")),
    ],
    ids=["VQA v2 in folders", "VQA v1 and OK-VQA", "in small letters"],
)
@pytest.mark.parametrize("where", ["", "images", "root"])
def test_files_and_pictures_may_lie_in_folders(
    tmp_path: Path, begins: tuple[str, str], places: tuple[str, str], where: str
) -> None:
    folder, roots = vqa_v2(tmp_path / "data", begins), {}
    for kind, place in zip(("questions", "annotations"), places, strict=True):
        for file in folder.glob(f"*_{kind}.json"):
            (folder / place).mkdir(exist_ok=True)
            file.rename(folder / place / file.name)
    if where == "root":
        coco_pictures(tmp_path / "coco")
        roots = {"image_roots": (str(tmp_path / "coco"),)}
    else:
        coco_pictures(folder / where)
    splits = load(folder, tmp_path / "cache", **roots)
    assert (reds(splits.train), reds(splits.eval)) == ([1, 1, 2], [3, 4])


def test_a_root_may_be_the_folder_of_the_pictures_itself(tmp_path: Path) -> None:
    coco_pictures(tmp_path / "coco")
    roots = tuple(str(tmp_path / "coco" / name) for name in ("train2014", "val2014"))
    splits = load(vqa_v2(tmp_path / "data"), tmp_path / "cache", image_roots=roots)
    assert (reds(splits.train), reds(splits.eval)) == ([1, 1, 2], [3, 4])


def test_annotations_in_another_order_go_with_their_questions(tmp_path: Path) -> None:
    folder = vqa_v2(tmp_path / "data")
    coco_pictures(folder)
    file = folder / "v2_mscoco_train2014_annotations.json"
    content = json.loads(file.read_text())
    for entry in content["annotations"]:
        entry["multiple_choice_answer"] = f"answer {entry['question_id']}"
        entry["answers"] = [{"answer": f"answer {entry['question_id']}", "answer_id": 1}] * 10
    content["annotations"].reverse()
    write(file, content)
    rows = load(folder, tmp_path / "cache").train
    assert rows["question"][:] == ["is this 458752000?", "is this 7?", "is this 8?"]
    assert rows["multiple_choice_answer"][:] == ["answer 458752000", "answer 7", "answer 8"]


def test_abstract_scenes(tmp_path: Path) -> None:
    for year, kind in (("train2015", 1), ("val2015", 2)):
        asked, given = questions_and_annotations([kind], [11])
        write(tmp_path / "data" / f"OpenEnded_abstract_v002_{year}_questions.json", asked)
        write(tmp_path / "data" / f"abstract_v002_{year}_annotations.json", given)
        picture = tmp_path / "data" / year / f"abstract_v002_{year}_{11:012d}.png"
        write(picture, png(10 * kind))
    splits = load(tmp_path / "data", tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([1], [2])


def break_json(folder: Path) -> None:
    file = folder / "v2_mscoco_train2014_annotations.json"
    file.write_text(file.read_text()[:-30])


def drop_annotation(folder: Path) -> None:
    file = folder / "v2_mscoco_train2014_annotations.json"
    content = json.loads(file.read_text())
    content["annotations"].pop()
    write(file, content)


def drop_answers(folder: Path) -> None:
    file = folder / "v2_mscoco_train2014_annotations.json"
    content: Any = json.loads(file.read_text())
    del content["annotations"][1]["answers"]
    write(file, content)


def add_version(folder: Path) -> None:
    vqa_v2(folder, ("OpenEnded_mscoco", "mscoco"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (break_json, "train2014_annotations.json is no JSON that can be read"),
        (drop_annotation, "1 of 3 questions .* have no answers in v2_mscoco_train2014_annotations.json"),
        (drop_answers, "train2014_annotations.json: one of its annotations lacks 'answers'"),
        (add_version, "are there: keep one of them"),
    ],
)
def test_files_that_do_not_fit_are_one_error(tmp_path: Path, spoil: Any, message: str) -> None:
    folder = vqa_v2(tmp_path / "data")
    coco_pictures(folder)
    spoil(folder)
    with pytest.raises(FedummError, match=message) as caught:
        load(folder, tmp_path / "cache")
    assert str(caught.value).startswith(f"--dataset {folder} can't be read as a data set: ")
    assert "\n" not in str(caught.value)


def test_a_missing_picture_is_named_as_coco_names_it(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match=r"image names 'train2014/COCO_train2014_000000000009.jpg'.*no such file"):
        load(vqa_v2(tmp_path / "data"), tmp_path / "cache")
