"""What would leave a site that takes part in a job: found out with its own model and data, in words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedumm.adapters import encode
from fedumm.adapters.factors import at_rank, spec_at_rank
from fedumm.aggregation import get_aggregator
from fedumm.backends.protocol import Progress
from fedumm.compression.packing import pack
from fedumm.config import FederateConfig
from fedumm.data import DataSplits
from fedumm.federation.assignment import client_names
from fedumm.federation.option_rules import check_rules
from fedumm.federation.protocol.client_view import communicated_tensors
from fedumm.secure_aggregation.fixed_point import count_of
from fedumm.training.backbone import load_backbone
from fedumm.training.candidates import training_answers
from fedumm.training.data import client_facts, partition_for, references
from fedumm.training.device import pick_device
from fedumm.training.fingerprint import frozen_fingerprint


@dataclass(frozen=True)
class Leaving:
    """What would leave.

    Attributes:
        tensors: by name, shape and dtype of those in an update of the first round.
        rounds: bytes of the update of each round, this site's part in all of them taken for granted.
        control: bytes of SCAFFOLD's control variate in each round; 0 without.
        first: bytes of the first adapter, which one site is asked for.
        fingerprint: of the frozen model.
        trainable, total: parameters.
        device: where it would train.
        clients: what the server would be told of this site's rows; None where its place among the clients decides.
        findings: what the backend found out about the model, which the server is told.
    """

    tensors: dict[str, tuple[tuple[int, ...], str]]
    rounds: list[int]
    control: int
    first: int
    fingerprint: str
    trainable: int
    total: int
    device: str
    clients: dict[str, Any] | None
    findings: tuple[str, ...]

    @property
    def all_rounds(self) -> int:
        """Bytes of tensors in all rounds."""
        return sum(self.rounds) + self.control * len(self.rounds)


def what_leaves(config: FederateConfig, site: str, splits: DataSplits, progress: Progress) -> Leaving:
    """Load the model as the site's host would, and pack updates that are as large as those that it would send.

    Raises:
        FedummError: options contradict each other, or the model can't be had.
    """
    check_rules(config)
    device = pick_device(config.gpu)
    progress("loading the model", 0, 1)
    backbone = load_backbone(config, device, training_answers(config, splits.train), references(config, splits.eval))
    method = get_aggregator(config.aggregator).from_config(config)
    whole, spec = backbone.adapter(), backbone.slot.spec
    own_spec = spec if config.equal_ranks else spec_at_rank(spec, config.rank_of(site))
    own = whole if config.equal_ranks else at_rank(whole, config.rank_of(site))
    sizes: dict[frozenset[str], int] = {}
    for number in range(1, config.num_rounds + 1):
        factors = method.communicated_factors & method.trainable_factors(number)
        if factors not in sizes:
            sent = {name: own[name] for name in communicated_tensors(own, factors)}
            masked = 4 * count_of(list(sent), own_spec) if config.secure_aggregation else 0
            sizes[frozenset(factors)] = masked or len(pack(sent, config.up, own_spec, config.top_k))
    first = communicated_tensors(own, method.communicated_factors & method.trainable_factors(1))
    return Leaving(
        tensors={name: own_spec[name] for name in sorted(first)},
        rounds=[sizes[method.communicated_factors & method.trainable_factors(n + 1)] for n in range(config.num_rounds)],
        control=len(pack(whole, config.up, spec)) if config.scaffold else 0,
        first=len(encode(whole)),
        fingerprint=frozen_fingerprint(backbone.model),
        trainable=backbone.trainable,
        total=backbone.total,
        device=str(device),
        clients=_facts(config, site, splits),
        findings=tuple(backbone.findings()),
    )


def _facts(config: FederateConfig, site: str, splits: DataSplits) -> dict[str, Any] | None:
    roster = client_names(config.num_clients)
    if config.own_data:
        roster = [site]
    if site not in roster:
        return None
    partition, labels = partition_for(config, splits.train, roster, site)
    return client_facts(config, partition, splits.train, labels, simulated=False)[site]


def told(config: FederateConfig, own: Leaving) -> list[str]:
    """What would leave, a line for each kind of thing."""
    private = config.dp == "local"
    count, mb = len(own.tensors), _mb(own.rounds[0])
    share = f", the largest {config.top_k:g} of their values" if config.top_k < 1 else ""
    form = f"{config.up}{share}"
    if config.secure_aggregation:
        form = "whole numbers under masks, of which the server can read the sum over clients (--secure_aggregation)"
    lines = [
        f"once: {_rows(config, own)}; how the rows were split, and a digest of it",
        f"once: names and shapes of the adapter's tensors, PEFT's options (no path), {own.device}, versions of the "
        "libraries, sizes of the feature cache, number of test rows, the fingerprint of the frozen weights, a digest "
        f"of the first adapter (of one site all of it, {_mb(own.first)}: it follows from --seed, not from data)",
        f"in each round: {count:,} tensors of the adapter, {mb} as {form}",
    ]
    if config.secure_aggregation:
        lines.append(
            "in each round: public keys of that round, signed, with this site's certificate; a digest of a seed; "
            "sealed shares of what takes off its own masks, and opened ones of the other clients'"
        )
    if own.control:
        lines.append(f"in each round: SCAFFOLD's control variate, {_mb(own.control)}")
    lines.append(f"in all {len(own.rounds):,} rounds: {_mb(own.all_rounds)} of tensors at most")
    if own.findings:
        lines.append(f"once: what the backend found out about the model: {'; '.join(own.findings)}")
    if private:
        lines.append(
            "in each round: numbers of training rows and of steps; no training loss, no held-out score, no "
            "duration, no note. All values of the tensors are clipped and noisy (--dp local)"
        )
    else:
        lines.append(
            "in each round: numbers of samples and steps; training loss; scores on held-out rows before and after, "
            "with their counts, by kind of answer (yes/no, number, other, caption); seconds; notes"
        )
    whose = "this site's own test rows" if config.own_data else "this site's part of the common test set"
    if not (private and config.own_data):
        lines.append(f"in each round: scores and losses on {whose}, with their counts")
    lines.append("of an error: its kind and a fixed sentence")
    lines.append("no text of the data: no question, answer, caption, name of a file, and no image")
    return lines


def _rows(config: FederateConfig, own: Leaving) -> str:
    if own.clients is None:
        rows = "numbers of this site's rows to train on and held out"
    else:
        rows = f"{own.clients['train']:,} rows to train on and {own.clients['heldout']:,} held out, as numbers"
    if own.clients is not None and not own.clients["labels"]:
        return f"{rows}, nothing about labels"
    if config.label_counts == "none" or config.own_data or config.dp == "local":
        return f"{rows}, nothing about labels"
    return f"{rows}, counts of answers by rank, not by text (those with fewer than {config.min_label_count} together)"


def _mb(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"
