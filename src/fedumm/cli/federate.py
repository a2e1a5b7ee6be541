"""``fedumm federate``: rounds over many clients."""

from __future__ import annotations

import shlex

from fedumm.cli.options import Parser, add_options, check_model, config_from
from fedumm.config import FederateConfig
from fedumm.errors import FedummError

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
    config = config_from(parser.parse_args(argv), FederateConfig, RUNNERS)
    runners = [name for name in RUNNERS if getattr(config, name)]
    if not runners:
        raise FedummError(NO_RUNNER.format(prog=prog))
    if len(runners) > 1:
        raise FedummError(f"--{runners[0]} and --{runners[1]} exclude each other.")
    check_model(config)
    from fedumm.federation.launch import export, run

    if config.export_dir:
        return export(config)
    return run(config, shlex.join([*prog.split(), *argv]))
