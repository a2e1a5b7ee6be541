"""Every aggregator against what it must deliver, computed densely in float64; a new one joins as a row of ROWS.

What a module's frozen weight effectively becomes is compared, ``W0 + change + scale B A``, as a matrix ``(out, in)``
with ``in != out``: a transposed product does not fit, a forgotten alpha / rank shows, and factors may differ by any
invertible matrix between them.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch

from fedumm.adapters import AdapterState, decode, encode, spec_of
from fedumm.aggregation import available_aggregators, get_aggregator
from fedumm.aggregation.base import AggregationResult, Aggregator, ClientContribution

RANK, CLIENTS = 3, 5
MODULES = {"text.fc": (11, 6), "vision.query": (5, 7)}
"""Module to (out, in)."""
BIAS = "head.bias"
TENSORS = [*(f"{module}.lora_{factor}.weight" for module in MODULES for factor in "AB"), BIAS]
UNEQUAL_WEIGHTS = (12.0, 5.0, 33.0, 1.0, 8.0)
UNEQUAL_RANKS, UNEQUAL_ALPHAS = (1, 3, 2, 3, 2), (2.0, 6.0, 3.0, 9.0, 2.0)


@dataclass(frozen=True)
class Case:
    """One round: what it starts from, what each client trained, and how clients differ."""

    seed: int = 0
    weights: tuple[float, ...] = (1.0,) * CLIENTS
    ranks: tuple[int, ...] = (RANK,) * CLIENTS
    alphas: tuple[float, ...] = (6.0,) * CLIENTS
    unsent: tuple[tuple[int, str], ...] = ()
    """Clients and the beginnings of the names that they do not send."""
    scale: float = field(default=6.0 / RANK, init=False)

    def start(self) -> AdapterState:
        return self._draw(1000 + self.seed, RANK)

    def trained(self, client: int) -> AdapterState:
        return self._draw(100 * self.seed + client, self.ranks[client])

    def sends(self, client: int, name: str) -> bool:
        return not any(k == client and name.startswith(beginning) for k, beginning in self.unsent)

    @staticmethod
    def _draw(seed: int, rank: int) -> AdapterState:
        generator = torch.Generator().manual_seed(seed)
        shapes: dict[str, tuple[int, ...]] = {BIAS: (4,)}
        for module, (out, inner) in MODULES.items():
            shapes |= {f"{module}.lora_A.weight": (rank, inner), f"{module}.lora_B.weight": (out, rank)}
        return {name: torch.randn(shapes[name], generator=generator) for name in TENSORS}

    def array(self, name: str, client: int | None = None) -> np.ndarray:
        """A client's tensor, or the start's, in float64."""
        return (self.start() if client is None else self.trained(client))[name].double().numpy()

    def senders(self, name: str) -> list[int]:
        return [k for k in range(CLIENTS) if self.sends(k, name)]

    def shares(self, name: str) -> np.ndarray:
        """p_k of those who sent it."""
        own = np.array([self.weights[k] for k in self.senders(name)])
        return own / own.sum()

    def ideal(self, module: str) -> np.ndarray:
        """``sum_k p_k s_k B_k A_k``."""
        a, b = f"{module}.lora_A.weight", f"{module}.lora_B.weight"
        return sum(
            p * self.alphas[k] / self.ranks[k] * self.array(b, k) @ self.array(a, k)
            for p, k in zip(self.shares(a), self.senders(a), strict=True)
        )


Expected = dict[str, np.ndarray]
"""Module to dense change, and the plain tensor."""

Rule = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
"""From a tensor of all clients, stacked, the start's, and the shares p_k to the new one."""


def dense(case: Case, tensors: dict[str, np.ndarray]) -> Expected:
    """Plain factors multiplied out."""
    products = {m: case.scale * tensors[f"{m}.lora_B.weight"] @ tensors[f"{m}.lora_A.weight"] for m in MODULES}
    return products | {BIAS: tensors[BIAS]}


def mean(stack: np.ndarray, start: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.tensordot(shares, stack, axes=1)


def first_step(second_moment: Callable[[np.ndarray], np.ndarray]) -> Rule:
    """Reddi et al., Algorithm 2, from m = 0, with beta_1 = 0.9, tau = 1e-3 and a learning rate of 1e-3."""

    def rule(stack: np.ndarray, start: np.ndarray, shares: np.ndarray) -> np.ndarray:
        delta = mean(stack, start, shares) - start
        return start + 1e-3 * 0.1 * delta / (np.sqrt(second_moment(delta**2)) + 1e-3)

    return rule


def median(stack: np.ndarray, start: np.ndarray, shares: np.ndarray) -> np.ndarray:
    return np.median(stack, axis=0)


def trimmed(stack: np.ndarray, start: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """A fifth of four or five: one at each end."""
    return np.sort(stack, axis=0)[1:-1].mean(axis=0)


def by_tensor(rule: Rule, everybody: bool = False) -> Callable[[Case, str], Expected]:
    """``rule`` on every tensor of the factors that were sent, over those who sent it; or over ``everybody``, where the
    others left it as it was."""

    def expected(case: Case, factors: str) -> Expected:
        tensors = {}
        for name in TENSORS:
            tensors[name] = case.array(name)
            if name == BIAS or name.removesuffix(".weight")[-1] in factors:
                whose = [k if case.sends(k, name) else None for k in range(CLIENTS)]
                stack = np.stack([case.array(name, k) for k in whose if everybody or k is not None])
                tensors[name] = rule(stack, case.array(name), case.shares(name))
        return dense(case, tensors)

    return expected


def nearest(case: Case, factors: str) -> Expected:
    """Krum of five clients, one of them bad: the two nearest others count."""

    def tensor(name: str, k: int) -> np.ndarray:
        return case.array(name, k if case.sends(k, name) else None)

    vectors = [np.concatenate([tensor(name, k).ravel() for name in TENSORS]) for k in range(CLIENTS)]
    distances = [sorted(((own - other) ** 2).sum() for other in vectors) for own in vectors]
    winner = int(np.argmin([sum(row[1:3]) for row in distances]))
    return dense(case, {name: tensor(name, winner) for name in TENSORS})


def exact(case: Case, factors: str) -> Expected:
    return {module: case.ideal(module) for module in MODULES} | {BIAS: by_tensor(mean)(case, "")[BIAS]}


def best_of_rank(case: Case, factors: str) -> Expected:
    """Eckart and Young: singular values beyond the highest rank are cut."""
    result = exact(case, factors)
    for module in MODULES:
        u, sigma, v = np.linalg.svd(result[module])
        result[module] = u[:, :RANK] * sigma[:RANK] @ v[:RANK]
    return result


@dataclass(frozen=True)
class Row:
    """What an aggregator must deliver, from the factors that clients send in a round."""

    expected: Callable[[Case, str], Expected]
    sent: Callable[[int], str] = lambda number: "AB"
    unequal_ranks: bool = False
    updates_base_model: bool = False


ROWS = {
    "fedavg": Row(by_tensor(mean)),
    "ffa_lora": Row(by_tensor(mean), sent=lambda number: "B"),
    "rolora": Row(by_tensor(mean), sent=lambda number: "B" if number % 2 else "A"),
    "flora": Row(exact, unequal_ranks=True, updates_base_model=True),
    "fedex_lora": Row(exact, updates_base_model=True),
    "svd": Row(best_of_rank, unequal_ranks=True),
    "fedsa_lora": Row(by_tensor(mean), sent=lambda number: "A"),
    "fedavgm": Row(by_tensor(mean)),
    "fedadagrad": Row(by_tensor(first_step(lambda squared: 1e-6 + squared))),
    "fedadam": Row(by_tensor(first_step(lambda squared: 0.99e-6 + 0.01 * squared))),
    "fedyogi": Row(by_tensor(first_step(lambda squared: 1e-6 - 0.01 * squared * np.sign(1e-6 - squared)))),
    "median": Row(by_tensor(median, everybody=True)),
    "trimmed_mean": Row(by_tensor(trimmed, everybody=True)),
    "krum": Row(nearest),
}

CASES = {
    "equal": Case(),
    "unequal-weights": Case(1, UNEQUAL_WEIGHTS),
    "parts-unsent": Case(2, UNEQUAL_WEIGHTS, unsent=((1, "text.fc"), (3, BIAS))),
    "unequal-ranks": Case(3, ranks=UNEQUAL_RANKS, alphas=UNEQUAL_ALPHAS),
    "unequal-weights-and-ranks": Case(4, UNEQUAL_WEIGHTS, UNEQUAL_RANKS, UNEQUAL_ALPHAS),
    "unequal-ranks-and-parts-unsent": Case(
        5, UNEQUAL_WEIGHTS, UNEQUAL_RANKS, UNEQUAL_ALPHAS, ((1, "text.fc"), (3, BIAS))
    ),
}
ALLOWED = [(name, case) for name, row in ROWS.items() for case in CASES if row.unequal_ranks or "ranks" not in case]


def contributions(case: Case, factors: str) -> list[ClientContribution]:
    """What the clients send of what they trained."""
    return [
        ClientContribution(
            f"site-{k + 1}",
            {
                name: tensor
                for name, tensor in case.trained(k).items()
                if case.sends(k, name) and (name == BIAS or name.removesuffix(".weight")[-1] in factors)
            },
            case.weights[k],
            case.alphas[k] / case.ranks[k],
        )
        for k in range(CLIENTS)
    ]


def one_round(
    aggregator: Aggregator, case: Case, own: Iterable[ClientContribution], start: AdapterState | None = None
) -> AggregationResult:
    aggregator.begin(case.start() if start is None else start, case.scale, seed=case.seed)
    for contribution in own:
        aggregator.add(contribution)
    return aggregator.finish()


def bits(delivery: AggregationResult) -> bytes:
    """Everything that is delivered."""
    change = {f"{m}.{side}": t for m, pair in delivery.change.items() for side, t in zip("LR", pair, strict=True)}
    return encode(delivery.adapter) + encode(change) + repr(sorted(delivery.report.items())).encode()


def test_the_matrix_has_a_row_for_every_aggregator() -> None:
    assert sorted(ROWS) == available_aggregators()


@pytest.mark.parametrize("number", [1, 2])
@pytest.mark.parametrize(("name", "case_name"), ALLOWED)
def test_delivers_what_the_paper_says(name: str, case_name: str, number: int) -> None:
    case, row = CASES[case_name], ROWS[name]
    delivery = one_round(get_aggregator(name)(), case, contributions(case, row.sent(number)))
    wanted = row.expected(case, row.sent(number))
    for module in MODULES:
        a, b = (delivery.adapter[f"{module}.lora_{factor}.weight"].double() for factor in "AB")
        found = case.scale * b @ a
        if module in delivery.change:
            left, right = (t.double() for t in delivery.change[module])
            found += left @ right
        distance = np.linalg.norm(found.numpy() - wanted[module])
        assert distance < 2e-6 * np.linalg.norm(case.ideal(module)), module
    np.testing.assert_allclose(delivery.adapter[BIAS].double().numpy(), wanted[BIAS], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ROWS)
def test_says_truly_what_it_is(name: str) -> None:
    row, method = ROWS[name], get_aggregator(name)
    assert method.name == name
    assert (method.unequal_ranks, method.updates_base_model) == (row.unequal_ranks, row.updates_base_model)
    for number in range(1, 5):
        assert "".join(sorted(method().trainable_factors(number) & method.communicated_factors)) == row.sent(number)
    case = CASES["unequal-weights"]
    delivery = one_round(method(), case, contributions(case, row.sent(1)))
    assert set(delivery.change) == (set(MODULES) if row.updates_base_model else set())
    assert spec_of(delivery.adapter) == spec_of(case.start())
    assert list(delivery.adapter) == list(case.start())


@pytest.mark.parametrize(("name", "case_name"), ALLOWED)
def test_any_order_of_clients_gives_the_same_bits(name: str, case_name: str) -> None:
    case = CASES[case_name]
    own = contributions(case, ROWS[name].sent(1))
    expected = bits(one_round(get_aggregator(name)(), case, own))
    orders = random.Random(0).sample(list(itertools.permutations(own)), 8)
    for order in [own[::-1], *orders]:
        assert bits(one_round(get_aggregator(name)(), case, order)) == expected


@pytest.mark.parametrize(("name", "case_name"), ALLOWED)
def test_going_on_from_the_state_gives_the_same_bits(name: str, case_name: str) -> None:
    case, row = CASES[case_name], ROWS[name]
    straight, stopped, resumed = (get_aggregator(name)() for _ in range(3))
    first, second = contributions(case, row.sent(1)), contributions(replace(case, seed=9), row.sent(2))
    start = one_round(straight, case, first).adapter
    one_round(stopped, case, first)
    resumed.load(decode(encode(stopped.state())))
    expected = one_round(straight, case, second, start)
    assert bits(one_round(resumed, case, second, start)) == bits(expected)
    assert encode(resumed.state()) == encode(straight.state())


@pytest.mark.parametrize("name", ROWS)
def test_one_object_serves_round_after_round(name: str) -> None:
    """What is not in the state is forgotten: a round in between that was never finished leaves no trace."""
    case, row = CASES["unequal-weights"], ROWS[name]
    used, fresh = get_aggregator(name)(), get_aggregator(name)()
    used.begin(case.start(), case.scale, seed=5)
    for contribution in contributions(replace(case, seed=7), row.sent(1))[:2]:
        used.add(contribution)
    own = contributions(case, row.sent(1))
    assert bits(one_round(used, case, own)) == bits(one_round(fresh, case, own))


@pytest.mark.parametrize("name", ROWS)
def test_what_nobody_trained_keeps_its_value(name: str) -> None:
    untrained = tuple((k, beginning) for k in range(CLIENTS) for beginning in ("text.fc", BIAS))
    case = replace(CASES["unequal-weights"], unsent=untrained)
    delivery = one_round(get_aggregator(name)(), case, contributions(case, ROWS[name].sent(1)))
    start = case.start()
    kept = [n for n in TENSORS if n.startswith("text.fc") or n == BIAS]
    assert all(torch.equal(delivery.adapter[n], start[n]) for n in kept)
    assert "text.fc" not in delivery.change
    assert any(not torch.equal(delivery.adapter[n], start[n]) for n in set(TENSORS) - set(kept))


@pytest.mark.parametrize("name", ROWS)
def test_bad_contributions_are_refused_and_leave_no_trace(name: str) -> None:
    case, row = CASES["unequal-weights"], ROWS[name]
    own = contributions(case, row.sent(1))
    expected = bits(one_round(get_aggregator(name)(), case, own))
    bad = [replace(own[0], client="bad", weight=weight) for weight in (0.0, -1.0, np.nan, np.inf)]
    if not row.unequal_ranks:
        lower = replace(case, ranks=(RANK - 1,) * CLIENTS)
        bad.append(replace(contributions(lower, row.sent(1))[0], client="bad"))
    aggregator = get_aggregator(name)()
    aggregator.begin(case.start(), case.scale, seed=case.seed)
    for good, wrong in itertools.zip_longest(own, bad):
        if wrong is not None:
            with pytest.raises(ValueError, match=r"weight|shape|rank"):
                aggregator.add(wrong)
        aggregator.add(good)
    assert bits(aggregator.finish()) == expected


@pytest.mark.parametrize("name", ROWS)
def test_a_round_without_clients_has_no_result(name: str) -> None:
    aggregator = get_aggregator(name)()
    aggregator.begin(Case().start(), Case().scale, seed=0)
    with pytest.raises(ValueError, match=r"no |nothing"):
        aggregator.finish()
