"""Sets of medical questions as their sites give them: VQA-RAD, SLAKE, PathVQA."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Features, Image, Value

from support.layouts import listing, load, pictures, png, reds, write


def rad(number: int, phrase: str, answer: Any, kind: str = "CLOSED") -> dict[str, Any]:
    """One entry, with spaces and number types as they are in the file."""
    return {
        "qid": number,
        "phrase_type": phrase,
        "qid_linked_id": "03f451ca-de62",
        "image_case_url": "https://example.org/cases/52461",
        "image_name": f"synpic{number}.jpg",
        "image_organ": "HEAD",
        "evaluation": "not evaluated",
        "question": f"Is there evidence of {number}? ",
        "question_rephrase": "NULL",
        "question_relation": "NULL",
        "question_frame": "NULL",
        "question_type": "PRES",
        "answer": answer,
        "answer_type": kind,
    }


@pytest.mark.parametrize("name", ["VQA_RAD Image Folder", "pictures of mine"])
def test_vqa_rad(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "data"
    entries = [
        rad(1, "freeform", "Yes"),
        rad(2, "test_freeform", "No", "CLOSED "),
        rad(3, "para", 5, "OPEN"),
        rad(4, "test_para", "3. 5 cm\t", "OPEN"),
    ]
    write(folder / "VQA_RAD Dataset Public.json", entries)
    write(folder / "Readme.docx", b"PK")
    pictures(folder / name, [f"synpic{number}.jpg" for number in range(1, 5)], 1)
    before = listing(folder)
    splits = load(folder, tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([1, 3], [2, 4])
    assert splits.train["multiple_choice_answer"][:] == ["Yes", "5"]
    assert splits.eval["multiple_choice_answer"][:] == ["No", "3. 5 cm"]
    assert splits.eval["answer_type"][:] == ["CLOSED", "OPEN"]
    assert splits.eval["question_id"][:] == [2, 4]
    assert listing(folder) == before


def slake(number: int, language: str, question: str, answer: str) -> dict[str, Any]:
    return {
        "img_id": number,
        "img_name": f"xmlab{number}/source.jpg",
        "question": question,
        "answer": answer,
        "q_lang": language,
        "location": "Abdomen",
        "modality": "MRI",
        "answer_type": "OPEN",
        "base_type": "vqa",
        "content_type": "Modality",
        "triple": ["vhead", "_", "_"],
        "qid": 100 + number,
    }


def test_slake(tmp_path: Path) -> None:
    folder = tmp_path / "Slake1.0"
    for number, split in enumerate(("train", "validate", "test"), start=1):
        entries = [slake(number, "en", "What modality?", "MRI"), slake(number, "zh", "这是什么模态", "核磁共振")]
        write(folder / f"{split}.json", entries)
        pictures(folder / "imgs" / f"xmlab{number}", ["source.jpg", "mask.png"], number)
        write(folder / "imgs" / f"xmlab{number}" / "detection.json", [{"Liver": [1, 2]}])
    write(folder / "mask.txt", "1: liver")
    splits = load(folder, tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([1, 1], [2, 2])
    assert splits.train["question"][:] == ["What modality?", "这是什么模态"]
    assert splits.train["multiple_choice_answer"][:] == ["MRI", "核磁共振"]
    assert splits.columns["image"] == "img_name"
    assert splits.columns["language"] == "q_lang"


def test_pathvqa(tmp_path: Path) -> None:
    """Copied from the Hub: Parquet files with the pictures in them."""
    layout = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})
    for number, split in enumerate(("train", "validation", "test")):
        rows = [{"image": {"bytes": png(10 * number), "path": None}, "question": "where?", "answer": "in the canals"}]
        file = tmp_path / "data" / "data" / f"{split}-00000-of-00001-ab12.parquet"
        file.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows * 2, features=layout).to_parquet(file)
    before = listing(tmp_path / "data")
    splits = load(tmp_path / "data", tmp_path / "cache")
    assert (reds(splits.train), reds(splits.eval)) == ([0, 0], [1, 1])
    assert splits.train["answers"][:] == [["in the canals"]] * 2
    assert listing(tmp_path / "data") == before
