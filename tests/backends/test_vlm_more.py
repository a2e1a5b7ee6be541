"""Further families of image-text models, held to plain transformers and PEFT like those of the matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
from transformers.utils import is_timm_available, is_torchvision_available

from fedumm.backends.hf_vlm.backend import HfVlmBackend
from fedumm.errors import FedummError
from support.vlm_cases import CPU, Case, check_against_plain, check_kept_features, check_what_learns, make_case
from support.vlm_more_families import MORE, NEEDS, ONE_BY_ONE, QUICK, REFUSED, build, save

pytestmark = [
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]
_HERE = {"torchvision": is_torchvision_available(), "timm": is_timm_available()}


def _marked(name: str) -> object:
    marks = [] if name in QUICK else [pytest.mark.slow]
    if (needed := NEEDS.get(name)) is not None and not _HERE[needed]:
        marks.append(pytest.mark.skip(reason=f"needs {needed}"))
    return pytest.param(name, marks=marks)


TAKEN = [_marked(name) for name in MORE if name not in REFUSED]
KEPT = [_marked(name) for name in MORE if name not in REFUSED and name not in ONE_BY_ONE]


@pytest.fixture(scope="module")
def case_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    return cache(lambda name: make_case(name, save, build, tmp_path_factory.mktemp(name)))


@pytest.mark.parametrize("name", TAKEN)
def test_loss_and_tokens_are_those_of_plain_transformers_and_peft(case_of: Callable[[str], Case], name: str) -> None:
    check_against_plain(case_of(name))


@pytest.mark.parametrize("name", KEPT)
def test_kept_features_change_nothing(case_of: Callable[[str], Case], name: str) -> None:
    check_kept_features(case_of(name))


@pytest.mark.parametrize("name", TAKEN)
def test_only_the_language_model_learns_and_all_its_layers_do(case_of: Callable[[str], Case], name: str) -> None:
    check_what_learns(case_of(name))


@pytest.mark.parametrize("name", [_marked(name) for name in REFUSED])
def test_what_cannot_be_trained_is_refused_before(tmp_path: Path, name: str) -> None:
    save(name, tmp_path)
    with pytest.raises(FedummError, match=REFUSED[name]):
        HfVlmBackend().for_tasks(["vqa"], "attention").build_model_and_processor(str(tmp_path), 4, 8, 0.0, CPU)
