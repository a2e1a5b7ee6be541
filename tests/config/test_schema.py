"""``fedumm schema``: what the program writes and takes, the schema takes, and it refuses what is out of bounds."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_config import OUT_OF_BOUNDS, pairs

from fedumm.aggregation import available_aggregators
from fedumm.cli.main import main
from fedumm.config import CODE, CentralConfig, FederateConfig, RunConfig, write_yaml
from fedumm.errors import FedummError
from fedumm.run_options import from_mapping, known_options, to_mapping

KINDS: dict[str, Callable[[Any], bool]] = {
    "integer": lambda v: type(v) is int,
    "number": lambda v: type(v) in (int, float),
    "string": lambda v: isinstance(v, str),
    "boolean": lambda v: isinstance(v, bool),
}
KEYWORDS: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda v, kinds: any(KINDS[kind](v) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
    "enum": lambda v, names: v in names,
    "minimum": lambda v, bound: v >= bound,
    "maximum": lambda v, bound: v <= bound,
    "exclusiveMinimum": lambda v, bound: v > bound,
    "exclusiveMaximum": lambda v, bound: v < bound,
    "not": lambda v, other: v != other["const"],
}


def takes(schema: dict[str, Any], value: Any) -> bool:
    """The part of JSON Schema that is in use; an unknown keyword is an error."""
    return all(KEYWORDS[k](value, schema[k]) for k in schema if k not in ("description", "default"))


@pytest.fixture(params=[("federate", FederateConfig), ("train", CentralConfig)], ids=["federate", "train"])
def printed(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], Any]:
    command, config = request.param
    assert main(["schema", command]) == 0
    return json.loads(capsys.readouterr().out), config


def test_it_has_every_option_with_its_default_and_takes_it(printed: tuple[dict[str, Any], type[RunConfig]]) -> None:
    schema, config = printed
    options = known_options(config)
    assert schema["additionalProperties"] is False
    assert schema["properties"].keys() == options.keys() - {CODE}
    for name, entry in schema["properties"].items():
        if name != "model_backend":
            assert entry["default"] == options[name].default
            assert takes(entry, entry["default"])
        assert entry["description"].endswith(options[name].metadata["help"]) or name == "aggregator"


@pytest.mark.parametrize("aggregator", available_aggregators())
def test_it_takes_what_a_run_writes(aggregator: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema"])
    properties = json.loads(capsys.readouterr().out)["properties"]
    config = from_mapping(FederateConfig, {"model_backend": "blip_vqa", "aggregator": aggregator})
    write_yaml(to_mapping(config), tmp_path / "config.yaml", "x")
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert len(written) > 50
    assert all(takes(properties[name], value) for name, value in written.items())


VALUES = (-1, 0, 1, 2, 2**31, 0.0, 0.25, 0.5, 0.75, 1.0, "", "auto", "off", "int8", "krum", "16,site-1=4", True, False)


def test_it_refuses_nothing_that_the_program_takes(printed: tuple[dict[str, Any], type[RunConfig]]) -> None:
    schema, config = printed
    taken = 0
    for name, entry in schema["properties"].items():
        for value in VALUES:
            try:
                from_mapping(config, {"model_backend": "b", name: value})
            except FedummError:
                continue
            taken += 1
            assert takes(entry, value), (name, value)
    assert taken > 150


BY_CLIENT = ("lora_r", "lora_alpha")
"""Numbers or text, of which a schema can say little."""


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, v in pairs(OUT_OF_BOUNDS) if n not in BY_CLIENT and v != math.inf]
)
def test_it_refuses_what_is_out_of_bounds(name: str, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(["schema"])
    assert not takes(json.loads(capsys.readouterr().out)["properties"][name], value)
