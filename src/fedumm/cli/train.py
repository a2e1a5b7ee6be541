"""``fedumm train``: the centralised baseline."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.options import Parser, add_options, check_caches, check_model, config_from
from fedumm.config import CentralConfig, write_yaml
from fedumm.stopping import exit_status

if TYPE_CHECKING:
    from fedumm.training.centralized import CentralResult

DESCRIPTION = """Centralised baseline: the same training with all data in one place.

  python src/local_train.py --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa \\
      --max_train_samples 500 --max_eval_samples 100"""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, train, save the adapter."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, CentralConfig)
    config = config_from(parser.parse_args(argv), CentralConfig)
    try:
        train(config, shlex.join([*prog.split(), *argv]))
        return 0
    except KeyboardInterrupt as stop:
        print(
            f"\n{prog}: stopped. Nothing is saved before the end: the same command starts from the beginning.",
            file=sys.stderr,
        )
        return exit_status(stop)


def train(config: CentralConfig, command: str) -> CentralResult:
    """Train, and save the adapter in ``config.output_dir`` with the ``command`` that repeats it.

    Raises:
        FedummError: bad options, data or model, or the loss is no longer a number.
    """
    check_model(config)
    check_caches(config)
    from fedumm.adapters.folder import save_folder
    from fedumm.adapters.origin import Origin
    from fedumm.backends.registry import backend_plugins
    from fedumm.formatting import others_text, score_text
    from fedumm.metrics.evaluation import summary
    from fedumm.model_card import central_card
    from fedumm.report.console import RunConsole
    from fedumm.run_options import to_mapping
    from fedumm.tasks import TASKS, VQA
    from fedumm.temporary import leave_room_for_sockets
    from fedumm.training.centralized import check_output, train_centrally
    from fedumm.training.data_check import check_data, data_to_check
    from fedumm.training.data_words import say

    output = Path(config.output_dir)
    check_output(output)
    if config.num_workers:
        leave_room_for_sockets()
    console = RunConsole()
    with console:
        data = check_data(config, data_to_check(config, console.progress), console.progress)
        say(data, config, console.line)
        result = train_centrally(
            config,
            console.line,
            console.progress,
            lambda done, total, loss: console.progress(f"training  loss {loss:.3f}", done, total),
        )
    plugins = backend_plugins(config)
    card = central_card(config, summary("test", result.after), plugins)
    save_folder(output / "adapter", result.adapter, result.adapter_config, card, Origin.of(config, plugins))
    write_yaml(to_mapping(config), output / "config.yaml", command)
    data.save(output)
    before, after = (summary("test", scores)["test_tasks"] for scores in (result.before, result.after))
    for name, trained in after.items():
        score = TASKS[name].score
        limit = f" of at most {data.eval.limit}" if name == VQA.name and data.eval.limit else ""
        console.line(f"{score}: untrained {score_text(before.get(name))}, trained {score_text(trained)}{limit}")
    for when, scores in (("untrained", result.before), ("trained", result.after)):
        if others := others_text(summary("test", scores), "test"):
            console.line(f"{when}: {others}")
    console.line(f"Adapter: {output / 'adapter'}")
    return result
