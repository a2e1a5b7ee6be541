"""What one client can change, how much noise there is, and that nobody can draw it again."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2, kstest

from fedumm.adapters.state import AdapterState, spec_of
from fedumm.privacy.mechanism import Normal, add_noise, clip, clipped_sum, noisy_mean, norm_of, secure_normal
from fedumm.privacy.sampling import poisson_sample

SHAPES = {"0.lora_A.weight": (3, 7), "0.lora_B.weight": (5, 3), "bias": (4,), "scalar": ()}
LIKE = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
LARGE = {"a": torch.zeros(300, 200), "b": torch.zeros(40_001)}
RARE = 1e-9  # how often a test of randomness may fail


def update(seed: int, size: float = 1.0, dtype: torch.dtype = torch.float32) -> AdapterState:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (size * torch.randn(s, generator=generator, dtype=torch.float64)).to(dtype) for name, s in SHAPES.items()
    }


def flat(state: AdapterState) -> np.ndarray:
    return np.concatenate([t.to(torch.float64).numpy().reshape(-1) for _, t in sorted(state.items())])


def seeded(seed: int) -> Normal:
    generator = torch.Generator().manual_seed(seed)
    return lambda shape: torch.randn(shape, generator=generator, dtype=torch.float64)


class TestClip:
    def test_worked_by_hand(self) -> None:
        """The norm of 3, 4 and 12 in three tensors is 13."""
        clipped, norm = clip({"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]]), "c": torch.tensor(-12.0)}, 6.5)
        assert norm == 13
        assert {name: t.tolist() for name, t in clipped.items()} == {"a": [1.5], "b": [[2.0]], "c": -6.0}

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @settings(deadline=None, max_examples=60)
    @given(st.integers(0, 1000), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
    def test_the_norm_is_below_the_bound_after_rounding(
        self, dtype: torch.dtype, seed: int, size: float, bound: float
    ) -> None:
        original = update(seed, size, dtype)
        clipped, norm = clip(original, bound)
        assert norm == pytest.approx(np.linalg.norm(flat(original)), rel=1e-12)
        assert spec_of(clipped) == spec_of(original)
        assert np.linalg.norm(flat(clipped)) <= bound * (1 + 1e-14)
        expected = flat(original) * min(1, bound / norm)
        eps = torch.finfo(dtype).eps
        np.testing.assert_allclose(flat(clipped), expected, rtol=4 * eps, atol=float(torch.finfo(dtype).tiny))

    def test_what_is_within_the_bound_stays_to_the_bit(self) -> None:
        original = update(0)
        clipped, norm = clip(original, norm_of(original))
        assert all(torch.equal(clipped[name], original[name]) for name in SHAPES)
        assert norm == norm_of(original)

    def test_zero_stays_zero(self) -> None:
        assert clip(LIKE, 1e-30) == (LIKE, 0.0)
        assert clip({}, 1.0) == ({}, 0.0)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("end", ["max", "tiny", "smallest_normal"])
    @pytest.mark.parametrize("bound", [1e-45, 1e-12, 1.0, 1e6])
    def test_the_ends_of_a_dtype_are_bounded_too(self, dtype: torch.dtype, end: str, bound: float) -> None:
        """Squares of such values overflow, or are zero; and a bound can be below the least value."""
        clipped, _ = clip({"a": torch.full((50,), getattr(torch.finfo(dtype), end), dtype=dtype)}, bound)
        assert torch.isfinite(clipped["a"]).all()
        assert norm_of(clipped) <= bound

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    @pytest.mark.parametrize("name", list(SHAPES))
    def test_no_number_is_refused(self, value: float, name: str) -> None:
        bad = update(0)
        bad[name].reshape(-1)[0] = value
        with pytest.raises(ValueError, match="NaN or infinite"):
            clip(bad, 1.0)


class TestSensitivity:
    @settings(deadline=None, max_examples=80)
    @given(
        st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 1e4, 1e30])), max_size=6),
        st.tuples(st.integers(0, 10**6), st.sampled_from([0.0, 1e-30, 1.0, 1e30])),
        st.sampled_from([1e-3, 1.0, 100.0]),
        st.sets(st.sampled_from(sorted(SHAPES))),
    )
    def test_one_client_changes_the_sum_by_the_bound_at_most(
        self, others: list[tuple[int, float]], one: tuple[int, float], bound: float, sent: set[str]
    ) -> None:
        """Whatever it sends, of however many tensors, and whatever the others do."""
        clients = [update(seed, size) for seed, size in others]
        extra = {name: t for name, t in update(*one).items() if name in sent}
        change = flat(clipped_sum([*clients, extra], bound, LIKE)) - flat(clipped_sum(clients, bound, LIKE))
        assert np.linalg.norm(change) <= bound * (1 + 1e-12)

    def test_and_can_reach_it(self) -> None:
        change = flat(clipped_sum([update(1), update(2, 1e6)], 0.5, LIKE)) - flat(clipped_sum([update(1)], 0.5, LIKE))
        assert np.linalg.norm(change) == pytest.approx(0.5, rel=1e-6)

    def test_the_divisor_does_not_depend_on_who_sent(self) -> None:
        """Were it the number of updates, one client more would move everybody's part."""
        updates = [update(seed) for seed in range(4)]
        for count in range(5):
            mean = noisy_mean(updates[:count], 1.0, 0.0, 8.0, LIKE)
            expected = flat(clipped_sum(updates[:count], 1.0, LIKE)) / 8
            np.testing.assert_allclose(flat(mean), expected, rtol=1e-6, atol=1e-9)

    @pytest.mark.parametrize("shape", [(1,), (4, 1), (5,)])
    def test_a_tensor_of_another_shape_is_refused(self, shape: tuple[int, ...]) -> None:
        """Broadcast, it would count more than its norm says."""
        with pytest.raises(ValueError, match=r"bias of shape .* is not part of the sum"):
            clipped_sum([{"bias": torch.ones(shape)}], 1.0, LIKE)

    def test_a_tensor_of_another_name_is_refused(self) -> None:
        with pytest.raises(ValueError, match=r"head of shape \[4\] is not part of the sum"):
            noisy_mean([{"head": torch.ones(4)}], 1.0, 1.0, 1.0, LIKE)

    def test_the_updates_are_left_alone(self) -> None:
        mine = update(0, 100)
        noisy_mean([mine], 1.0, 1.0, 1.0, LIKE)
        add_noise(mine, 1.0)
        assert np.array_equal(flat(mine), flat(update(0, 100)))


def assert_deviation(values: np.ndarray, std: float) -> None:
    """The sum of squares of n values of N(0, std^2) is chi-square of n degrees: within all but its rarest."""
    squares = np.square(values / std).sum()
    assert chi2.ppf(RARE / 2, values.size) < squares < chi2.ppf(1 - RARE / 2, values.size)


class TestNoise:
    @pytest.mark.parametrize("normal", [seeded(0), secure_normal])
    @pytest.mark.parametrize("updates", [0, 3])
    def test_central_noise_has_deviation_sigma_c_by_n_everywhere(self, normal: Normal, updates: int) -> None:
        """Also of the tensor that nobody sent."""
        sent = [{"a": torch.full((300, 200), float(i + 1))} for i in range(updates)]
        mean = noisy_mean(sent, bound=0.5, noise_multiplier=3.0, expected=20.0, like=LARGE, normal=normal)
        assert spec_of(mean) == spec_of(LARGE)
        # Each of the updates is clipped to 0.5 / sqrt(60,000) in each value of a.
        signal = updates * 0.5 / math.sqrt(60_000) / 20
        for name, expected in (("a", signal), ("b", 0.0)):
            assert_deviation(mean[name].double().numpy().reshape(-1) - expected, 3.0 * 0.5 / 20)

    @pytest.mark.parametrize("normal", [seeded(1), secure_normal])
    def test_local_noise_has_the_deviation_asked_for(self, normal: Normal) -> None:
        sent = {"a": torch.full((300, 200), 7.0), "b": torch.full((40_001,), -1.0)}
        noisy = add_noise(sent, 0.25, normal)
        assert spec_of(noisy) == spec_of(sent)
        for name in sent:
            assert_deviation((noisy[name].double() - sent[name]).numpy().reshape(-1), 0.25)

    def test_the_noise_of_tensors_is_independent(self) -> None:
        """A correlation of n pairs has deviation 1 / sqrt(n)."""
        noise = noisy_mean([], 1.0, 1.0, 1.0, {"a": torch.zeros(50_000), "b": torch.zeros(50_000)})
        assert abs(np.corrcoef(noise["a"], noise["b"])[0, 1]) < 6.2 / math.sqrt(50_000)

    def test_noise_is_as_wide_in_low_precision(self) -> None:
        noise = add_noise({"a": torch.zeros(50_000, dtype=torch.bfloat16)}, 2.0)["a"]
        assert noise.dtype == torch.bfloat16
        assert_deviation(noise.double().numpy(), 2.0)


class TestSecureNormal:
    @pytest.mark.parametrize("shape", [(), (1,), (2,), (3, 5), (0,), (4, 0, 2), (7, 1, 3)])
    def test_shapes(self, shape: tuple[int, ...]) -> None:
        values = secure_normal(shape)
        assert (tuple(values.shape), values.dtype) == (shape, torch.float64)
        assert torch.isfinite(values).all()

    def test_it_is_normal(self) -> None:
        """Kolmogorov and Smirnov's distance, of both halves that Box and Muller's pairs make, and of their sums."""
        values = secure_normal((100_000,)).numpy()
        first, second = np.split(values, 2)
        for sample in (first, second, (first + second) / math.sqrt(2), (first[1:] - first[:-1])[::2] / math.sqrt(2)):
            assert kstest(sample, "norm").pvalue > RARE

    @pytest.mark.parametrize("byte", [b"\x00", b"\xff"])
    def test_the_extreme_bytes_give_finite_values(self, monkeypatch: pytest.MonkeyPatch, byte: bytes) -> None:
        monkeypatch.setattr("os.urandom", lambda count: byte * count)
        assert torch.isfinite(secure_normal((4,))).all()
        assert secure_normal((4,)).abs().max() < 8.6

    def test_no_seed_brings_it_back(self) -> None:
        draws = []
        for _ in range(2):
            torch.manual_seed(42)
            np.random.seed(42)
            draws.append(flat(noisy_mean([update(0)], 1.0, 1.0, 1.0, LIKE)))
        assert not np.isclose(*draws).any()


class TestPoissonSample:
    def test_each_client_takes_part_with_the_probability(self) -> None:
        clients = [f"site-{i}" for i in range(1, 21)]
        draws = [poisson_sample(clients, 0.3) for _ in range(2000)]
        assert all(draw == [c for c in clients if c in draw] for draw in draws)  # in their order, each once
        deviation = math.sqrt(2000 * 0.3 * 0.7)
        assert all(abs(sum(c in draw for draw in draws) - 600) < 6.5 * deviation for c in clients)

    def test_the_clients_are_independent(self) -> None:
        """So the number of them is binomial, of variance K q (1 - q): with a fixed number it would be 0."""
        sizes = np.array([len(poisson_sample(["a"] * 50, 0.5)) for _ in range(4000)])
        assert sizes.var() == pytest.approx(12.5, rel=0.15)

    def test_none_and_all(self) -> None:
        assert poisson_sample(["a", "b"], 0.0) == []
        assert poisson_sample(["a", "b"], 1.0) == ["a", "b"]
        assert poisson_sample([], 0.5) == []
