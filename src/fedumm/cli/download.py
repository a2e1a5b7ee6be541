"""``fedumm download``: a run's model and data, for machines without a connection."""

from __future__ import annotations

import shlex
from pathlib import Path

from fedumm.cli.options import Parser, add_options, check_model, config_from
from fedumm.config import FederateConfig

DESCRIPTION = """Fetch the model and the data of a run from the Hugging Face Hub. Nothing is trained.
It takes the options of job.py, so it can be given those of the run:

  fedumm download --model_backend blip_vqa --data_path /scratch/$USER/hf_cache

Run it again with HF_HUB_OFFLINE=1 to check that everything is there."""


def main(argv: list[str], prog: str) -> int:
    """Parse, check, download."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    add_options(parser, FederateConfig, argv)
    config = config_from(parser.parse_args(argv), FederateConfig)
    check_model(config)

    from huggingface_hub import constants

    from fedumm.data.hub_access import fetch_model
    from fedumm.training.data import load_splits
    from fedumm.training.preflight import model_on_hub

    if model := model_on_hub(config):
        fetch_model(model)
        print(f"Model: {model}, in {constants.HF_HOME}")
    else:
        print("Model: nothing to download for this backend.")
    splits = load_splits(config)
    print(f"Data: {len(splits.train):,} training and {len(splits.eval):,} evaluation samples")
    for folder in dict.fromkeys([constants.HF_HOME, *filter(None, [config.data_path])]):
        print(f"{folder}: {_size(Path(folder)) / 1e9:,.2f} GB")
    home = f"HF_HOME={shlex.quote(str(constants.HF_HOME))} HF_HUB_OFFLINE=1"
    path = f" and --data_path {shlex.quote(config.data_path)}" if config.data_path else ""
    print(f"To run without a connection, use {home}{path}")
    return 0


def _size(folder: Path) -> int:
    """Bytes of all files in ``folder``; a link is not a file."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file() and not file.is_symlink())
