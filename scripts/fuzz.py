#!/usr/bin/env python
"""Mutated messages, payloads, changes of the backbone and files: all are refused as documented, or do no harm.

    python scripts/fuzz.py                     # five minutes (make fuzz)
    python scripts/fuzz.py --seconds 10 --seed 7

Each case is made from a number; a failure names the kind and the number, and ``--only KIND --case NUMBER`` repeats it.
What is not refused must do no harm: a payload that is decoded is packed into the same bytes again or holds what the
adapter's shapes say, a message that is taken makes the same message again, an update that is accepted has finite
values, and a round of all good updates with refused ones among them has the bits of the round without these.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import yaml

from fedumm.adapters import decode, encode
from fedumm.compression.packing import pack, unpack
from fedumm.compression.registry import WIRES
from fedumm.config import FederateConfig, read_yaml
from fedumm.errors import FedummError, PublicError
from fedumm.federation.client.guard import Guard
from fedumm.federation.client.masking import Masking
from fedumm.federation.protocol.backbone_delta import pack_backbone_delta, unpack_backbone_delta
from fedumm.federation.protocol.mask_messages import (
    MaskKeysRequest,
    MaskReply,
    MaskSharesRequest,
)
from fedumm.federation.protocol.messages import (
    ClientUpdate,
    DataStats,
    DataStatsRequest,
    HostError,
    InitReply,
    RoundReply,
)
from fedumm.federation.protocol.wire import from_wire, to_wire
from fedumm.federation.server.checkpoint import Checkpoint
from fedumm.federation.server.outliers import judge
from fedumm.federation.server.rejection import RejectedError, Rejection
from fedumm.federation.server.round_aggregation import RoundAggregation
from fedumm.federation.server.validation import Accepted, Expected, examine
from fedumm.run_options import from_mapping, to_mapping
from fedumm.secure_aggregation.masks import KeyPair
from fedumm.texts import is_plain
from honest_messages import HONEST, MESSAGES, SIGNED, SPEC, START, moved, update
from mutations import STRANGE, mutated, mutated_bytes

CONFIG = FederateConfig(model_backend="blip_vqa", num_clients=4, lora_r=2, lora_alpha=4)


class WrongError(AssertionError):
    """A case that was neither refused as documented nor without harm."""


def expected() -> Expected:
    return Expected(
        1, SPEC, frozenset(SPEC), START, 12, 6, {"vqa": 12}, 2, "float32", 1.0, frozenset({"vqa"}), unit=True
    )  # fmt: skip


CHANGE = {"x": (torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), torch.randn(3, 24))}


@dataclass(frozen=True)
class Kind:
    """A way to break something. ``attempt`` gives True if it was taken in, and raises one of ``refusals`` if not."""

    attempt: Callable[[random.Random], bool]
    refusals: tuple[type[Exception], ...]


def must(condition: bool, what: str) -> None:
    if not condition:
        raise WrongError(what)


def codec_payload(rng: random.Random) -> bool:
    wire, keep = rng.choice(WIRES), rng.choice((1.0, 0.3))
    payload = mutated_bytes(pack(moved(rng.randrange(99)), wire, SPEC, keep), rng)
    state = unpack(payload, SPEC)
    must({n: (tuple(t.shape), str(t.dtype)[6:]) for n, t in state.items()} == {n: SPEC[n] for n in state}, "shapes")
    return True


def safetensors_payload(rng: random.Random) -> bool:
    state = decode(mutated_bytes(encode(START), rng))
    must(all(isinstance(t, torch.Tensor) for t in state.values()), "no tensors")
    return True


def backbone_change(rng: random.Random) -> bool:
    content = pack_backbone_delta(CHANGE, rng.choice(WIRES))
    change = unpack_backbone_delta(mutated_bytes(content, rng))
    must(all(left.dim() == right.dim() == 2 for left, right in change.values()), "not two factors")
    return True


def message(rng: random.Random) -> bool:
    """In both directions; what is taken is a message that is taken again, and shows no control."""
    data = mutated(to_wire(rng.choice(MESSAGES)), rng)
    if rng.random() < 0.3:
        data = mutated(data, rng) if isinstance(data, dict) else data
    taken = from_wire(data)
    if isinstance(taken, DataStats | InitReply | RoundReply | HostError | MaskReply):
        must(from_wire(to_wire(taken)) == taken or "nan" in repr(taken), "another message the second time")
    if isinstance(taken, RoundReply):
        must(all(is_plain(text) for text in (*taken.notes, *(u.error for u in taken.updates))), "a text that acts")
    return True


def masked_request(rng: random.Random) -> bool:
    """At a host that has made its keys: shares are given for the keys that came, or a reason is."""
    host = Masking("site-1", CONFIG, Path("unused"))
    keys = {"site-1": host.keys(MaskKeysRequest(1, {"site-1": ["site-1"]})).keys["site-1"]}
    keys["site-2"] = [KeyPair.new().public, KeyPair.new().public]
    asked = from_wire(mutated(to_wire(MaskSharesRequest(1, keys, 2, {"site-2": SIGNED})), rng))
    assert isinstance(asked, MaskSharesRequest)
    guard = Guard("site-1", CONFIG, True, Path("unused"), 0)
    guard.check_data_stats_request(DataStatsRequest(["site-1", "site-2"]))
    guard.check_mask_shares_request(asked)
    given = host.shares(asked)
    must(given.shares.keys() == {"site-1"} and given.shares["site-1"].keys() == {"site-2"}, "shares of others")
    return True


def mutated_update(rng: random.Random) -> ClientUpdate:
    """As its bytes, as its fields, or as its values say it."""
    own = update("site-4", 4)
    match rng.randrange(3):
        case 0:
            return replace(own, adapter=mutated_bytes(own.adapter, rng))
        case 1:
            names = [f.name for f in fields(ClientUpdate) if f.name not in ("client", "adapter")]
            reply = to_wire(RoundReply([own]))
            for _ in range(rng.choice((1, 2))):
                reply["updates"][0][rng.choice(names)] = rng.choice(STRANGE)
            taken = from_wire(reply)
            assert isinstance(taken, RoundReply)
            return taken.updates[0]
    state = moved(4)
    name = rng.choice(list(state))
    spot = state[name].view(-1)
    spot[rng.randrange(len(spot))] = rng.choice((float("nan"), float("inf"), -1e38, 1e30, 2.0**21, 1e-45))
    return replace(own, adapter=pack(state, "float32", SPEC))


ACCEPTED = [examine(one, expected()) for one in HONEST]


def combined(accepted: list[Accepted]) -> bytes:
    aggregation = RoundAggregation(CONFIG, SPEC, dict(START), CONFIG.alpha / CONFIG.rank, None)
    aggregation.aggregate(1, accepted, 4)
    return encode(aggregation.adapter)


WITHOUT = combined(ACCEPTED)


def bad_update(rng: random.Random) -> bool:
    """Through the server's checks; a refused one leaves the round as if it had not been there."""
    good = {one.update.client: one for one in ACCEPTED}
    rejected: dict[str, Rejection] = {}
    try:
        good["site-4"] = examine(mutated_update(rng), expected())
    except RejectedError as error:
        rejected["site-4"] = error.rejection
    good, unlike = judge(good, CONFIG)
    rejected |= unlike
    result = combined(list(good.values()))
    if "site-4" in rejected:
        must(result == WITHOUT, "a rejected update changed the round")
        must(len(rejected) == 1, "an honest update was rejected")
        raise RejectedError(rejected["site-4"].code, rejected["site-4"].reason)
    must(all(bool(torch.isfinite(t).all()) for t in decode(result).values()), "NaN in the round")
    return True


def config_file(rng: random.Random) -> bool:
    values = to_mapping(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        if rng.random() < 0.5:
            path.write_bytes(mutated_bytes(yaml.safe_dump(values).encode(), rng))
        else:
            broken = mutated(values, rng)
            path.write_text(json.dumps(broken, default=str, skipkeys=True))
        config = from_mapping(FederateConfig, read_yaml(path), str(path))
    must(isinstance(config, FederateConfig), "no configuration")
    return True


def state_file(rng: random.Random) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Checkpoint(Path(folder) / "state")
        checkpoint.save(START, {"round": 1, "best": {"version": 1}, "records": 99})
        (path,) = (p for p in checkpoint.folder.iterdir() if p.suffix == ".safetensors")
        path.write_bytes(mutated_bytes(path.read_bytes(), rng))
        saved = checkpoint.load()
    must(saved is not None and isinstance(saved[0], dict), "no state")
    return True


KINDS = {
    "updates": Kind(bad_update, (RejectedError,)),
    "codec payloads": Kind(codec_payload, (ValueError,)),
    "safetensors payloads": Kind(safetensors_payload, (ValueError,)),
    "masked requests": Kind(masked_request, (ValueError, PublicError)),
    "messages": Kind(message, (ValueError, PublicError)),
    "backbone changes": Kind(backbone_change, (ValueError,)),
    "config files": Kind(config_file, (FedummError,)),
    "state files": Kind(state_file, (FedummError,)),
}


def one_case(name: str, seed: int, number: int) -> bool:
    """Whether case ``number`` was taken in; False if it was refused as documented.

    Raises:
        WrongError: neither.
    """
    kind = KINDS[name]
    try:
        return kind.attempt(random.Random(f"{seed} {name} {number}"))
    except kind.refusals as error:
        str(error).encode()
        return False
    except WrongError:
        raise
    except Exception as error:
        raise WrongError(f"{type(error).__name__}: {error}") from error


def fuzz(seconds: float, seed: int, say: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """All kinds in turn until the time is over: counts by kind and outcome, and what went wrong."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    end, number = time.monotonic() + seconds, 0
    while time.monotonic() < end and len(wrong) < 20:
        for name in KINDS:
            try:
                counts[f"{name}, {'taken in' if one_case(name, seed, number) else 'refused'}"] += 1
            except WrongError as error:
                wrong.append(f"{name}: {error} (--seed {seed} --only {name!r} --case {number})")
                say(wrong[-1])
        number += 1
    return counts, wrong


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300.0, help="how long (default: 300)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of all cases (default: the time)")
    parser.add_argument("--only", choices=list(KINDS), help="with --case: one kind")
    parser.add_argument("--case", type=int, help="one case, with its traceback")
    args = parser.parse_args(argv)
    torch.set_num_threads(1)
    if args.case is not None:
        try:
            print("taken in" if one_case(args.only, args.seed, args.case) else "refused")
        except WrongError:
            traceback.print_exc()
            return 1
        return 0
    counts, wrong = fuzz(args.seconds, args.seed)
    print(f"seed {args.seed}")
    for name in KINDS:
        refused, taken = (counts[f"{name}, {what}"] for what in ("refused", "taken in"))
        print(f"{name:<21}{refused + taken:>9,} of which {refused:>9,} refused, {taken:>7,} taken in without harm")
    print(f"{sum(counts.values()):,} cases, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
