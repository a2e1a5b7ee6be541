"""Options that every run has: a model, its adapter, the local training and the data."""

from __future__ import annotations

import os
from dataclasses import dataclass

from fedumm.config import validators
from fedumm.config.columns import column_names
from fedumm.config.fields import DATA, EXECUTION, MODEL, TRAINING, Options, option
from fedumm.config.per_client import ByClient
from fedumm.plugins import plugin_files
from fedumm.tasks import TASK_OPTIONS, TASKS, VQA


@dataclass(frozen=True, kw_only=True)
class RunConfig(Options):
    """What every run needs: a model, its adapter, the local training and the data."""

    model_backend: str = option(
        MODEL, "blip_vqa, januspro, hf_vlm (image-text models of transformers), or a name that --plugin registers"
    )
    model_name_or_path: str = option(
        MODEL, "Hugging Face model id, a local folder, or 'tiny' (shipped); empty: the backend's default", ""
    )
    lora_targets: str = option(
        MODEL,
        "Layers with LoRA: attention (query, key, value) | all (linear layers of the language model and, for januspro "
        "to draw, the generation head) | of hf_vlm also a regular expression for their whole names",
        "attention",
        validators.pattern,
    )

    dtype: str = option(
        MODEL,
        "Type of the frozen weights: auto (float32 on a CPU and for models of up to 1 B parameters, else bfloat16) | "
        "float32 | bfloat16 | float16. LoRA's own are float32",
        "auto",
        validators.one_of("auto", "float32", "bfloat16", "float16"),
    )
    load_in_4bit: bool = option(
        MODEL, "QLoRA: frozen linear layers of the language model in 4 bits (NF4; pip install 'fedumm[4bit]')", False
    )
    device_map: str = option(
        MODEL,
        "auto: spread one model over all GPUs (empty: a model for each host, on one device)",
        "",
        validators.one_of("", "auto"),
        travels=False,
    )

    task: str = option(
        TRAINING,
        "What to learn: vqa (answering) | i2t (captions and reports: image to text) | t2i (drawing: text to image) | "
        "unified (vqa and t2i)",
        VQA.name,
        validators.one_of(*TASK_OPTIONS),
    )
    task_mix: str = option(TRAINING, "Questions to captions in unified training", "5:4", validators.mix)

    batch_size: int = option(TRAINING, "Per-client batch size", 8, validators.positive)
    grad_accum: int = option(TRAINING, "Gradient accumulation steps", 8, validators.positive)
    lr: float = option(TRAINING, "Learning rate", 5e-5, validators.positive)
    lr_schedule: str = option(
        TRAINING,
        "The learning rate over all rounds or epochs: constant | linear | cosine (the last two fall to 0)",
        "constant",
        validators.one_of("constant", "linear", "cosine"),
    )
    lr_warmup: float = option(
        TRAINING, "Share of the training over which the learning rate rises from 0", 0.0, validators.probability
    )
    patience: int = option(
        TRAINING,
        "Stop after so many rounds or epochs that were no better than the best one before (0: never): by the score on "
        "held-out data, of fedumm train without --holdout by the one on the evaluation data",
        0,
        validators.non_negative,
    )
    weight_decay: float = option(TRAINING, "AdamW weight decay", 0.05, validators.non_negative)
    lora_r: int | str = option(TRAINING, "LoRA rank, or one for each client: 16,site-1=4", 16, validators.by_client)
    lora_alpha: int | str = option(
        TRAINING, "LoRA scaling factor, or one for each client: 32,site-1=8", 32, validators.by_client
    )
    lora_dropout: float = option(TRAINING, "Dropout on the input of each LoRA layer", 0.1, validators.probability)
    max_q_len: int = option(TRAINING, "Longest question, in tokens", 64, validators.positive)
    max_a_len: int = option(TRAINING, "Longest answer, in tokens", 16, validators.positive)
    eval_batch_size: int = option(
        TRAINING,
        "Batch size of evaluation (0: 8 x --batch_size, 32 x with cached features, but no more than have room for "
        "their keys and values in half of the free memory, on a CPU in 4 GB)",
        0,
        validators.non_negative,
    )
    merge_batches: str = option(
        TRAINING,
        "Run the --grad_accum batches of one step as one where the backend allows it: auto (of up to 64 samples, and "
        "more on large GPUs) | on (of up to 64) | off",
        "auto",
        validators.one_of("auto", "on", "off"),
    )
    precision: str = option(
        TRAINING,
        "Arithmetic: auto (bfloat16 on GPUs that have it, with other weights than float32 theirs) | float32 (weights, "
        "too) | bfloat16",
        "auto",
        validators.one_of("auto", "float32", "bfloat16"),
    )
    gradient_checkpointing: bool = option(
        TRAINING, "Save memory by computing activations again in the backward pass", False
    )
    compile: bool = option(TRAINING, "Compile the training step with torch.compile (needs a C++ compiler)", False)
    num_workers: int = option(TRAINING, "Data loader worker processes", 0, validators.non_negative, travels=False)
    feature_cache: str = option(
        TRAINING,
        "Where the frozen vision tower's outputs are kept, computed once per image: "
        "auto (disk if there is room and it saves time, else memory) | memory | disk | off",
        "auto",
        validators.one_of("auto", "memory", "disk", "off"),
    )
    feature_cache_gb: float = option(
        TRAINING, "Most memory for that, in GB for each host", 4.0, validators.positive, travels=False
    )
    feature_cache_disk_gb: float = option(
        TRAINING,
        "Most disk space for all of that folder, in GB (0: auto takes at most half of what is free, disk all of it)",
        0.0,
        validators.non_negative,
        travels=False,
    )
    feature_cache_dir: str = option(
        TRAINING, "Folder for that on disk (empty: fedumm in the user's cache folder)", "", travels=False
    )
    feature_dtype: str = option(
        TRAINING,
        "Type in which they are kept: auto (bfloat16 where the arithmetic is, else the weights' type) | float32 | "
        "bfloat16 | float16 | int8 (by channel)",
        "auto",
        validators.one_of("auto", "float32", "bfloat16", "float16", "int8"),
    )

    dataset: str = option(
        DATA,
        "easy_vqa, vqav2, shapes, a Hub id, a folder (of either with :CONFIGURATION where there are several) or a file "
        "(empty: the backend's default)",
        "",
    )
    columns: str = option(
        DATA, "What the data call a column: image=jpg,caption=txt (empty: by its name)", "", validators.columns
    )
    max_train_samples: int = option(DATA, "Limit training data (-1 = all)", -1, validators.limit)
    max_eval_samples: int = option(DATA, "Limit eval data (-1 = all)", -1, validators.limit)
    data_path: str = option(DATA, "Hugging Face cache directory", "", travels=False)
    image_root: str = option(
        DATA,
        "Folder that image files may lie in besides the data's own; again, or separated by ':', for more",
        "",
        several=True,
        travels=False,
    )
    allow_remote_images: bool = option(
        DATA, "Fetch images and data files that a data set names by an address (http, https, s3, gs, hf)", False
    )
    eval_fraction: float = option(
        DATA, "Of data with one split, the share of the images to evaluate on", 0.1, validators.share
    )
    language: str = option(
        DATA, "Keep only rows in this language, such as en (column language, lang or q_lang; empty: all)", ""
    )
    drop_overlap: bool = option(DATA, "Leave out training rows whose image is among those to evaluate on", False)
    skip_bad: int = option(
        DATA, "Go on without up to so many rows that have no readable image or no answer", 0, validators.non_negative
    )
    seed: int = option(DATA, "Random seed", 42, validators.seed)

    answer_metric: str = option(
        TRAINING,
        "Score of an answer, 0 to 1, which reports call accuracy: vqa (VQA v2) | token_f1 | rouge_l | exact | a name "
        "that --plugin registers (empty: vqa; of i2t rouge_l)",
        "",
    )
    prompt: str = option(
        TRAINING,
        "Words around each question: a text that follows it on a new line, or one with {question} where it is to "
        "stand; of i2t the whole instruction; none: no words (empty: what suits the model)",
        "",
        validators.prompt,
    )
    train_answers: str = option(
        TRAINING,
        "Answers of a question to train on: common (its most common one) | all (each by its share, as BLIP's authors)",
        "common",
        validators.one_of("common", "all"),
    )
    answer_mode: str = option(
        TRAINING,
        "How an answer is made: generate | rank (the likeliest of --answers, of a row's choices, or of the answers "
        "trained on)",
        "generate",
        validators.one_of("generate", "rank"),
    )
    answers: str = option(
        TRAINING,
        "File of known answers, one a line: what is ranked, and how the answers of a model are written",
        "",
        travels=False,
    )
    geneval_prompts: int = option(
        TRAINING,
        "Images to draw of the evaluation data's captions, and to judge by GenEval's rule (0: none)",
        48,
        validators.non_negative,
    )
    geneval_every: int = option(
        TRAINING,
        "Draw them every so many rounds or epochs (0: before the first and after the last, and with the best adapter)",
        0,
        validators.non_negative,
    )

    plugin: str = option(
        EXECUTION,
        "Python file that registers things of your own (a backend, an aggregator, ...); it is run. May be repeated",
        "",
        several=True,
        travels=False,
    )
    gpu: str = option(EXECUTION, "GPU ids, for example 0,1 (empty: all there are; cpu: none)", "", travels=False)
    dry_run: bool = option(
        EXECUTION, "Check everything, measure a few steps, tell what the run would take, and stop", False, travels=False
    )
    tracker: str = option(
        EXECUTION,
        "Where the run's numbers go besides its folder: tensorboard (files in the folder) | mlflow | wandb | trackio | "
        "a name that --plugin registers; several, separated by commas | none",
        "tensorboard",
        validators.trackers,
        travels=False,
    )
    report_samples: int | str = option(
        EXECUTION,
        "Example answers in the report that a run here makes at its end: a number (0: none) | auto (16; none of a "
        "model above 50 MB) | off (no report)",
        "auto",
        validators.report_samples,
        travels=False,
    )
    threads: int = option(
        EXECUTION,
        "Torch threads of each host (0: 1 for a small model, else the cores divided by the hosts)",
        0,
        validators.non_negative,
        travels=False,
    )

    @property
    def plans_lr(self) -> bool:
        """Whether the learning rate depends on how much of the training is over."""
        return self.lr_schedule != "constant" or self.lr_warmup > 0

    @property
    def column_names(self) -> dict[str, str]:
        """What the data call a column, by our name for it."""
        return column_names(self.columns)

    @property
    def image_roots(self) -> tuple[str, ...]:
        """The folders of ``image_root``."""
        return tuple(filter(None, self.image_root.split(os.pathsep)))

    @property
    def plugins(self) -> tuple[str, ...]:
        """The files of ``plugin``."""
        return plugin_files(self.plugin)

    @property
    def trackers(self) -> tuple[str, ...]:
        """The names of ``tracker``, each once; none of ``none``."""
        names = dict.fromkeys(name.strip() for name in self.tracker.split(","))
        return tuple(name for name in names if name != "none")

    @property
    def ranks(self) -> ByClient:
        """LoRA rank by client."""
        return ByClient(self.lora_r)

    @property
    def alphas(self) -> ByClient:
        """LoRA alpha by client."""
        return ByClient(self.lora_alpha)

    @property
    def rank(self) -> int:
        """LoRA rank of the model's adapter: the highest of any client's."""
        return self.ranks.highest

    @property
    def alpha(self) -> int:
        """LoRA alpha of the model's adapter: what holds for clients that are not named, else the highest."""
        return self.alphas.highest if self.alphas.default is None else self.alphas.default

    @property
    def equal_ranks(self) -> bool:
        """Whether all clients have one rank and one alpha."""
        return self.ranks.equal and self.alphas.equal

    @property
    def tasks(self) -> tuple[str, ...]:
        """What ``task`` asks for: ``vqa``, ``i2t``, ``t2i``, or ``vqa`` and ``t2i``."""
        return TASK_OPTIONS[self.task]

    @property
    def metric(self) -> str:
        """The name of the score of an answer, or of a text."""
        return self.answer_metric or TASKS[self.tasks[0]].metric or VQA.metric

    @property
    def mix(self) -> dict[str, int]:
        """Parts of each task in training, by ``task_mix``; of one task alone, 1."""
        parts = dict(zip(TASK_OPTIONS["unified"], map(int, self.task_mix.split(":")), strict=True))
        return {task: parts[task] if len(self.tasks) > 1 else 1 for task in self.tasks}
