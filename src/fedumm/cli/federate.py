"""``fedumm federate``: rounds over many clients."""

from __future__ import annotations

import shlex

from fedumm.backends.registry import check_backend_file, check_backend_name
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import FederateConfig
from fedumm.errors import FedummError

DESCRIPTION = """Federated fine-tuning: clients train LoRA adapters on their own data, a server averages them.

  python job.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \\
      --num_clients 4 --num_rounds 3 --dirichlet_alpha 0.5 --simulator"""

NO_RUNNER = """Say how to run: --simulator, --in_process or --export_dir. For example:
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --simulator
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --in_process
  {prog} --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --export_dir jobs"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, run."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, FederateConfig)
    config = config_from(parser.parse_args(argv), FederateConfig)
    runners = [name for name in ("simulator", "in_process", "export_dir") if getattr(config, name)]
    if not runners:
        raise FedummError(NO_RUNNER.format(prog=prog))
    if len(runners) > 1:
        raise FedummError(f"--{runners[0]} and --{runners[1]} exclude each other.")
    if config.backend_file:
        check_backend_file(config.backend_file)
    else:
        check_backend_name(config.model_backend)
    from fedumm.federation.launch import export, run

    if config.export_dir:
        return export(config)
    return run(config, shlex.join([*prog.split(), *argv]))
