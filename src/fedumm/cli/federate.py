"""``fedumm federate``: rounds over many clients."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import fields

from fedumm.cli.options import Parser, add_options, check_caches, check_model, config_from
from fedumm.config import AGGREGATION, EXECUTION, PRIVACY, WIRE, FederateConfig, from_mapping, read_yaml
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.report.run_folder import CONFIG, folder_for_name

DESCRIPTION = """Federated fine-tuning: clients train LoRA adapters on their own data, a server averages them.

  python job.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \\
      --num_clients 4 --num_rounds 3 --dirichlet_alpha 0.5 --simulator"""

RUNNERS = ("simulator", "in_process", "export_dir")
NO_RUNNER = """Say how to run: --simulator, --in_process or --export_dir. For example:
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --simulator
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --in_process
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --export_dir jobs"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, run."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, FederateConfig)
    parsed = parser.parse_args(argv)
    config = _resumed(parsed) if getattr(parsed, "resume", "") else config_from(parsed, FederateConfig, RUNNERS)
    runners = [name for name in RUNNERS if getattr(config, name)]
    if not runners:
        raise FedummError(NO_RUNNER.format(prog=prog))
    if len(runners) > 1:
        raise FedummError(f"--{runners[0]} and --{runners[1]} exclude each other.")
    check_model(config)
    _check_rules(config)
    _check_places(config)
    from fedumm.federation.launch import export, run

    if config.export_dir:
        return export(config)
    return run(config, shlex.join([*prog.split(), *argv]))


def _resumed(parsed: argparse.Namespace) -> FederateConfig:
    """The options that the run began with, and those of the flags that change nothing of what it computes."""
    flags = {name: value for name, value in vars(parsed).items() if value is not None}
    path = folder_for_name(flags.pop("resume"))
    if not (path / CONFIG).is_file():
        raise FedummError(f"--resume {path}: there is no run in that folder.")
    fixed = {"threads", "hosts", "name", "overwrite"}
    free = {f.name for f in fields(FederateConfig) if f.metadata["group"] == EXECUTION} - fixed
    for name in flags:
        if name not in free | {"num_rounds"}:
            raise FedummError(f"--{name} can't be changed when a run goes on; --num_rounds can, and how it is run.")
    values = read_yaml(path / CONFIG)
    if values.get("dp") == "local":
        raise FedummError(
            "--resume: a round done again would send updates with other noise, which costs privacy again."
        )
    if values.get("dp_epsilon") and flags.get("num_rounds", values["num_rounds"]) != values["num_rounds"]:
        raise FedummError("--num_rounds can't be changed: the noise was chosen for --dp_epsilon after all rounds.")
    if any(name in flags for name in RUNNERS):
        values = {name: value for name, value in values.items() if name not in RUNNERS}
    config = from_mapping(FederateConfig, {**values, **flags, "resume": str(path), "name": str(path)})
    if config.export_dir:
        raise FedummError("--resume is for runs on this machine: --simulator or --in_process.")
    return config


def _check_places(config: FederateConfig) -> None:
    """Of an exported job the caches are at the sites."""
    if config.export_dir:
        check_folder("export_dir", config.export_dir)
        return
    check_caches(config)
    if config.name:
        check_folder("name", folder_for_name(config.name))


def _check_rules(config: FederateConfig) -> None:
    """Importing torch for it takes a second: not for what most runs are."""
    plain = FederateConfig(model_backend=config.model_backend)
    special = (AGGREGATION, WIRE, PRIVACY)
    names = [f.name for f in fields(FederateConfig) if f.metadata["group"] in special or f.name.startswith("lora_")]
    if any(getattr(config, name) != getattr(plain, name) for name in names):
        from fedumm.federation.rules import check_rules

        check_rules(config)
