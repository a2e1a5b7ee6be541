"""``fedumm federate``: rounds over many clients."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence

from fedumm.cli.options import Parser, add_options, check_caches, check_model, check_partition, config_from
from fedumm.cli.resume import RUNNERS, resumed, started_or_resumed
from fedumm.config import AGGREGATION, PRIVACY, WIRE, FederateConfig, option_fields
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.report.run_folder import folder_for, folder_for_name

DESCRIPTION = """Federated fine-tuning: clients train LoRA adapters on their own data, a server averages them.

  python job.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \\
      --num_clients 4 --num_rounds 3 --dirichlet_alpha 0.5 --simulator"""

NO_RUNNER = """Say how to run: --simulator, --in_process or --export_dir. For example:
  {command} --simulator
  {command} --in_process
  {command} --export_dir jobs"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, run."""
    config = options_of(argv, prog)
    if not any(getattr(config, name) for name in RUNNERS) and not config.dry_run:
        raise FedummError(NO_RUNNER.format(command=shlex.join([*prog.split(), *argv])))
    checked = check(config)
    if config.dry_run:
        from fedumm.cli.dry_run import dry_run

        return dry_run(config)
    if checked is None:
        print(f"The run in {folder_for(config)} is finished.")
        return 0
    from fedumm.federation.runners.launch import export, run

    if checked.export_dir:
        return export(checked)
    return run(checked, shlex.join([*prog.split(), *argv]))


def options_of(argv: Sequence[str], prog: str) -> FederateConfig:
    """What the command line ``argv`` says, each option by itself and together as far as the options' class knows.

    Raises:
        FedummError: an option is unknown, or has a value that it can't have.
    """
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, FederateConfig, argv)
    return _config(parser.parse_args(argv))


def check(config: FederateConfig) -> FederateConfig | None:
    """``config`` as it is to be run; None if the run that it names is finished.

    Raises:
        FedummError: something that can be known before any long work would stop the run.
    """
    runners = [name for name in RUNNERS if getattr(config, name)]
    if len(runners) > 1:
        raise FedummError(f"--{runners[0]} and --{runners[1]} can't be combined: choose one.")
    check_model(config)
    check_partition(config)
    check_rules_of(config)
    _check_places(config)
    return started_or_resumed(config) if config.resume_if_exists else config


def _config(parsed: argparse.Namespace) -> FederateConfig:
    if getattr(parsed, "resume", ""):
        return resumed({name: value for name, value in vars(parsed).items() if value is not None})
    config = config_from(parsed, FederateConfig, RUNNERS)
    if config.resume:
        raise FedummError("A resumed run has its own options: give --resume without --config.")
    return config


def _check_places(config: FederateConfig) -> None:
    """Of an exported job the caches are at the sites."""
    if config.export_dir:
        check_folder("export_dir", config.export_dir)
        return
    check_caches(config)
    if config.name:
        check_folder("name", folder_for_name(config.name))


def check_rules_of(config: FederateConfig) -> None:
    """Importing torch for it takes a second: not for what most runs are."""
    plain = FederateConfig(model_backend=config.model_backend)
    special = (AGGREGATION, WIRE, PRIVACY)
    own = option_fields(FederateConfig)
    names = [
        f.name for f in own if f.metadata["group"] in special or f.name.startswith(("lora_", "patience", "round_"))
    ]
    if any(getattr(config, name) != getattr(plain, name) for name in names):
        from fedumm.federation.option_rules import check_rules

        check_rules(config)
