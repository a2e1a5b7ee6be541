"""From the options of a run to its privacy; every combination that breaks the guarantee is refused with a remedy."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.privacy.accountant import Accountant
from fedumm.privacy.plan import DPPlan, plan_for

CENTRAL: dict[str, Any] = {"dp": "central", "dp_noise_multiplier": 1.5, "client_weights": "equal", "num_clients": 10}
LOCAL: dict[str, Any] = {**CENTRAL, "dp": "local"}


def plan(linear: bool = True, **options: Any) -> DPPlan | None:
    return plan_for(FederateConfig(model_backend="toy", **options), linear)


def test_off_is_no_plan() -> None:
    assert plan() is None
    assert plan(linear=False, scaffold=True, client_weights="samples") is None


def test_all_clients_in_every_round() -> None:
    expected = DPPlan("central", clip=0.5, noise_multiplier=1.5, delta=1e-6, sampling=1.0, expected=10.0)
    assert plan(**CENTRAL, dp_clip=0.5, dp_delta=1e-6) == expected
    assert plan(**CENTRAL, dp_clip=0.5, dp_delta=1e-6, clients_per_round=10) == expected
    assert expected.std == 0.75
    assert expected.accountant == Accountant("central", 1.5, 1.0, 1e-6)


def test_sampled_clients() -> None:
    assert plan(**CENTRAL, clients_per_round=4) == DPPlan("central", 1.0, 1.5, 1e-5, sampling=0.4, expected=4.0)


def test_local_noise_has_no_gain_from_sampling() -> None:
    assert plan(**LOCAL, clients_per_round=4) == DPPlan("local", 1.0, 1.5, 1e-5, sampling=1.0, expected=4.0)


@pytest.mark.parametrize("dp", ["central", "local"])
@pytest.mark.parametrize("clients_per_round", [0, 3])
def test_the_noise_follows_from_epsilon_after_the_last_round(dp: str, clients_per_round: int) -> None:
    options = {**CENTRAL, "dp": dp, "dp_noise_multiplier": 0.0, "dp_epsilon": 8.0, "num_rounds": 20}
    made = plan(**options, clients_per_round=clients_per_round)
    assert made is not None
    assert 7.9 < made.accountant.epsilon(20) <= 8


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dp_epsilon": 8.0}, "--dp_epsilon needs --dp central or --dp local."),
    ({"dp_noise_multiplier": 1.0}, "--dp_noise_multiplier needs --dp central or --dp local."),
    ({"dp_clip": 0.1}, "--dp_clip needs --dp central or --dp local."),
    ({"dp_delta": 1e-6}, "--dp_delta needs --dp central or --dp local."),
    (
        {**CENTRAL, "dp_noise_multiplier": 0.0},
        "--dp central needs a goal: add --dp_epsilon (the noise follows) or --dp_noise_multiplier.",
    ),
    (
        {**LOCAL, "dp_epsilon": 1.0},
        "--dp_epsilon and --dp_noise_multiplier determine each other: give one of them.",
    ),
    (
        {**CENTRAL, "scaffold": True},
        "--scaffold sends control variates, which --dp does not cover: leave it out.",
    ),
    (
        {**LOCAL, "scaffold": True},
        "--scaffold sends control variates, which --dp does not cover: leave it out.",
    ),
    (
        {**CENTRAL, "client_weights": "samples"},
        "--client_weights samples lets a client count for more: leave it out, or say equal.",
    ),
    (
        {**CENTRAL, "client_weights": "steps"},
        "--client_weights steps lets a client count for more: leave it out, or say equal.",
    ),
    (
        {**LOCAL, "client_weights": "samples"},
        "--client_weights samples tells how much data a client has: leave it out, or say equal.",
    ),
    (
        {**CENTRAL, "dp_delta": 0.1},
        "--dp_delta 0.1 promises nothing: use less than 1 / --num_clients = 0.1.",
    ),
    (
        {**CENTRAL, "clients_per_round": 3, "dp_delta": 1e-12},
        "--dp_delta 1e-12 is too small to account for sampling: use 1e-09 or more.",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_a_combination_that_breaks_the_guarantee_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FedummError) as refusal:
        plan(**options)
    assert str(refusal.value) == message


def test_an_aggregator_that_is_no_mean_is_refused() -> None:
    with pytest.raises(FedummError) as refusal:
        plan(linear=False, **CENTRAL, aggregator="median")
    assert str(refusal.value) == (
        "--aggregator median is no plain mean, so that noise can't be fitted to one client's part: "
        "use --aggregator ffa_lora or fedavg, or --dp local."
    )


@pytest.mark.parametrize(
    "options",
    [
        {**CENTRAL, "dp_delta": 0.0999},
        {**CENTRAL, "dp_delta": 1e-12},
        {**CENTRAL, "clients_per_round": 3, "dp_delta": 1e-9},
        {**LOCAL, "dp_delta": 0.5},
        {**CENTRAL, "client_weights": "auto"},
        {**LOCAL, "client_weights": "auto"},
    ],
)
def test_what_keeps_the_guarantee_is_not_refused(options: dict[str, Any]) -> None:
    assert plan(**options) is not None


def test_after_local_noise_any_aggregator_will_do() -> None:
    assert plan(linear=False, **LOCAL, aggregator="median") is not None


def test_a_missing_library_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the noise is given, and its epsilon is first asked for after a round."""
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    with pytest.raises(FedummError, match=r"needs the package dp-accounting: pip install 'fedumm\[privacy\]'$"):
        plan(**CENTRAL)
    assert plan() is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dp", "on"),
        ("dp_clip", 0.0),
        ("dp_clip", float("inf")),
        ("dp_epsilon", -1.0),
        ("dp_delta", 0.0),
        ("dp_delta", 1.0),
        ("dp_noise_multiplier", float("nan")),
    ],
)
def test_options_have_bounds(name: str, value: Any) -> None:
    with pytest.raises(FedummError, match=f"^--{name} must be "):
        FederateConfig(model_backend="toy", **{name: value})


def test_a_run_without_privacy_waits_for_no_library() -> None:
    code = "import sys, fedumm.privacy.plan; print({'torch', 'scipy', 'dp_accounting'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
