"""What a run takes from the Hub is asked for before any process is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedumm.config import FederateConfig
from fedumm.data import hub, hub_access
from fedumm.errors import FedummError
from fedumm.training.preflight import check_hub


def config(**options: Any) -> FederateConfig:
    local = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa"}
    return FederateConfig(**{**local, **options})


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """A Hub out of reach; what was asked of it."""
    asked: list[tuple[str, str]] = []

    def away(kind: str, repo_id: str) -> None:
        asked.append((kind, repo_id))

    monkeypatch.setattr(hub, "check_reachable", away)
    monkeypatch.setattr(hub_access, "check_reachable", away)
    return asked


def test_local_models_and_data_ask_nothing(asked: list[tuple[str, str]], tmp_path: Path) -> None:
    check_hub(config())
    check_hub(config(model_name_or_path=str(tmp_path), dataset=str(tmp_path)))
    check_hub(config(model_backend="mine", plugin="mine.py", model_name_or_path="a/b", dataset="c/d"))
    assert not asked


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"model_name_or_path": ""}, ("model", "Salesforce/blip-vqa-base")),
        ({"model_name_or_path": "nobody/their-blip"}, ("model", "nobody/their-blip")),
        ({"dataset": ""}, ("dataset", "Multimodal-Fatima/VQAv2_train")),
        ({"dataset": "nobody/their-vqa"}, ("dataset", "nobody/their-vqa")),
    ],
)
def test_what_is_neither_in_reach_nor_cached_is_an_error(
    asked: list[tuple[str, str]], tmp_path: Path, options: dict[str, str], wanted: tuple[str, str]
) -> None:
    with pytest.raises(FedummError, match=wanted[1]):
        check_hub(config(data_path=str(tmp_path), **options))
    assert asked == [wanted]


@pytest.mark.parametrize("kept", ["fedumm/nobody--their-vqa-train-40-abc", "nobody___their-vqa"])
def test_a_cached_data_set_will_do(asked: list[tuple[str, str]], tmp_path: Path, kept: str) -> None:
    (tmp_path / kept).mkdir(parents=True)
    check_hub(config(dataset="nobody/their-vqa", data_path=str(tmp_path)))
    assert asked == [("dataset", "nobody/their-vqa")]
