"""What was said of each row stands beside that row, in the data's order, with the scores that a run reports."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from fedumm.config import CentralConfig
from fedumm.metrics import vqa_score
from fedumm.training.backbone import load_backbone
from fedumm.training.data import load_splits, references
from fedumm.training.evaluation import evaluate
from fedumm.training.predictions import predict


def config(backend: str, **options: Any) -> CentralConfig:
    few = {"max_train_samples": 4, "max_eval_samples": 18, "eval_batch_size": 5, "feature_cache": "off"}
    return CentralConfig(**{"model_backend": backend, "model_name_or_path": "tiny", **few, **options})


def test_an_answer_is_that_of_its_row_and_scored_as_a_run_does() -> None:
    options = config("blip_vqa", dataset="easy_vqa")
    rows, backbone = load_splits(options).eval, load_backbone(options, torch.device("cpu"))
    told: list[int] = []
    made = predict(backbone, rows, options, lambda what, done, total: told.append(done))
    assert [one.question for one in made] == list(rows["question"][:])
    assert [one.image_id for one in made] == list(rows["image_id"][:])
    assert [one.source_row for one in made] == list(rows["source_row"][:])
    assert [one.reference for one in made] == list(rows["multiple_choice_answer"][:])
    assert all(one.answer for one in made)
    assert [one.score for one in made] == [vqa_score(str(one.answer), one.references) for one in made]
    dataset = backbone.backend.build_dataset(rows, backbone.processor, options.max_q_len, options.max_a_len)
    whole = evaluate(backbone, dataset, options)["vqa"]
    assert sum(one.score for one in made) / len(made) == whole.score
    assert told[-1] == len(rows)
    assert told == sorted(told)
    some = [11, 3, 7]
    assert predict(backbone, rows.select(some), options) == [made[row] for row in some]


def test_questions_and_captions_of_one_model_keep_apart() -> None:
    options = config("januspro", dataset="shapes", task="unified")
    rows, backbone = load_splits(options).eval, load_backbone(options, torch.device("cpu"))
    made = predict(backbone, rows, options)
    assert [one.task for one in made] == list(rows["task"][:])
    assert {one.task for one in made} == {"vqa", "t2i"}
    for one, row in zip(made, rows.remove_columns("image"), strict=True):
        if one.task == "t2i":
            assert (one.question, one.references, one.answer) == (row["caption"], (), None)
            assert one.loss is not None
        else:
            assert one.question == row["question"]
            assert one.loss is None


def test_features_from_the_cache_change_no_answer() -> None:
    options = config("blip_vqa", dataset="easy_vqa", max_eval_samples=6)
    rows, backbone = load_splits(options).eval, load_backbone(options, torch.device("cpu"))
    plain, cached = predict(backbone, rows, options), predict(backbone, rows, replace(options, feature_cache="memory"))
    assert [one.answer for one in plain] == [one.answer for one in cached]


def test_a_text_is_beside_all_texts_of_its_image() -> None:
    options = config("januspro", dataset="shapes", task="i2t", max_eval_samples=4)
    rows = load_splits(options).eval
    backbone = load_backbone(options, torch.device("cpu"), references=references(options, rows))
    for one, texts in zip(predict(backbone, rows, options), rows["texts"][:], strict=True):
        assert one.references == tuple(texts)
        assert one.question == ""
        assert set(one.others) == {"rouge_l", "token_f1", "exact", "cider"}
