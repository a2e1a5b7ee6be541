"""``fedumm evaluate``: any adapter, or none, on any data."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli.adapted import adapted_config, add_model_options, check_named, with_adapter
from fedumm.cli.options import Parser, add_option, check_caches, check_model, with_absolute_paths
from fedumm.config import RunConfig, option_fields
from fedumm.config.fields import DATA, TRAINING
from fedumm.config.fields import MODEL as MODEL_GROUP
from fedumm.data.column_values import SOURCE_ROW
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.tasks import TASK_OPTIONS, VQA

if TYPE_CHECKING:
    from fedumm.adapters import AdapterState
    from fedumm.backends.protocol import Progress
    from fedumm.data import DataSplits
    from fedumm.report.evaluation_result import EvaluationResult
    from fedumm.training.backbone import Backbone

DESCRIPTION = """Score a model, with or without an adapter, on the evaluation rows of a data set, and keep what it said.

  fedumm evaluate --adapter runs/demo/adapter/best --dataset easy_vqa --out scored
  fedumm evaluate --model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --max_eval_samples 500

Intervals are 95 % bootstrap intervals (percentile method, 2,000 draws). Whole images are drawn, with all their
questions, since questions about one image are not independent of each other."""

SHARED = {
    "task", "dataset", "columns", "max_train_samples", "max_eval_samples", "image_root", "allow_remote_images",
    "eval_fraction", "language", "drop_overlap", "skip_bad", "data_path", "seed",
    "answer_metric", "prompt", "train_answers", "answer_mode", "answers", "max_q_len", "max_a_len", "geneval_prompts",
    "eval_batch_size", "num_workers", "threads", "precision", "dtype", "load_in_4bit", "device_map",
    "feature_cache", "feature_cache_gb", "feature_cache_disk_gb", "feature_cache_dir", "feature_dtype",
}  # fmt: skip
"""Options of a run that say which rows are scored, and how."""

_HELP = {
    "task": "What to score: vqa (answering) | i2t (captions and reports) | t2i (drawing) | unified (vqa and t2i); of "
    "an adapter what it has learnt",
    "eval_batch_size": "Samples at a time (0: 64, with cached features 256, but no more than have room for their keys "
    "and values in half of the free memory, on a CPU in 4 GB)",
    "seed": "Random seed of the intervals' draws and of images to draw",
}

_TOPICS = {MODEL_GROUP: MODEL_GROUP, DATA: DATA, TRAINING: "Scoring"}

ALL = "all"
SPLITS = ("eval", "train", ALL)
_SPLIT_HELP = "which rows to score; of data with one split, eval is a share of it (--eval_fraction) (default: eval)"
MODEL = ("adapter", "model_backend", "model_name_or_path", "plugin", "gpu")


@dataclass(frozen=True)
class Evaluation:
    """What is to be done, checked as far as that goes without data and model.

    Attributes:
        given: the options as they were given, which say where the model comes from.
        config: of the data, and of the scores.
        model: the same for the task that the model is built for.
        adapter: its weights; empty without one.
        split: ``eval``, ``train`` or ``all``.
        official: whether ids of questions must be whole numbers.
    """

    given: argparse.Namespace
    config: RunConfig
    model: RunConfig
    adapter: AdapterState
    split: str = "eval"
    official: bool = False


def main(argv: list[str], prog: str) -> int:
    """Parse, score, write, show."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    _add_options(parser)
    parser.add_argument("--split", choices=SPLITS, default="eval", help=_SPLIT_HELP)
    parser.add_argument("--out", default="", help="folder for evaluation.json, predictions.jsonl, predictions.parquet")
    parser.add_argument("--format", choices=("vqa",), default="", help="vqa: the official vqa_results.json, too")
    parser.add_argument("--json", action="store_true", help="print all of it as JSON")
    args = parser.parse_args(argv)
    if args.format and not args.out:
        raise FedummError(f"--format {args.format} writes a file: say where with --out DIR.")
    if args.out:
        check_folder("out", args.out)
    wanted = checked(args)

    from fedumm.report.console import RunConsole, Screen

    with RunConsole(Screen(stderr=True)) as console:
        result = evaluated(wanted, console.progress, console.line, args.out)
    files = save(result, Path(args.out), args.format == "vqa") if args.out else []
    if args.json:
        from fedumm.report.run_folder import finite

        print(json.dumps(finite(result.to_mapping()), indent=2))
        return 0
    from fedumm.report.evaluation_tables import show

    # In a file no line is too long.
    show(result, Screen(width=None if sys.stdout.isatty() else 160))
    if files:
        print(f"Files: {', '.join(files)} in {args.out}")
    return 0


def _add_options(parser: argparse.ArgumentParser) -> None:
    """Those of a run, by topic."""
    groups = {name: parser.add_argument_group(title) for name, title in _TOPICS.items()}
    add_model_options(groups[MODEL_GROUP])
    for f in option_fields(RunConfig):
        if f.name in SHARED:
            text = _HELP.get(f.name, "")
            add_option(groups.get(f.metadata["group"], groups[TRAINING]), f, text, required=f.name == "dataset")


def save(result: EvaluationResult, folder: Path, official: bool) -> list[str]:
    """Write the files into ``folder``; their names."""
    from fedumm.report.prediction_files import save_evaluation

    try:
        return save_evaluation(result, folder, official)
    except OSError as error:
        raise FedummError(f"--out {folder} can't be written to: {error}.") from error


def namespace(given: Mapping[str, Any]) -> argparse.Namespace:
    """Options of the command, by name, as the parser would give them."""
    plain = {"split": "eval", "format": "", **dict.fromkeys(MODEL, "")}
    return argparse.Namespace(**{**plain, **given})


def checked(given: argparse.Namespace) -> Evaluation:
    """Everything that is known to be right or wrong before the data and the model are loaded.

    Raises:
        FedummError: an option is invalid, the adapter is damaged, or a folder can't be used.
    """
    config, state = adapted_config(given)
    learnt = _learnt(given) or config.task
    options = {name: getattr(given, name) for name in SHARED if hasattr(given, name)}
    config = with_absolute_paths(replace(config, **{"task": learnt, **options}, gpu=given.gpu))
    check_model(config)
    check_caches(config)
    check_named(given, config)
    # Layers of both tasks have LoRA: a model of one of them would not take the adapter.
    both = given.adapter and config.lora_targets == "all"
    if both and not set(config.tasks) <= set(TASK_OPTIONS[learnt]):
        raise FedummError(f"--task {config.task}: the adapter has learnt {learnt}, with LoRA on all layers for that.")
    official = bool(getattr(given, "format", ""))
    if official and VQA.name not in config.tasks:
        raise FedummError(f"--format vqa is for answers to questions, not for --task {config.task}.")
    return Evaluation(given, config, replace(config, task=learnt) if both else config, state, given.split, official)


def _learnt(given: argparse.Namespace) -> str:
    """What the adapter was trained for; empty if nobody says."""
    from fedumm.adapters.origin import read_origin

    origin = read_origin(Path(given.adapter)) if given.adapter else None
    return origin.task if origin and origin.task in TASK_OPTIONS else ""


def evaluated(wanted: Evaluation, progress: Progress, line: Callable[[str], None], out: str = "") -> EvaluationResult:
    """Load, score.

    Args:
        progress: told what is being done.
        line: given lines for the user.
        out: folder in which drawn images are kept; empty: nowhere.

    Raises:
        FedummError: the data or the model are bad.
    """
    import torch

    from fedumm.report.evaluation_result import result_of
    from fedumm.report.prediction_files import question_numbers
    from fedumm.training.candidates import check_candidates, training_answers
    from fedumm.training.data import references
    from fedumm.training.data_check import data_to_check
    from fedumm.training.predictions import predict
    from fedumm.training.threads import thread_count

    config = wanted.config
    torch.set_num_threads(thread_count(config))
    splits = data_to_check(config, progress)
    check_candidates(config, splits)
    rows = _rows(splits, wanted.split)
    for text in _row_lines(splits, wanted.split):
        line(text)
    if wanted.official:
        question_numbers(_ids(rows))
    backbone = with_adapter(
        wanted.given,
        wanted.model,
        wanted.adapter,
        training_answers(config, splits.train),
        references(config, rows if wanted.split == ALL else splits.eval),
    )
    backbone.say = line
    line(f"Scoring {len(rows):,} samples of {config.dataset}, {wanted.split} rows")
    predictions = predict(backbone, rows, config, progress)
    return result_of(predictions, _about(wanted), config.seed, _drawn(backbone, rows, config, progress, out))


def _rows(splits: DataSplits, split: str) -> Any:
    """Those to score; all of them in the order of the data, of two splits the training rows first."""
    if split != ALL:
        return splits.eval if split == "eval" else splits.train
    from datasets import concatenate_datasets

    try:
        rows = concatenate_datasets([splits.train, splits.eval])
    except ValueError as error:
        raise FedummError(
            "--split all: training and evaluation rows have columns of different types. Score them one after the "
            "other: --split train, --split eval."
        ) from error
    if not _is_split_off(splits):
        return rows
    numbers = rows[SOURCE_ROW][:]
    return rows.select(sorted(range(len(rows)), key=numbers.__getitem__))


def _is_split_off(splits: DataSplits) -> bool:
    """Whether the data have one split, and the evaluation rows are a share of it."""
    return not splits.reports[-1].given


def _row_lines(splits: DataSplits, split: str) -> list[str]:
    """What became of the other rows, and how to score those of which only a share is."""
    from fedumm.training.data_words import row_lines

    training, evaluation = splits.reports
    if split == "train":
        return row_lines(training)
    if not _is_split_off(splits):
        return [*(row_lines(training) if split == ALL else ()), *row_lines(evaluation)]
    if split == ALL:
        return row_lines(training)
    whole = "the data have one split, and a share of its images is scored: to score all of a test set, add --split all"
    return [*row_lines(replace(evaluation, notes=())), whole]


def _ids(rows: Any) -> list[Any]:
    ids = rows["question_id"][:] if "question_id" in rows.column_names else []
    tasks = rows["task"][:] if "task" in rows.column_names else [VQA.name] * len(ids)
    return [one for one, task in zip(ids, tasks, strict=False) if task == VQA.name]


def _drawn(backbone: Backbone, rows: Any, config: RunConfig, progress: Progress, out: str) -> Any:
    from fedumm.training.generation_eval import DRAWINGS, drawing_test

    folder = Path(out) / DRAWINGS if out else None
    drawing = drawing_test(backbone, rows, config)
    for old in folder.glob("*.png") if drawing and folder else ():
        # Of an earlier evaluation: one that was right may be wrong now, and has another name then.
        if re.fullmatch(r"\d{4,}-(right|wrong)\.png", old.name):
            old.unlink()
    return drawing.score(backbone, progress, folder) if drawing else None


def _about(wanted: Evaluation) -> dict[str, Any]:
    """Whose scores these are."""
    config = wanted.config
    return {
        "model_backend": config.model_backend,
        "model_name_or_path": config.model_name_or_path,
        "adapter": str(wanted.given.adapter or ""),
        "dataset": config.dataset,
        "split": wanted.split,
        "task": config.task,
        "answer_metric": config.metric,
        "seed": config.seed,
    }
