"""Each family of image-text models: what the backend computes is what plain transformers and PEFT compute."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch

from fedumm.backends.hf_vlm.backend import HfVlmBackend
from support.vlm_cases import (
    CPU,
    SLOW_PATH,
    Case,
    check_against_plain,
    check_kept_features,
    check_what_learns,
    make_case,
    table,
)
from support.vlm_families import FAMILIES, build, save

pytestmark = [
    # PEFT asks transformers for a property by its old name; transformers makes arrays of pictures in an old way.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    return cache(lambda name: make_case(name, save, build, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", FAMILIES)
def test_loss_and_tokens_are_those_of_plain_transformers_and_peft(case_of: Callable[[str], Case], name: str) -> None:
    check_against_plain(case_of(name))


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in SLOW_PATH])
def test_kept_features_change_nothing(case_of: Callable[[str], Case], name: str) -> None:
    check_kept_features(case_of(name))


@pytest.mark.parametrize("name", FAMILIES)
def test_only_the_language_model_learns_and_all_its_layers_do(case_of: Callable[[str], Case], name: str) -> None:
    check_what_learns(case_of(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_eight_samples_are_learnt_by_heart(tmp_path: Path, name: str) -> None:
    backend = HfVlmBackend().for_tasks(["vqa"], "all")
    torch.manual_seed(0)
    model, processor = backend.build_model_and_processor(str(save(name, tmp_path)), 8, 16, 0.0, CPU)
    # One question, and an answer for each picture: what is right is on the picture alone.
    texts = ["ab", "cd", "ef", "gh", "ij", "kl", "mn", "op"]
    rows = table(8).select_columns("image").add_column("question", ["Which?"] * 8)
    rows = rows.add_column("multiple_choice_answer", texts).add_column("answers", [[text] for text in texts])
    case = Case(name, backend, model, processor, None, None)
    batch = case.batch(rows, cached=name not in SLOW_PATH, order=range(8))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    for _ in range(400):
        model.train()
        loss = backend.train_step(model, batch, CPU)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if float(loss.detach()) < 0.02:
            break
    model.eval()
    assert [sample.score for sample in backend.score_batch(model, batch, processor, CPU)] == [1.0] * 8


def test_batches_do_not_depend_on_whether_features_are_kept(case_of: Callable[[str], Case]) -> None:
    """Pictures of this family take from 10 to 16 tokens: lengths order and cut the batches of a step."""
    case, rows = case_of("llava_next"), table(6)
    kept, made = case.data(rows, cached=True), case.data(rows)
    assert len({len(kept[row]["ids"]) - len(kept.questions[row]) for row in range(6)}) > 1
    assert kept.lengths == made.lengths
