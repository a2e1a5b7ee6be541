"""From the options' dataclasses to ``argparse``, and back."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import MISSING, Field, replace
from typing import Any, NoReturn

from fedumm.backends.answers import read_answers
from fedumm.backends.registry import ANSWER_ONLY, BACKENDS, check_answers_only, check_backend_name
from fedumm.checkpoints import resolve_checkpoint
from fedumm.config import (
    EXECUTION,
    GROUPS,
    AnyConfig,
    FederateConfig,
    RunConfig,
    option_types,
    read_yaml,
)
from fedumm.config.client_data import client_folders, with_full_paths
from fedumm.config.validators import OneOf
from fedumm.data.configurations import split_name
from fedumm.data.partition import partitioner_for
from fedumm.data.source import available_sources
from fedumm.errors import FedummError, did_you_mean
from fedumm.metrics.registry import check_metric_name
from fedumm.output import check_cache
from fedumm.run_options import described_options, from_mapping
from fedumm.texts import one_line
from fedumm.trackers import check_trackers

MEANT = {
    "learning_rate": ("--lr",),
    "epochs": ("--num_epochs", "--local_epochs"),
    "rounds": ("--num_rounds",),
    "clients": ("--num_clients",),
    "model": ("--model_backend",),
    "data": ("--dataset",),
    "alpha": ("--dirichlet_alpha",),
    "rank": ("--lora_r",),
    "output": ("--out", "--output_dir", "--name"),
}
"""Flags that people write, and ours: the first one that a command has."""


class ParserMadeError(Exception):
    """A command has made its parser, and is not carried out: see :func:`catching_parsers`."""

    def __init__(self, parser: Parser) -> None:
        super().__init__("a parser was made")
        self.parser = parser


_catching: ContextVar[bool] = ContextVar("catching", default=False)


@contextlib.contextmanager
def catching_parsers() -> Iterator[None]:
    """Within it, a command raises :class:`ParserMadeError` where it would parse."""
    token = _catching.set(True)
    try:
        yield
    finally:
        _catching.reset(token)


_FILES = {
    "adapter", "answers", "config", "dataset", "image", "image_root", "model_name_or_path", "more_images", "name",
    "out", "plugin", "run", "runs", "folder", "startup_kit", "study", "workspace",
}  # fmt: skip
"""Options and arguments that files or folders complete."""


def _completed(action: argparse.Action, names: Sequence[str] = ()) -> argparse.Action:
    """``action``, which tells a script for the shell what completes it.

    Args:
        names: what it may be.
    """
    if _catching.get():
        import shtab

        if names or action.choices:
            action.choices = list(names or action.choices or ())
        elif action.dest in _FILES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    return action


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` that raises :class:`FedummError` and knows the nearest flag."""

    def __init__(self, **options: Any) -> None:
        settings = {
            "usage": "%(prog)s [OPTIONS]",
            "allow_abbrev": False,
            "formatter_class": argparse.RawDescriptionHelpFormatter,
        }
        super().__init__(**{**settings, **options})

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        """As ``argparse`` does."""
        return _completed(super().add_argument(*names, **settings))

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage of forty options."""
        if several := re.match(r"argument (--\w+): invalid \w+ value: '([\w.+-]+,[\w.,+-]+)'", message):
            message += f". For runs with several values: fedumm sweep {several[1]} {several[2]} ..."
        raise FedummError(f"{message}\nSee '{self.prog} --help'.")

    def print_help(self, file: Any = None) -> None:
        """Print; what can't be printed is an error, which ``argparse`` would pass over."""
        print(self.format_help(), end="", file=file)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; an unknown flag is an error that names the nearest known one."""
        if _catching.get():
            raise ParserMadeError(self)
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings]
            name = unknown[0].split("=")[0]
            if _is_number(name) and (before := _option_before(name, args or sys.argv[1:])) in flags:
                self.error(
                    f"{before} takes one value, and {name} follows it. For runs with several values: "
                    f"fedumm sweep {before} 1,2,3 ..."
                )
            ours = MEANT.get(name.lstrip("-").replace("-", "_"), ())
            meant = next((flag for flag in ours if flag in flags), name)
            self.error(f"Unknown option {name!r}.{did_you_mean(meant, flags)}")
        return parsed


def add_options(parser: argparse.ArgumentParser, config: type[RunConfig], argv: Sequence[str] = ()) -> None:
    """One flag per option of ``config``, in the groups of the seed's help; ``argv`` says whose own flags there are.

    Those of the aggregators that are shipped or registered are always there, those of an installed package's where
    ``argv`` chooses it.
    """
    described = list(described_options(config, _chosen_aggregator(argv)))
    names = [name for name in GROUPS if any(f.metadata["group"] == name for f, _ in described)]
    topic = _topic(parser, argv, names)
    groups = {name: parser.add_argument_group(name) for name in names}
    if topic in ("", EXECUTION):
        groups[EXECUTION].add_argument("--config", metavar="FILE", help="YAML file with options; flags override it")
    for f, text in described:
        if topic in ("", f.metadata["group"]):
            add_option(groups[f.metadata["group"]], f, text)
    if not topic:
        parser.epilog = f"One topic only: {parser.prog} --help {' | '.join(map(_short, names))}"


def _short(topic: str) -> str:
    """``federated`` for ``Federated Learning``."""
    return topic.split()[0].lower()


def _topic(parser: argparse.ArgumentParser, argv: Sequence[str], names: Sequence[str]) -> str:
    """The group whose options ``--help TOPIC`` asks for; empty: help is not asked for, or for all.

    Raises:
        FedummError: there is no such group.
    """
    place = next((place for place, word in enumerate(argv) if word in ("-h", "--help")), len(argv))
    word = argv[place + 1].lower() if place + 1 < len(argv) and not argv[place + 1].startswith("-") else ""
    found = next((name for name in names if word and name.lower().startswith(word)), "")
    if word and not found:
        short = list(map(_short, names))
        known = f"There are: {', '.join(short)}.{did_you_mean(word, short)}"
        parser.error(f"--help {one_line(word, 60)}: no such topic. {known}")
    return found


def add_option(group: argparse._ActionsContainer, f: Field[Any], text: str = "", *, required: bool = False) -> None:
    """A flag for the option ``f``, described by ``text`` or its own; one that is not given is not in what is parsed."""
    types, text = option_types(f), (text or f.metadata["help"]).replace("%", "%%")
    if types == (bool,):
        group.add_argument(f"--{f.name}", action="store_const", const=True, default=argparse.SUPPRESS, help=text)
        return
    names, several = _names(f), f.metadata["several"]
    shown = "(required)" if required or f.default is MISSING else f"(default: {f.default!r})".replace("'", '"')
    action = group.add_argument(
        f"--{f.name}",
        action=Joined if several else "store",
        type=number_or_text if len(types) > 1 else types[0],
        metavar=f"{{{','.join(names)}}}" if names else types[0].__name__.upper(),
        default=argparse.SUPPRESS,
        required=required,
        help=f"{text} {shown}",
    )
    _completed(action, _known_names(f) or names)


def _is_number(text: str) -> bool:
    with contextlib.suppress(ValueError):
        return float(text) >= 0
    return False


def _option_before(name: str, args: Sequence[str]) -> str:
    """The option whose value a word that is no option comes after; empty: there is none."""
    place = args.index(name) if name in args else 0
    words = args[max(0, place - 2) : place]
    return words[0] if len(words) == 2 and words[0].startswith("--") else ""


def _names(f: Field[Any]) -> list[str]:
    """What the option may be, where that is one of a few names."""
    check = f.metadata["check"]
    return list(filter(None, check.names)) if isinstance(check, OneOf) else []


def _known_names(f: Field[Any]) -> Sequence[str]:
    """What is registered of what the option names, for a script for the shell."""
    if not _catching.get():
        return ()
    if f.name == "aggregator":
        from fedumm.aggregation import available_aggregators

        return available_aggregators()
    return list(BACKENDS.names()) if f.name == "model_backend" else ()


def _chosen_aggregator(argv: Sequence[str]) -> str:
    """What the command line or its ``--config`` names; empty: neither does, or what is wrong is told later."""
    early = Parser(add_help=False)
    early.add_argument("--aggregator", default="")
    early.add_argument("--config", default="")
    with contextlib.suppress(FedummError):
        parsed, _ = early.parse_known_args(argv)
        if parsed.aggregator or not parsed.config:
            return str(parsed.aggregator)
        return str(read_yaml(parsed.config).get("aggregator", ""))
    return ""


class Joined(argparse.Action):
    """A flag that may be given again: what it gets is joined as in ``PATH``."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        """Add one more."""
        before = getattr(namespace, self.dest, "")
        setattr(namespace, self.dest, os.pathsep.join(filter(None, [before, values])))


def number_or_text(text: str) -> int | str:
    """A whole number as such, for options that are one or a text."""
    return int(text) if text.lstrip("-").isdecimal() else text


def config_from(parsed: argparse.Namespace, config: type[AnyConfig], exclusive: Sequence[str] = ()) -> AnyConfig:
    """Defaults, then ``--config``, then flags; one of the flags ``exclusive`` sets the others of the file aside."""
    flags = dict(vars(parsed))
    path = flags.pop("config", None)
    values = read_yaml(path) if path else {}
    if any(name in flags for name in exclusive):
        values = {name: value for name, value in values.items() if name not in exclusive}
    return with_absolute_paths(from_mapping(config, {**values, **flags}, origin=path or "options"))


def with_absolute_paths(config: AnyConfig) -> AnyConfig:
    """Local files and folders by their full names: processes of a run work in other folders."""
    dataset, configuration = split_name(config.dataset)
    given = {"model_name_or_path": config.model_name_or_path, "dataset": dataset}
    known = {"tiny", *available_sources()}
    local = {n: v for n, v in given.items() if v and v not in known and os.path.exists(os.path.expanduser(v))}
    local |= {
        name: getattr(config, name) for name in ("data_path", "feature_cache_dir", "answers") if getattr(config, name)
    }
    absolute: dict[str, Any] = {name: os.path.realpath(os.path.expanduser(value)) for name, value in local.items()}
    if configuration and "dataset" in local:
        absolute["dataset"] += f":{configuration}"
    for name, files in (("image_root", config.image_roots), ("plugin", config.plugins)):
        absolute[name] = os.pathsep.join(os.path.realpath(os.path.expanduser(file)) for file in files)
    if isinstance(config, FederateConfig) and config.client_data:
        absolute |= _own_data(config)
    return replace(config, **absolute)


def _own_data(config: FederateConfig) -> dict[str, Any]:
    """The options that follow from ``--client_data``."""
    given = with_full_paths(config.client_data)
    count, default = len(client_folders(given)), FederateConfig.num_clients
    if config.num_clients not in (count, default):
        raise FedummError(f"--client_data names {count} clients, and --num_clients says {config.num_clients}.")
    return {"client_data": given, "num_clients": count, "partition": "own"}


def check_model(config: RunConfig) -> None:
    """Find a mistyped backend or model folder before any long work."""
    check_backend_name(config.model_backend)
    check_metric_name(config.metric)
    check_trackers(config.trackers)
    if config.answers:
        read_answers(config.answers)
    if not BACKENDS.is_shipped(config.model_backend):
        return
    if config.model_backend in ANSWER_ONLY:
        check_answers_only(config)
    if config.model_name_or_path:
        resolve_checkpoint(config.model_backend, config.model_name_or_path)


def check_partition(config: FederateConfig) -> None:
    """Find a mistyped partitioner, or options that make no sense for it, before any long work."""
    if config.partition:
        partitioner_for(config)


def check_caches(config: RunConfig) -> None:
    """Find a cache folder that can't be written to before any long work."""
    if config.data_path:
        check_cache("data_path", config.data_path)
    if config.feature_cache_dir and config.feature_cache in ("auto", "disk"):
        check_cache("feature_cache_dir", config.feature_cache_dir)
    for root in config.image_roots:
        if not os.path.isdir(root):
            raise FedummError(f"--image_root {root}: no such folder.")
