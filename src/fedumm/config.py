"""Every option of the two commands, once: name, type, default, bounds, help.

The command line (``fedumm.cli``), YAML files (``--config``) and the run folder's
``config.yaml`` are all read from and written to these dataclasses.
"""

from __future__ import annotations

import os
import reprlib
import typing
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from fedumm import bounds
from fedumm.aggregation.registry import available_aggregators
from fedumm.bounds import ByClient, Check
from fedumm.errors import FedummError, did_you_mean
from fedumm.texts import one_line

MODEL = "Model"
FEDERATION = "Federated Learning"
AGGREGATION = "Aggregation"
WIRE = "Communication"
PRIVACY = "Privacy"
TRAINING = "Training"
DATA = "Data"
EXECUTION = "Execution"
GROUPS = (MODEL, FEDERATION, AGGREGATION, WIRE, PRIVACY, TRAINING, DATA, EXECUTION)

TASKS = {"vqa": ("vqa",), "t2i": ("t2i",), "unified": ("vqa", "t2i")}
"""What ``--task`` can be, and the tasks that it stands for."""

WIRES = ("float32", "bfloat16", "float16", "int8", "nf4")
"""How the values of an adapter can travel (:mod:`fedumm.adapters.codec`); the order is part of the format."""

REPEAT = "# Repeat this run:"
"""How every ``config.yaml`` of a run begins."""

OF_ONE_RUN = ("name", "overwrite", "resume", "resume_if_exists")
"""Options that a repetition must not inherit: it has a run folder of its own."""

CODE = "backend_file"
"""The option that names code. No file holds it: whoever reads a file of options must not run what its author chose."""


_HUGE = 2**63
_LONGEST_FILE = 1_000_000


def option(
    group: str, text: str, default: Any = MISSING, check: Check | None = None, *, several: bool = False,
    travels: bool = True,
) -> Any:  # fmt: skip
    """A dataclass field that is also a command-line flag of the same name; of ``several`` paths one that may repeat.

    ``travels``: whether a job for real sites holds it. What is about one machine, its folders, processors and memory,
    or about how the command is carried out there, does not: each site has a machine of its own.
    """
    metadata = {"group": group, "help": text, "check": check, "several": several, "travels": travels}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run needs: a model, its adapter, the local training and the data."""

    model_backend: str = option(MODEL, "blip_vqa, januspro, or a name that --backend_file registers")
    model_name_or_path: str = option(
        MODEL, "Hugging Face model id, a local folder, or 'tiny' (shipped); empty: the backend's default", ""
    )
    backend_file: str = option(MODEL, "Python file that registers a backend of your own", "", travels=False)
    lora_targets: str = option(
        MODEL,
        "Layers with LoRA: attention (query, key, value) | all (of januspro: the language model's others too and, "
        "to draw, the generation head)",
        "attention",
        bounds.one_of("attention", "all"),
    )

    task: str = option(
        TRAINING,
        "What to learn: vqa (answering) | t2i (drawing: text to image) | unified (both)",
        "vqa",
        bounds.one_of(*TASKS),
    )
    task_mix: str = option(TRAINING, "Questions to captions in unified training", "5:4", bounds.mix)

    batch_size: int = option(TRAINING, "Per-client batch size", 8, bounds.positive)
    grad_accum: int = option(TRAINING, "Gradient accumulation steps", 8, bounds.positive)
    lr: float = option(TRAINING, "Learning rate", 5e-5, bounds.positive)
    weight_decay: float = option(TRAINING, "AdamW weight decay", 0.05, bounds.non_negative)
    lora_r: int | str = option(TRAINING, "LoRA rank, or one for each client: 16,site-1=4", 16, bounds.by_client)
    lora_alpha: int | str = option(
        TRAINING, "LoRA scaling factor, or one for each client: 32,site-1=8", 32, bounds.by_client
    )
    lora_dropout: float = option(TRAINING, "Dropout on the input of each LoRA layer", 0.1, bounds.probability)
    max_q_len: int = option(TRAINING, "Longest question, in tokens", 64, bounds.positive)
    max_a_len: int = option(TRAINING, "Longest answer, in tokens", 16, bounds.positive)
    eval_batch_size: int = option(
        TRAINING,
        "Batch size of evaluation (0: 8 x --batch_size, 32 x with cached features, but no more than fit 4 GB of keys "
        "and values)",
        0,
        bounds.non_negative,
    )
    merge_batches: str = option(
        TRAINING,
        "Run the --grad_accum batches of one step as one where the backend allows it: auto (on the CPU) | on | off",
        "auto",
        bounds.one_of("auto", "on", "off"),
    )
    precision: str = option(
        TRAINING,
        "Arithmetic: auto (bfloat16 on GPUs that have it) | float32 (weights, too) | bfloat16",
        "auto",
        bounds.one_of("auto", "float32", "bfloat16"),
    )
    gradient_checkpointing: bool = option(
        TRAINING, "Save memory by computing activations again in the backward pass", False
    )
    compile: bool = option(TRAINING, "Compile the training step with torch.compile (needs a C++ compiler)", False)
    num_workers: int = option(TRAINING, "Data loader worker processes", 0, bounds.non_negative, travels=False)
    feature_cache: str = option(
        TRAINING,
        "Where the frozen vision tower's outputs are kept, computed once per image: "
        "auto (disk if there is room, else memory) | memory | disk | off",
        "auto",
        bounds.one_of("auto", "memory", "disk", "off"),
    )
    feature_cache_gb: float = option(
        TRAINING, "Most memory for that, in GB for each host", 4.0, bounds.positive, travels=False
    )
    feature_cache_dir: str = option(
        TRAINING, "Folder for that on disk (empty: fedumm in the user's cache folder)", "", travels=False
    )
    feature_dtype: str = option(
        TRAINING,
        "Type in which they are kept: float32 (exact) | float16",
        "float32",
        bounds.one_of("float32", "float16"),
    )

    dataset: str = option(DATA, "easy_vqa, vqav2, shapes, a Hub id or a folder (empty: the backend's default)", "")
    max_train_samples: int = option(DATA, "Limit training data (-1 = all)", -1, bounds.limit)
    max_eval_samples: int = option(DATA, "Limit eval data (-1 = all)", -1, bounds.limit)
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
    seed: int = option(DATA, "Random seed", 42, bounds.seed)

    geneval_prompts: int = option(
        TRAINING,
        "Images to draw of the evaluation data's captions, and to judge by GenEval's rule (0: none)",
        48,
        bounds.non_negative,
    )
    geneval_every: int = option(
        TRAINING,
        "Draw them every so many rounds or epochs (0: before the first and after the last)",
        0,
        bounds.non_negative,
    )

    gpu: str = option(EXECUTION, "GPU ids, for example 0,1 (empty: all there are; cpu: none)", "", travels=False)
    threads: int = option(
        EXECUTION,
        "Torch threads of each host (0: 1 for a small model, else the cores divided by the hosts)",
        0,
        bounds.non_negative,
        travels=False,
    )

    def __post_init__(self) -> None:
        for f in fields(self):
            _check_field(f, getattr(self, f.name))

    @property
    def image_roots(self) -> tuple[str, ...]:
        """The folders of ``image_root``."""
        return tuple(filter(None, self.image_root.split(os.pathsep)))

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
        """What ``task`` asks for: ``vqa``, ``t2i`` or both."""
        return TASKS[self.task]

    @property
    def mix(self) -> dict[str, int]:
        """Parts of each task in training, by ``task_mix``; of one task alone, 1."""
        parts = dict(zip(TASKS["unified"], map(int, self.task_mix.split(":")), strict=True))
        return {task: parts[task] if len(self.tasks) > 1 else 1 for task in self.tasks}


@dataclass(frozen=True, kw_only=True)
class FederateConfig(RunConfig):
    """Options of ``fedumm federate`` (``job.py``)."""

    num_clients: int = option(FEDERATION, "Number of FL clients", 2, bounds.positive)
    num_rounds: int = option(FEDERATION, "Communication rounds", 3, bounds.positive)
    local_epochs: int = option(FEDERATION, "Local epochs per round", 1, bounds.positive)
    clients_per_round: int = option(FEDERATION, "Clients sampled each round (0 = all)", 0, bounds.non_negative)
    dirichlet_alpha: float = option(
        FEDERATION, "Non-IID level: 0 = IID, else 0.1 / 0.5 / 1.0", 0.0, bounds.non_negative
    )
    partition_by: str = option(
        FEDERATION, "Column whose values the Dirichlet split skews: answer, answer_type, ...", "answer"
    )
    partition: str = option(
        FEDERATION,
        "own: real sites keep their own rows, nothing is split | task:SHARE: this share of the clients has questions "
        "only or captions only, in turn (empty: all have both)",
        "",
        bounds.partition,
    )
    keep_images_whole: bool = option(FEDERATION, "Give all questions on one image to one client", False)
    holdout: float = option(FEDERATION, "Share of the images that clients keep for evaluation", 0.1, bounds.share)

    aggregator: str = option(
        AGGREGATION,
        f"How clients' adapters become one: {' | '.join(available_aggregators())}",
        "fedavg",
        bounds.known(available_aggregators),
    )
    client_weights: str = option(
        AGGREGATION,
        "What a client weighs: samples | equal | steps (auto: samples; with --dp equal)",
        "auto",
        bounds.one_of("auto", "samples", "equal", "steps"),
    )
    prox_mu: float = option(AGGREGATION, "FedProx: pull towards the global adapter", 0.0, bounds.non_negative)
    scaffold: bool = option(AGGREGATION, "SCAFFOLD: correct gradients by control variates", False)
    server_lr: float = option(
        AGGREGATION, "Server's learning rate of fedavgm, fedadagrad, fedadam, fedyogi (0: the method's)", 0.0,
        bounds.non_negative,
    )  # fmt: skip
    server_momentum: float = option(AGGREGATION, "Their momentum (beta 1)", 0.9, bounds.probability)
    server_beta2: float = option(AGGREGATION, "beta 2 of fedadam and fedyogi", 0.99, bounds.probability)
    server_tau: float = option(AGGREGATION, "tau of fedadagrad, fedadam and fedyogi", 1e-3, bounds.positive)
    trim_ratio: float = option(AGGREGATION, "trimmed_mean: share cut off at each end", 0.2, bounds.below_half)
    krum_f: int = option(AGGREGATION, "krum: bad clients assumed (0: the most it can bear)", 0, bounds.non_negative)
    krum_keep: int = option(AGGREGATION, "krum: how many of the best are averaged", 1, bounds.positive)
    export_rank: int = option(
        AGGREGATION, "Highest rank of the saved adapter where flora or fedex_lora change the backbone (0: any)", 0,
        bounds.non_negative,
    )  # fmt: skip
    min_clients: int = option(
        AGGREGATION, "Usable updates that a round needs; with fewer it is repeated once", 1, bounds.positive
    )
    max_update_norm: float = option(
        AGGREGATION, "Highest norm of an update (0: 10 times what the others' norms suggest)", 0.0, bounds.non_negative
    )
    over_norm: str = option(
        AGGREGATION, "What becomes of one above it: reject | clip", "reject", bounds.one_of("reject", "clip")
    )

    wire: str = option(
        WIRE, "How numbers travel: float32 (exact) | bfloat16 | float16 | int8 | nf4", "float32", bounds.one_of(*WIRES)
    )
    wire_up: str = option(WIRE, "The same, to the server only (empty: --wire)", "", bounds.one_of("", *WIRES))
    wire_down: str = option(WIRE, "The same, to the clients only (empty: --wire)", "", bounds.one_of("", *WIRES))
    top_k: float = option(
        WIRE, "Share of an update's values that travel to the server, the largest (1: all)", 1.0, bounds.share_or_all
    )

    dp: str = option(
        PRIVACY,
        "Differential privacy of clients: off | central (noise at the server) | local (at the client)",
        "off",
        bounds.one_of("off", "central", "local"),
    )
    dp_clip: float = option(PRIVACY, "Highest norm of an update; what is longer is clipped", 1.0, bounds.positive)
    dp_epsilon: float = option(PRIVACY, "Epsilon after all rounds; the noise follows", 0.0, bounds.non_negative)
    dp_delta: float = option(PRIVACY, "Delta", 1e-5, bounds.share)
    dp_noise_multiplier: float = option(
        PRIVACY, "Noise in units of --dp_clip, instead of --dp_epsilon", 0.0, bounds.non_negative
    )

    label_counts: str = option(
        PRIVACY,
        "What the server is told of which client has which answers: names (only in simulations) | ranks (the most "
        "frequent first, no text) | none",
        "names",
        bounds.one_of("names", "ranks", "none"),
    )
    min_label_count: int = option(
        PRIVACY, "With ranks: answers that a client has fewer rows of are counted together", 5, bounds.positive
    )

    simulator: bool = option(EXECUTION, "Run with NVFlare simulator (single machine)", False, travels=False)
    in_process: bool = option(EXECUTION, "Run in this process, without NVFlare", False, travels=False)
    export_dir: str = option(EXECUTION, "Export job config for production deployment", "", travels=False)
    use_env_script: bool = option(
        EXECUTION, "Run each host in its backend's own environment (conda or venv), through scripts/launch_*.sh", False
    )
    hosts: int = option(
        EXECUTION,
        "Processes that serve the clients, one backbone each (0: one per GPU, or 1; a small model: one per core)",
        0,
        bounds.non_negative,
        travels=False,
    )
    name: str = option(EXECUTION, "Run folder: runs/NAME, or a path (empty: a name with the time)", "", travels=False)
    overwrite: bool = option(EXECUTION, "Replace an existing run folder or exported job", False, travels=False)
    resume: str = option(EXECUTION, "Go on with the run in runs/NAME (or a path), with its options", "", travels=False)
    resume_if_exists: bool = option(
        EXECUTION,
        "Go on with the run of --name if its folder holds one with these options, else start it",
        False,
        travels=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.own_data:
            self._check_own_data()
        if self.task_share and len(self.tasks) == 1:
            raise FedummError(f"--partition {self.partition} needs two tasks to deal out: use --task unified.")
        if self.task_share and self.keep_images_whole:
            raise FedummError(
                f"--partition {self.partition} parts an image's caption from its questions, and --keep_images_whole "
                "forbids that."
            )
        if self.clients_per_round > self.num_clients:
            raise FedummError(
                f"--clients_per_round {self.clients_per_round} is more than --num_clients {self.num_clients}."
            )
        if self.hosts > self.num_clients:
            raise FedummError(f"--hosts {self.hosts} is more than --num_clients {self.num_clients}.")
        if self.min_clients > (self.clients_per_round or self.num_clients):
            raise FedummError(f"--min_clients {self.min_clients} is more than take part in a round.")
        if self.use_env_script and self.in_process:
            raise FedummError(
                "--use_env_script starts processes in other environments, and --in_process is this one alone: use "
                "--simulator or --export_dir."
            )
        if self.krum_f and (self.clients_per_round or self.num_clients) < 2 * self.krum_f + 3:
            raise FedummError(f"--krum_f {self.krum_f} needs at least {2 * self.krum_f + 3} clients in a round.")

    def _check_own_data(self) -> None:
        if self.simulator or self.in_process:
            raise FedummError(
                "--partition own is for real sites, each with data of its own (--export_dir). In a simulation, one "
                "data set is split among the clients: leave --partition out."
            )
        if self.dirichlet_alpha:
            raise FedummError("--partition own splits nothing: leave --dirichlet_alpha out.")

    @property
    def own_data(self) -> bool:
        """Whether every client keeps its own rows."""
        return self.partition == "own"

    def rank_of(self, client: str) -> int:
        """LoRA rank that ``client`` trains."""
        return self.ranks[client]

    def scale_of(self, client: str) -> float:
        """What ``client`` multiplies its B A with: alpha / rank."""
        return self.alphas[client] / self.ranks[client]

    @property
    def weights(self) -> str:
        """What a client weighs: ``samples``, ``equal`` or ``steps``."""
        if self.client_weights != "auto":
            return self.client_weights
        return "samples" if self.dp == "off" else "equal"

    @property
    def up(self) -> str:
        """How numbers travel to the server."""
        return self.wire_up or self.wire

    @property
    def down(self) -> str:
        """How numbers travel to the clients."""
        return self.wire_down or self.wire

    @property
    def task_share(self) -> float:
        """Share of clients with one task only, by ``partition``."""
        return float(self.partition.partition(":")[2] or 0)


@dataclass(frozen=True, kw_only=True)
class CentralConfig(RunConfig):
    """Options of ``fedumm train`` (``src/local_train.py``), the centralised baseline."""

    num_epochs: int = option(TRAINING, "Training epochs", 1, bounds.positive)
    output_dir: str = option(EXECUTION, "Save model here", "./workspace_centralized")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.equal_ranks:
            raise FedummError("--lora_r and --lora_alpha by client are for federated runs: give one number.")


AnyConfig = TypeVar("AnyConfig", bound=RunConfig)


def field_type(config: type[RunConfig], name: str) -> Any:
    """The Python type of one option: a type, or ``int | str``."""
    return typing.get_type_hints(config)[name]


def _check_field(f: Field[Any], value: Any) -> None:
    kinds = str(f.type).split(" | ")
    if isinstance(value, int) and abs(value) >= _HUGE:
        raise FedummError(f"--{f.name} is a number of more than 64 bits.")
    if type(value).__name__ not in kinds and not (kinds == ["float"] and type(value) is int):
        raise FedummError(f"--{f.name} must be of type {' or '.join(kinds)}, not {_said(value)}.")
    if isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        raise FedummError(f"--{f.name} holds characters that no name can have: {_said(value)}.")
    check: Check | None = f.metadata["check"]
    if check and (problem := check(value)):
        raise FedummError(f"--{f.name} {problem}, not {_said(value)}.")


def _said(value: Any) -> str:
    """A value for a message: a few lines of YAML can stand for gigabytes."""
    return one_line(repr(value), 200) if isinstance(value, str) else reprlib.repr(value)


def from_mapping(config: type[AnyConfig], values: Mapping[str, Any], origin: str = "config") -> AnyConfig:
    """Build a config; an unknown or missing key is a :class:`FedummError` with the nearest name."""
    known = {f.name: f for f in fields(config)}
    for key in values:
        if key not in known:
            raise FedummError(f"Unknown option {_said(key)} in {origin}.{did_you_mean(one_line(key, 60), known)}")
    for name, f in known.items():
        if name not in values and f.default is MISSING:
            raise FedummError(f"--{name} is required ({f.metadata['help']}).")
    return config(**{name: _coerce(known[name], value) for name, value in values.items()})


def _coerce(f: Field[Any], value: Any) -> Any:
    """Take what YAML 1.1 reads otherwise as what was meant: ``lr: 5e-5`` (a string), ``gpu: 0`` (a number)."""
    if isinstance(value, bool) or (isinstance(value, int) and abs(value) >= _HUGE):
        return value
    if str(f.type) == "str" and isinstance(value, int):
        return str(value)
    if str(f.type) == "float" and isinstance(value, str | int):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Options from a YAML file of ``name: value`` lines; none of them may name code."""
    from fedumm.plain_yaml import load_plain

    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(_LONGEST_FILE + 1)
        if len(text) > _LONGEST_FILE:
            raise ValueError(f"it is longer than {_LONGEST_FILE:,} characters")
        content = load_plain(text)
    except FileNotFoundError:
        raise FedummError(f"Config file not found: {path}") from None
    except (OSError, ValueError) as error:
        raise FedummError(f"Config file {path} can't be read as YAML: {one_line(error)}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise FedummError(f"Config file {path} must hold lines of the form 'name: value'.")
    if content.pop(CODE, None):
        raise FedummError(
            f"Config file {path} names a {CODE}, and code is run only if you name it yourself: take that line out, and "
            f"add --{CODE} FILE to the command."
        )
    return content


def write_yaml(config: RunConfig, path: Path, command: str) -> None:
    """Write every option but the run folder's and code, with the command that repeats the run as a comment."""
    import yaml

    options = {name: value for name, value in asdict(config).items() if name not in (*OF_ONE_RUN, CODE)}
    text = yaml.safe_dump(options, sort_keys=False)
    # A line break or control character in an argument would end the comment.
    comment = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in command)
    draft = path.with_name(f".{path.name}.draft")
    draft.write_text(f"{REPEAT} {comment}\n{text}", encoding="utf-8")
    os.replace(draft, path)


def command_of(text: str) -> str:
    """The command that the text of such a file begins with."""
    return text.split("\n", 1)[0].removeprefix(REPEAT).strip()


def is_ours(path: Path) -> bool:
    """Whether ``path`` is a file of :func:`write_yaml`: many programs have a ``config.yaml``."""
    return path.is_file() and path.read_bytes().startswith(REPEAT.encode())
