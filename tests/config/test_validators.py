"""Numbers by client."""

from __future__ import annotations

import pytest

from fedumm.config import CentralConfig, FederateConfig, read_yaml, write_yaml
from fedumm.config.per_client import ByClient
from fedumm.config.validators import by_client
from fedumm.errors import FedummError
from fedumm.run_options import from_mapping, to_mapping


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (16, (16, 16, 16)), ("16", (16, 16, 16)), ("8,site-1=4", (4, 8, 8)), ("site-2=3,8", (8, 3, 8)),
        ("site-1=4,site-2=16,site-3=1", (4, 16, 1)), (" 8 , site-1 = 4 ", (4, 8, 8)),
    ],
)  # fmt: skip
def test_each_client_has_its_number(value: int | str, numbers: tuple[int, ...]) -> None:
    chosen = ByClient(value)
    assert tuple(chosen[f"site-{i}"] for i in (1, 2, 3)) == numbers
    assert chosen.highest == max(numbers)
    assert chosen.equal == (len({*numbers}) == 1)


@pytest.mark.parametrize(
    "value", ["", "0", "-4", 0, "x", "4,8", "site-1=", "=4", "site-1=0", "site-1=4,site-1=8", "4;8", "1.5", "9" * 12]
)
def test_anything_else_is_refused(value: int | str) -> None:
    assert by_client(value) == "must be a positive number, or one for each client such as 16,site-1=4,site-2=8"


def test_a_client_without_a_number_is_named() -> None:
    with pytest.raises(FedummError, match=r"no number for site-2: name every client, or .* such as 16,site-1=4"):
        ByClient("site-1=4")["site-2"]


def test_options_hold_them_also_through_yaml(tmp_path) -> None:  # type: ignore[no-untyped-def]
    values = {"model_backend": "toy", "lora_r": "8,site-1=4", "lora_alpha": "16,site-1=32"}
    config = from_mapping(FederateConfig, values)
    write_yaml(to_mapping(config), tmp_path / "config.yaml", "x")
    again = from_mapping(FederateConfig, read_yaml(tmp_path / "config.yaml"))
    assert again == config
    assert (again.rank, again.alpha, again.equal_ranks) == (8, 16, False)
    assert (again.rank_of("site-1"), again.scale_of("site-1"), again.scale_of("site-2")) == (4, 8.0, 2.0)
    with pytest.raises(FedummError, match="by client are for federated runs"):
        CentralConfig(model_backend="toy", lora_r="8,site-1=4")
