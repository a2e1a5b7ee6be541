"""An aggregator's own options: from its class to the help, the command line, ``config.yaml``, a job and the host."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from fedumm import registry
from fedumm.aggregation import register_aggregator
from fedumm.aggregation.methods.fedavg import FedAvg
from fedumm.aggregation.methods.krum import Krum
from fedumm.aggregation.registry import aggregators
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import AGGREGATION, AggregatorOptions, FederateConfig, option, read_yaml, validators, write_yaml
from fedumm.errors import FedummError
from fedumm.federation.option_rules import check_rules
from fedumm.federation.runners.flare.job_options import config_of_job, job_options
from fedumm.federation.runners.flare.site_policy import SitePolicy
from fedumm.run_options import from_mapping, to_mapping
from support.toy import Run

BASIC = {"model_backend": "blip_vqa", "dataset": "easy_vqa", "model_name_or_path": "tiny"}


class Damped(FedAvg):
    """As in a user's file, but for the decorator."""

    @dataclass(frozen=True, kw_only=True)
    class Options(AggregatorOptions):
        damping: float = option(AGGREGATION, "Share (in %) that is held back", 0.5, validators.probability)
        damped_rounds: int = option(AGGREGATION, "Rounds with damping", 3, validators.positive)

        def check(self, clients: int) -> None:
            if clients < 2:
                raise FedummError("--damping needs two clients in a round.")

    options: Options


@pytest.fixture
def damped() -> Iterator[str]:
    register_aggregator("damped")(Damped)
    yield "damped"
    aggregators.forget("damped")


def parsed(*argv: str) -> tuple[str, argparse.Namespace]:
    parser = Parser(prog="x")
    add_options(parser, FederateConfig, argv)
    return parser.format_help(), parser.parse_args(argv)


FLAGS = [word for name, value in BASIC.items() for word in (f"--{name}", value)]


def test_it_is_a_flag_and_comes_back_from_every_place(damped: str, tmp_path: Path) -> None:
    text, flags = parsed(*FLAGS, "--aggregator", damped, "--damping", "0.25")
    assert "damped: Share (in %) that is held back (default: 0.5)" in " ".join(text.split())
    config = config_from(flags, FederateConfig)
    assert config.aggregator_options == Damped.Options(damping=0.25)
    assert Damped.from_config(config).options.damping == 0.25
    write_yaml(to_mapping(config), tmp_path / "config.yaml", "x")
    assert "\naggregator: damped\ndamping: 0.25\ndamped_rounds: 3\n" in (tmp_path / "config.yaml").read_text()
    assert from_mapping(FederateConfig, read_yaml(tmp_path / "config.yaml")) == config
    assert config_of_job(job_options(config)) == config
    assert SitePolicy(most={"damped_rounds": 3}).most == {"damped_rounds": 3}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"damping": 1.0}, "^--damping must be at least 0 and below 1, not 1.0"),
        ({"damping": "much"}, "^--damping must be of type float, not 'much'"),
        ({"damped_rounds": 2.5}, "^--damped_rounds must be of type int"),
        ({"dampin": 0.1}, "Unknown option 'dampin' in config. Did you mean 'damping'"),
        ({"damping": 0.1, "aggregator": "fedavg"}, "--damping means nothing to --aggregator fedavg, but to damped"),
        ({"trim_ratio": 0.1}, "--trim_ratio means nothing to --aggregator damped, but to trimmed_mean"),
        ({"aggregator": "dampd"}, "Unknown aggregator 'dampd'. Available: damped, .* Did you mean 'damped'"),
        ({"aggregator": ["damped"]}, "--aggregator must be of type str"),
    ],
)
def test_its_values_are_checked_like_all_others(damped: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(FedummError, match=message):
        from_mapping(FederateConfig, {**BASIC, "aggregator": damped, **values})


def test_the_default_of_another_aggregators_option_is_no_contradiction() -> None:
    """So the file of a run can be used with another aggregator."""
    values = to_mapping(from_mapping(FederateConfig, {**BASIC, "aggregator": "krum"}))
    config = from_mapping(FederateConfig, {**values, "aggregator": "median"})
    assert config.aggregator == "median"
    assert "krum_f" in values
    assert "krum_f" not in to_mapping(config)


def test_without_options_there_are_the_defaults(damped: str) -> None:
    config = FederateConfig(model_backend="b", aggregator=damped)
    assert to_mapping(config)["damping"] == 0.5
    assert Damped.from_config(config).options == Damped.Options()


def test_options_of_another_class_and_a_bad_number_of_clients_are_refused_before_any_work(damped: str) -> None:
    with pytest.raises(FedummError, match=r"Krum\.Options are not the options of Damped"):
        check_rules(FederateConfig(model_backend="b", aggregator=damped, aggregator_options=Krum.Options()))
    with pytest.raises(FedummError, match="needs two clients"):
        check_rules(FederateConfig(model_backend="b", aggregator=damped, num_clients=1))
    with pytest.raises(FedummError, match="aggregator_options must be an Options of the aggregator's class"):
        FederateConfig(model_backend="b", aggregator_options={"damping": 0.5})  # type: ignore[arg-type]


def test_a_run_has_it(damped: str, run_toy: Run) -> None:
    path, _ = run_toy(aggregator=damped, damping=0.25, num_rounds=1)
    assert read_yaml(path / "config.yaml")["damping"] == 0.25


def test_the_options_of_a_package_are_flags_once_it_is_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def entry_points(group: str, name: str = "damped") -> list[EntryPoint]:
        return (
            [EntryPoint(name, f"{__name__}:Damped", group)] if (group, name) == ("fedumm.aggregators", "damped") else []
        )

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert "--damping" not in parsed(*FLAGS)[0]
    (tmp_path / "options.yaml").write_text("aggregator: damped\n")
    for choice in (["--aggregator", "damped"], ["--config", str(tmp_path / "options.yaml")]):
        text, flags = parsed(*FLAGS, *choice, "--damping", "0.25")
        assert "--damping" in text
        assert config_from(flags, FederateConfig).aggregator_options == Damped.Options(damping=0.25)
    aggregators.forget("damped")


def with_options(**members: Any) -> Any:
    return type("Bad", (FedAvg,), {"Options": dataclass(frozen=True, kw_only=True)(_options(members))})


def _options(members: dict[str, Any]) -> Any:
    kinds = {name: kind for name, (kind, _) in members.items()}
    values = {name: value for name, (_, value) in members.items() if value is not None}
    return type("Options", (AggregatorOptions,), {"__annotations__": kinds, **values})


BAD: list[tuple[Any, str]] = [
    (object, "must be a subclass of"),
    (Damped.Options, "must be a subclass of"),
    (Damped(), "must be a subclass of"),
    (type("Bad", (FedAvg,), {"Options": dict}), "must derive from"),
    (with_options(lr=(float, option(AGGREGATION, "x", 1.0))), "option lr is an option of every run already"),
    (with_options(lists=(list, option(AGGREGATION, "x", 1.0))), "The option lists is of type list, and must be one of"),
    (with_options(bare=(int, 3)), "the field bare of its Options must be made by fedumm.config.option"),
    (with_options(needed=(int, option(AGGREGATION, "x"))), "each of its options needs a default"),
    (with_options(odd=(int, option(AGGREGATION, "x", -1, validators.positive))), "--odd must be positive, not -1"),
    (
        type("Bad", (FedAvg,), {"Options": _options({"plain": (int, option(AGGREGATION, "x", 1))})}),
        "its Options with plain needs the decorator @dataclass",
    ),
]


@pytest.mark.parametrize(("item", "message"), BAD, ids=[message for _, message in BAD])
def test_what_can_be_no_aggregator_is_refused_when_it_is_registered(item: Any, message: str) -> None:
    with pytest.raises(FedummError, match=f"^Aggregator 'bad'.*{message}"):
        register_aggregator("bad", item)
    assert "bad" not in aggregators.names()
