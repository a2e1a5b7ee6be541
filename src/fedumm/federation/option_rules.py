"""Combinations of options that make no sense together, found before any work. Imports torch."""

from __future__ import annotations

from dataclasses import fields

from fedumm.aggregation import available_aggregators, get_aggregator
from fedumm.compression.registry import check_codec_name
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.assignment import names_of
from fedumm.privacy.plan import DPPlan, plan_for

_LONG = 5.0
"""Minutes of training with which a site might be late for the least time that a round waits."""


def check_rules(config: FederateConfig) -> DPPlan | None:
    """What differential privacy means for this run, if it was asked for.

    Raises:
        FedummError: options that contradict each other.
    """
    method = get_aggregator(config.aggregator)
    method.from_config(config).options.check(config.clients_per_round or config.num_clients)
    for problem in _problems(config):
        raise FedummError(problem)
    return plan_for(config, method.linear)


def _problems(config: FederateConfig) -> list[str]:
    for wire in (config.up, config.down):
        check_codec_name(wire)
    method, problems = get_aggregator(config.aggregator), []
    if not config.equal_ranks:
        if not method.unequal_ranks:
            able = [name for name in available_aggregators() if get_aggregator(name).unequal_ranks]
            problems.append(
                f"--aggregator {config.aggregator} needs one --lora_r and one --lora_alpha for all clients. "
                f"Aggregators that allow different ranks: {', '.join(able)}."
            )
        if not config.export_dir:
            problems += _unknown_clients(config)
    if config.scaffold and not (method.linear and method.communicated_factors == frozenset("AB")):
        problems.append(f"--scaffold works with averaged adapters, not with --aggregator {config.aggregator}.")
    if config.top_k < 1 and not method.supports_deltas:
        problems.append(
            f"--top_k holds back what is small for later rounds; after one of --aggregator {config.aggregator} the "
            "factors mean something else. Use --wire_up int8 or nf4."
        )
    if config.secure_aggregation and (problem := _not_a_sum(config)):
        problems.append(f"--secure_aggregation {problem}")
    if config.dp != "off" and method.communicated_factors != frozenset("AB"):
        problems.append(
            f"--aggregator {config.aggregator} hands out factors that clients keep to themselves, without noise: with "
            "--dp use another, such as ffa_lora."
        )
    if config.answer_mode == "rank" and config.export_dir and not config.own_data:
        problems.append(
            "--answer_mode rank: a job takes no file of answers along, and sites choose from their own training "
            "answers: add --partition own."
        )
    if config.load_in_4bit and method.updates_base_model:
        problems.append(
            f"--aggregator {config.aggregator} changes frozen weights, which --load_in_4bit rounds to four bits: "
            "leave one out."
        )
    if config.export_dir and config.round_minutes >= _LONG and not config.round_timeout:
        problems.append(
            f"--round_minutes {config.round_minutes:g}: sites whose data are few may be through long before, and the "
            "others would be waited for by what these took. Add a --round_timeout, in seconds, of more than "
            f"{60 * config.round_minutes:g}, with time to score and to send."
        )
    if config.patience and config.dp != "off":
        problems.append("--patience stops by scores, and with --dp none that are not private may decide anything.")
    if config.export_rank and not method.updates_base_model:
        problems.append(f"--export_rank means nothing to --aggregator {config.aggregator}, which keeps --lora_r.")
    return problems


def _not_a_sum(config: FederateConfig) -> str:
    """What of the options can't do with the sum of updates alone, and what to do; empty if nothing is."""
    method = get_aggregator(config.aggregator)
    if not method.linear:
        able = [name for name in available_aggregators() if get_aggregator(name).linear]
        return f"hides single updates, which --aggregator {config.aggregator} needs. Use one of {', '.join(able)}."
    if not config.equal_ranks:
        return "sums updates of one shape: use one --lora_r and one --lora_alpha for all clients."
    if config.up != "float32" or config.top_k < 1:
        return "sends whole numbers of its own: leave --wire_up and --top_k out (--wire_down may stay)."
    if config.scaffold:
        return "does not cover control variates: leave --scaffold out."
    if config.dp == "central":
        return "hides updates from the server, which clips each with --dp central: use --dp local."
    if config.dp == "local":
        return "is not combined with --dp local, under which each update is private by itself: leave one out."
    if config.weights == "steps" and config.round_minutes:
        return "needs every weight before the round, and --round_minutes makes steps uncertain: use another."
    if min(config.clients_per_round or config.num_clients, config.num_clients) < 2:
        return "needs two clients in a round, or the sum is one client's update."
    for name, off in (("max_update_norm", 0.0), ("over_norm", None)):
        default = next(f.default for f in fields(config) if f.name == name)
        if getattr(config, name) != default and getattr(config, name) != off:
            return f"hides how long an update is: leave --{name} out."
    return ""


def _unknown_clients(config: FederateConfig) -> list[str]:
    """A mistyped name, or a client without a number."""
    if not (config.simulator or config.in_process):
        return []  # the sites of a job have names of their own: the server sees who is there
    names = names_of(config)
    for value in (config.ranks, config.alphas):
        for name in sorted(value.own.keys() - set(names)):
            return [f"--lora_r or --lora_alpha names {name}, but the clients are {names[0]} to {names[-1]}."]
        for name in names:
            _ = value[name]
    return []
