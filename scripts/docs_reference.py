"""The site's pages on options and commands, from what the commands themselves are made of."""

from __future__ import annotations

import contextlib
import io
import os
import re
from dataclasses import MISSING, Field
from typing import Any
from unittest import mock

from fedumm.aggregation import available_aggregators
from fedumm.cli.main import COMMANDS, run
from fedumm.config import CODE, GROUPS, CentralConfig, FederateConfig, RunConfig, option_types
from fedumm.config.schema import json_schema
from fedumm.run_options import described_options

BY_TOPIC = {"check-site", "federate", "poc", "submit", "train", "sweep"}
"""Commands whose help lists a run's options, which have a page."""

COMMAND_OF: dict[type[RunConfig], str] = {FederateConfig: "federate", CentralConfig: "train"}

_TYPES = {int: "whole number", float: "number", str: "text", bool: "flag"}
_BOUNDS = {
    "minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "exclusiveMaximum": "below {}",
}  # fmt: skip


def options_page() -> str:
    """Every option of a run, by topic: its type, what it may be, its default, its help. reStructuredText."""
    known = {config: {f.name: (f, text) for f, text in described_options(config)} for config in COMMAND_OF}
    every = known[FederateConfig] | known[CentralConfig]
    schema = json_schema(every.values(), {"aggregator": available_aggregators()}, without=CODE)["properties"]
    lines = [
        *title("Options by name", "="),
        "Flags of ``fedumm federate`` and ``fedumm train``, keywords of :func:`fedumm.federate` and",
        ":func:`fedumm.train`, lines of a YAML file. Which option for what: :doc:`/docs/options`.",
        "",
    ]
    for group in GROUPS:
        lines += title(group, "-")
        for name, (f, text) in every.items():
            if f.metadata["group"] == group:
                whose = [command for config, command in COMMAND_OF.items() if name in known[config]]
                lines += _option(f, text, schema.get(name, {}), whose)
    return "\n".join(lines)


def _option(f: Field[Any], text: str, schema: dict[str, Any], whose: list[str]) -> list[str]:
    kind = " or ".join(_TYPES[one] for one in option_types(f))
    facts = [f"*{kind}*"]
    if names := [name for name in schema.get("enum", ()) if name]:
        facts.append("one of " + ", ".join(f"``{name}``" for name in names))
    if bounds := [said.format(schema[key]) for key, said in _BOUNDS.items() if key in schema]:
        facts.append(" and ".join(bounds))
    if f.metadata["several"]:
        facts.append("may be repeated")
    if f.default is MISSING:
        facts.append("required")
    elif kind != "flag" and f.default not in ("", ()):
        facts.append(f"default ``{f.default}``")
    if len(whose) == 1:
        facts.append(f"only ``fedumm {whose[0]}``")
    shown = "" if kind == "flag" else f" {f.name.rpartition('_')[2].upper()}"
    return [f".. option:: --{f.name}{shown}", "", f"   {plain(text)}.", "", f"   {'; '.join(facts)}", ""]


def commands_page() -> str:
    """What each command says of itself. reStructuredText."""
    lines = [*title("Commands", "="), "What ``fedumm COMMAND --help`` says.", ""]
    for name, text in COMMANDS.items():
        lines += [*title(f"fedumm {name}", "-"), f"{plain(text)}.", "", ".. code-block:: text", ""]
        lines += [f"   {line}".rstrip() for line in help_of(name).splitlines()]
        if name in BY_TOPIC:
            lines += ["", "And a run's options: :doc:`options`."]
        lines.append("")
    return "\n".join(lines)


def help_of(name: str) -> str:
    """The help of a command as it is on a screen of 100 columns, of a command with a run's options without them."""
    said = io.StringIO()
    screen = mock.patch.dict(os.environ, COLUMNS="100", NO_COLOR="1")
    with screen, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        run(name, ["--help"], f"fedumm {name}")
    text = said.getvalue()
    return text.partition(f"\n{GROUPS[0]}:\n")[0] if name in BY_TOPIC else text


def title(text: str, line: str) -> list[str]:
    """A heading."""
    return [text, line * len(text), ""]


def plain(text: str) -> str:
    """Help as reStructuredText that means nothing but itself; flags in it are code."""
    escaped = re.sub(r"([\\*`|])|_(?=\W|$)", r"\\\g<0>", text.rstrip("."))
    return re.sub(r"--\w+", r"``\g<0>``", escaped)
