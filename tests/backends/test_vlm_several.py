"""Rows with one, two and three images: each family computes what plain transformers and PEFT compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import datasets
import pytest
import torch

from fedumm.backends.feature_table import Block, FeatureTable
from fedumm.backends.hf_vlm.prompts import QUESTION
from fedumm.backends.hf_vlm.several import probe_several
from fedumm.data.each_picture import each_picture
from fedumm.errors import FedummError
from support.vlm_cases import ANSWERS, CPU, QUESTIONS, SIZES, Case, image, make_case, with_answer
from support.vlm_families import FAMILIES, build, save

COMPOSED = ["qwen2_5_vl", "qwen3_vl", "smolvlm", "idefics3", "gemma3", "internvl", "llava", "llava_next"]
"""Families whose images are the same alone and together: features are kept."""

TOGETHER = ["llava_onevision", "paligemma", "paligemma2", "emu3"]
"""Families that read images together otherwise than alone."""

ONE = ["blip2", "instructblip"]
"""Families that read one image."""

IMAGES = ([0], [1, 2], [2, 0, 1])
"""The images of each row."""

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    return cache(lambda name: make_case(name, save, build, tmp_path_factory.mktemp(name)))


def table(images: Any = IMAGES) -> Any:
    columns: dict[str, Any] = {
        f"image_{place + 1}" if place else "image": [
            image(own[place], SIZES[own[place]]) if place < len(own) else None for own in images
        ]
        for place in range(3)
    }
    pictures = datasets.Features({name: datasets.Image() for name in columns})
    rows = datasets.Dataset.from_dict(columns, features=pictures)
    rows = rows.add_column("question", list(QUESTIONS)).add_column("multiple_choice_answer", list(ANSWERS))
    return rows.add_column("answers", [[answer] for answer in ANSWERS])


def reference(case: Case, row: int, answer: str | None) -> dict[str, Any]:
    processor = case.plain_processor
    pictures = [{"type": "image", "image": image(own, SIZES[own])} for own in IMAGES[row]]
    turns = [{"role": "user", "content": [*pictures, {"type": "text", "text": QUESTIONS[row]}]}]
    options = {"tokenize": True, "return_dict": True, "return_tensors": "pt"}
    prompt = dict(processor.apply_chat_template(turns, add_generation_prompt=True, **options))
    prompt.pop("labels", None)
    if answer is None:
        return prompt
    known = case.processor
    return with_answer(processor, prompt, answer, known.prompts.end_id, known.known.reader.answer_types)


def kept(case: Case, rows: Any) -> Any:
    """The data set with features kept of each picture alone."""
    made = case.data(rows)
    (stage,) = case.backend.frozen_stages(case.model, case.processor)
    pairs = [stage.encode(made.pixels([picture])) for picture in range(len(made.rows))]
    block = Block.of_images([own for own, _ in pairs], [beside for _, beside in pairs])
    made.features = FeatureTable([block], [(0, picture) for picture in range(len(made.rows))])
    return made


@pytest.mark.parametrize("name", [*COMPOSED, *TOGETHER])
def test_loss_and_tokens_are_those_of_plain_transformers_and_peft(case_of: Callable[[str], Case], name: str) -> None:
    case, rows = case_of(name), table()
    with torch.no_grad():
        losses = [float(case.plain(**reference(case, row, ANSWERS[row])).loss) for row in range(3)]
        said = []
        for row in range(3):
            given = reference(case, row, None)
            made = case.plain.generate(**given, do_sample=False, max_new_tokens=6)[0]
            said.append(made[given["input_ids"].shape[1] :].tolist())
    data = case.data(rows)
    batch = case.backend.collate_fn([data[row] for row in range(3)])
    assert case.loss(batch) == pytest.approx(sum(losses) / 3, rel=1e-5)
    reader = case.processor.known.reader
    with torch.inference_mode():
        found = reader.generate(batch["prompts"], reader.features(batch["images"]), batch["extras"], 6)
    assert found == [row[: next((k for k, t in enumerate(row) if t in reader.ends), len(row))] for row in said]
    # The order of the images matters: the test can fail.
    turned = table(([0], [2, 1], [2, 0, 1]))
    other = case.data(turned)
    assert abs(case.loss(case.backend.collate_fn([other[row] for row in range(3)])) - sum(losses) / 3) > 1e-4


@pytest.mark.parametrize("name", COMPOSED)
def test_kept_features_of_single_images_change_nothing(case_of: Callable[[str], Case], name: str) -> None:
    case, rows = case_of(name), table()
    assert case.backend.build_dataset(rows, case.processor, 64, 16).part("vision features") is not None
    made, whole = kept(case, rows), case.data(rows)
    batches = [case.backend.collate_fn([data[row] for row in (2, 0, 1)]) for data in (made, whole)]
    assert torch.equal(batches[0]["inputs"].ids, batches[1]["inputs"].ids)
    assert case.loss(batches[0]) == pytest.approx(case.loss(batches[1]), rel=1e-5)
    scores = [case.backend.score_batch(case.model, batch, case.processor, CPU) for batch in batches]
    assert scores[0] == scores[1]
    assert made.lengths == whole.lengths


@pytest.mark.parametrize("name", TOGETHER)
def test_no_features_are_kept_where_images_change_each_other(case_of: Callable[[str], Case], name: str) -> None:
    case = case_of(name)
    assert case.data(table()).part("vision features") is None
    assert any("Several images" in line for line in case.backend.findings(case.processor))


@pytest.mark.parametrize("name", ONE)
def test_a_model_that_reads_one_image_says_so(case_of: Callable[[str], Case], name: str) -> None:
    with pytest.raises(FedummError, match="can't be given two"):
        case_of(name).data(table())


@pytest.mark.parametrize("name", COMPOSED)
def test_prompts_are_joined_as_the_processor_writes_them(case_of: Callable[[str], Case], name: str) -> None:
    case = case_of(name)
    several = probe_several(case.processor.known, case.processor.prompts)
    assert several.composed
    prompts = case.processor.prompts
    pictures = [image(seed, size) for seed, size in enumerate(((33, 70), (1300, 700), (64, 64), (700, 1300)))]
    parts = [prompts.image_part(prompts.encode([own], QUESTION)) for own in pictures]
    whole = prompts.encode(pictures, QUESTION)
    assert several.joined(parts).ids == whole.ids[: len(whole.ids) - len(prompts.question(QUESTION).ids)]


def test_a_question_may_be_about_several_images(case_of: Callable[[str], Case]) -> None:
    case = case_of("qwen3_vl")
    pictures = [image(own, SIZES[own]) for own in (1, 2)]
    data = case.data(table(([1, 2], [1], [0])))
    batch = case.backend.collate_fn([data[0]])
    said = case.backend._answers(case.model, {**batch, "max_a_len": 16}, case.processor, [[]])
    assert case.backend.answer(case.model, case.processor, pictures, QUESTIONS[0], CPU)[:4] == said[0][:4]


def test_all_families_are_in_one_list() -> None:
    assert {*COMPOSED, *TOGETHER, *ONE} <= set(FAMILIES)


def test_each_picture_is_a_row() -> None:
    pictures = each_picture(table())
    assert pictures.of_rows() == [[0], [1, 3], [2, 4, 5]]
    assert [own["image"].size for own in pictures.rows] == [SIZES[k] for k in (0, 1, 2, 2, 0, 1)]
