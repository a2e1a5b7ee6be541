"""Options of ``fedumm federate`` (``job.py``)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from fedumm.config import validators
from fedumm.config.aggregator import AggregatorOptions
from fedumm.config.client_data import client_folders, client_list
from fedumm.config.fields import AGGREGATION, EXECUTION, FEDERATION, PRIVACY, WIRE, option
from fedumm.config.run import RunConfig
from fedumm.errors import FedummError


@dataclass(frozen=True, kw_only=True)
class FederateConfig(RunConfig):
    """Options of ``fedumm federate`` (``job.py``)."""

    num_clients: int = option(FEDERATION, "Number of FL clients", 2, validators.positive)
    num_rounds: int = option(FEDERATION, "Communication rounds", 3, validators.positive)
    local_epochs: int = option(FEDERATION, "Local epochs per round", 1, validators.positive)
    round_minutes: float = option(
        FEDERATION,
        "Most minutes that a client trains in a round; it then stops where it is, and what it did counts (0: no limit)",
        0.0,
        validators.non_negative,
    )
    clients_per_round: int = option(FEDERATION, "Clients sampled each round (0 = all)", 0, validators.non_negative)
    dirichlet_alpha: float = option(
        FEDERATION, "Non-IID level: 0 = IID, else 0.1 / 0.5 / 1.0", 0.0, validators.non_negative
    )
    partition_by: str = option(
        FEDERATION, "Column whose values the Dirichlet split skews: answer, answer_type, ...", "answer"
    )
    partition: str = option(
        FEDERATION,
        "own: real sites keep their own rows, nothing is split | task:SHARE: this share of the clients has questions "
        "only or captions only, in turn | iid | dirichlet | a name that --plugin registers (empty: iid or dirichlet, "
        "by --dirichlet_alpha)",
        "",
        validators.partition,
    )
    client_data: str = option(
        FEDERATION,
        "Clients with data of their own, on this machine: a YAML file with a line 'client: folder' for each, or "
        "client=folder,client=folder",
        "",
        travels=False,
    )
    without: str = option(
        FEDERATION,
        "Clients with data of their own that have withdrawn, with commas between. With --resume: the run goes on "
        "without them where it holds nothing of theirs, else it is repeated from the start",
        "",
    )
    repeats: str = option(
        FEDERATION, "Name of the run that this one repeats without clients: --resume with --without sets it", ""
    )
    keep_images_whole: bool = option(FEDERATION, "Give all questions on one image to one client", False)
    holdout: float = option(FEDERATION, "Share of the images that clients keep for evaluation", 0.1, validators.share)

    aggregator: str = option(AGGREGATION, "How clients' adapters become one", "fedavg")
    aggregator_options: AggregatorOptions = field(default=AggregatorOptions())
    """The chosen aggregator's own, an ``Options`` of its class; :class:`AggregatorOptions` itself: their defaults."""

    client_weights: str = option(
        AGGREGATION,
        "What a client weighs: samples | equal | steps (auto: samples; with --dp equal)",
        "auto",
        validators.one_of("auto", "samples", "equal", "steps"),
    )
    prox_mu: float = option(AGGREGATION, "FedProx: pull towards the global adapter", 0.0, validators.non_negative)
    scaffold: bool = option(AGGREGATION, "SCAFFOLD: correct gradients by control variates", False)
    export_rank: int = option(
        AGGREGATION, "Highest rank of the saved adapter where flora or fedex_lora change the backbone (0: any)", 0,
        validators.non_negative,
    )  # fmt: skip
    min_clients: int = option(
        AGGREGATION, "Usable updates that a round needs; with fewer it is repeated once", 1, validators.positive
    )
    round_timeout: float = option(
        EXECUTION,
        "Seconds after which real sites that have not answered are left out of a round (0: five times what the slowest "
        "of the others took, and ten minutes at least)",
        0.0,
        validators.non_negative,
    )
    transfer_timeout: float = option(
        EXECUTION,
        "Seconds that an adapter may take on its way between server and a real site; a site tries again after them",
        60.0,
        validators.positive,
    )
    max_update_norm: float = option(
        AGGREGATION,
        "Highest norm of an update (0: 10 times what the others' norms suggest)",
        0.0,
        validators.non_negative,
    )
    over_norm: str = option(
        AGGREGATION, "What becomes of one above it: reject | clip", "reject", validators.one_of("reject", "clip")
    )

    wire: str = option(
        WIRE,
        "How numbers travel: float32 (exact) | bfloat16 | float16 | int8 | nf4 | a name that --plugin registers",
        "float32",
    )
    wire_up: str = option(WIRE, "The same, to the server only (empty: --wire)", "")
    wire_down: str = option(WIRE, "The same, to the clients only (empty: --wire)", "")
    top_k: float = option(
        WIRE,
        "Share of an update's values that travel to the server, the largest (1: all)",
        1.0,
        validators.share_or_all,
    )

    dp: str = option(
        PRIVACY,
        "Differential privacy of clients: off | central (noise at the server) | local (at the client)",
        "off",
        validators.one_of("off", "central", "local"),
    )
    dp_clip: float = option(PRIVACY, "Highest norm of an update; what is longer is clipped", 1.0, validators.positive)
    dp_epsilon: float = option(PRIVACY, "Epsilon after all rounds; the noise follows", 0.0, validators.non_negative)
    dp_delta: float = option(PRIVACY, "Delta", 1e-5, validators.share)
    dp_noise_multiplier: float = option(
        PRIVACY, "Noise in units of --dp_clip, instead of --dp_epsilon", 0.0, validators.non_negative
    )

    secure_aggregation: bool = option(
        PRIVACY, "The server gets the sum of a round's updates, and none by itself (pairwise masks)", False
    )

    label_counts: str = option(
        PRIVACY,
        "What the server is told of which client has which answers: names (only in simulations) | ranks (the most "
        "frequent first, no text) | none",
        "names",
        validators.one_of("names", "ranks", "none"),
    )
    min_label_count: int = option(
        PRIVACY, "With ranks: answers that a client has fewer rows of are counted together", 5, validators.positive
    )
    min_train_rows: int = option(
        PRIVACY, "Training rows that a client must have for the run to have it", 0, validators.non_negative
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
        validators.non_negative,
        travels=False,
    )
    name: str = option(EXECUTION, "Run folder: runs/NAME, or a path (empty: a name with the time)", "", travels=False)
    overwrite: bool = option(EXECUTION, "Replace an existing run folder or exported job", False, travels=False)
    resume: str = option(EXECUTION, "Resume the run in runs/NAME (or a path), with its options", "", travels=False)
    resume_if_exists: bool = option(
        EXECUTION,
        "Resume the run of --name if its folder holds one with these options, else start it",
        False,
        travels=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.aggregator_options, AggregatorOptions):
            raise FedummError(
                "aggregator_options must be an Options of the aggregator's class, such as Krum.Options()."
            )
        if self.own_data:
            self._check_own_data()
        elif self.without:
            raise FedummError(
                f"--without {self.without}: of one data set that all share, every client's rows depend on who is "
                "there, so nobody can be left out of such a run. Start another with a lower --num_clients, or give "
                "clients data of their own (--client_data, --partition own)."
            )
        if self.repeats and not self.without:
            raise FedummError("--repeats means nothing without --without.")
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
        if self.round_minutes and 0 < self.round_timeout <= 60 * self.round_minutes:
            raise FedummError(
                f"--round_timeout {self.round_timeout:g} (seconds) leaves out every site that trains for its "
                f"--round_minutes {self.round_minutes:g}: use more than {60 * self.round_minutes:g}, with time to "
                "score and to send."
            )
        if self.use_env_script and self.in_process:
            raise FedummError(
                "--use_env_script starts processes in other environments, and --in_process is this one alone: use "
                "--simulator or --export_dir."
            )

    def _check_own_data(self) -> None:
        if not self.client_data and (self.simulator or self.in_process):
            raise FedummError(
                "--partition own is for real sites, each with data of its own (--export_dir). On one machine, say "
                "whose data lie where with --client_data, or leave --partition out: one data set is split then."
            )
        if self.partition not in ("", "own"):
            raise FedummError(f"--client_data gives every client its own data: leave --partition {self.partition} out.")
        if self.dirichlet_alpha:
            raise FedummError("Clients with data of their own split nothing: leave --dirichlet_alpha out.")
        if named := [name for name in self.withdrawn if name in self.client_folders]:
            raise FedummError(
                f"--client_data names {named[0]}, and --without leaves it out: take it out of --client_data. For a run "
                "that it took part in, give --resume RUN with --without."
            )
        if self.client_data and self.hosts:
            raise FedummError("With --client_data every client has a host of its own: leave --hosts out.")

    @property
    def own_data(self) -> bool:
        """Whether every client keeps its own rows."""
        return self.partition == "own" or bool(self.client_data)

    @property
    def client_folders(self) -> dict[str, str]:
        """Where each client's data are; empty unless they are on this machine."""
        return client_folders(self.client_data)

    @property
    def withdrawn(self) -> list[str]:
        """Clients that take no part at their own wish."""
        return client_list(self.without)

    def of_client(self, client: str) -> FederateConfig:
        """The options by which a host of that client loads data."""
        place = self.client_folders.get(client)
        return replace(self, dataset=place) if place else self

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
        kind, _, share = self.partition.partition(":")
        return float(share) if kind == "task" else 0.0
