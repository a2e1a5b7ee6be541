"""Runs against each other: which settings differ, and what seeds say of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any, Literal

from fedumm.config import EXECUTION, CentralConfig, FederateConfig
from fedumm.errors import FedummError
from fedumm.report.overview import Overview
from fedumm.run_options import known_options

Place = Literal["test", "heldout"]

SEED = "seed"
FEW = 5
"""Below so many pairs a test tells little."""

ABSENT = "-"


def settings(run: Overview) -> dict[str, str]:
    """Its options as texts, without those that say where and how it was carried out."""
    where = {
        name
        for config in (FederateConfig, CentralConfig)
        for name, f in known_options(config).items()
        if f.metadata["group"] == EXECUTION
    }
    return {str(name): _text(value) for name, value in run.options.items() if name not in where}


def _text(value: object) -> str:
    if isinstance(value, str):
        return value or "''"
    # 0.5 and 5e-1 are one number, however a file writes it.
    return f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)


def differences(runs: Sequence[Overview]) -> dict[str, list[str]]:
    """By option, its value in each of ``runs``, of those options that have not the same value in all that know them.

    What an older run's file does not name has its default. An option that runs of a kind do not have is ``-`` there.
    """
    found = [{"kind": run.kind, **settings(run)} for run in runs]
    names = dict.fromkeys(name for own in found for name in own)
    values = {
        name: [own.get(name) or _default(run, name) for run, own in zip(runs, found, strict=True)] for name in names
    }
    return {name: own for name, own in values.items() if len({value for value in own if value != ABSENT}) > 1}


def _default(run: Overview, name: str) -> str:
    known = known_options(CentralConfig if run.kind == "central" else FederateConfig)
    return _text(known[name].default) if name in known else ABSENT


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed alone.

    Attributes:
        numbers: places of the runs among all that are compared.
        scores: of the best version, 0..1, by seed.
    """

    numbers: tuple[int, ...]
    scores: Mapping[str, float]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return fmean(self.scores.values())

    @property
    def deviation(self) -> float | None:
        """Standard deviation of a sample; None of one seed."""
        return stdev(self.scores.values()) if len(self.scores) > 1 else None


def groups(runs: Sequence[Overview], place: Place) -> list[Group]:
    """The finished runs that have a score, by all settings but the seed, in the order of their first runs.

    Raises:
        FedummError: two runs of a group have the same seed and other scores.
    """
    places: dict[str, list[int]] = {}
    for number, run in enumerate(runs):
        own = {name: value for name, value in settings(run).items() if name != SEED}
        if run.state == "finished" and run.score("best", place) is not None:
            places.setdefault(json.dumps([run.kind, own], sort_keys=True), []).append(number)
    return [_group(runs, numbers, place) for numbers in places.values()]


def _group(runs: Sequence[Overview], numbers: Sequence[int], place: Place) -> Group:
    scores: dict[str, float] = {}
    for number in numbers:
        seed, score = str(runs[number].options.get(SEED)), runs[number].score("best", place)
        assert score is not None
        if scores.setdefault(seed, score) != score:
            raise FedummError(
                f"{runs[number].path} has the same options as another of the runs, its seed included, and another "
                "score. Leave one of them out."
            )
    return Group(tuple(numbers), scores)


@dataclass(frozen=True)
class PairedTest:
    """Two groups of runs, paired by their seeds: the same seed means the same split of the data.

    Attributes:
        first, second: places of the groups.
        pairs: seeds that both have.
        difference: mean of second - first, 0..1.
        low, high: of its 95 % confidence interval, by Student's t.
        effect: Cohen's d of paired samples: the mean difference over the standard deviation of the differences.
        t_test: two-sided p of the paired t-test.
        wilcoxon: two-sided p of the Wilcoxon signed-rank test, exact for up to 50 pairs without ties.
    """

    first: int
    second: int
    pairs: int
    difference: float
    low: float | None = None
    high: float | None = None
    effect: float | None = None
    t_test: float | None = None
    wilcoxon: float | None = None

    @property
    def smallest(self) -> float:
        """The lowest p that the Wilcoxon test can have with so many pairs: all differences have the same sign."""
        return 2.0 ** (1 - self.pairs)


def paired_tests(found: Sequence[Group]) -> list[PairedTest]:
    """The first group against each other one with which it shares two seeds or more."""
    tests = []
    for place, group in enumerate(found[1:], start=1):
        seeds = [seed for seed in found[0].scores if seed in group.scores]
        if len(seeds) > 1:
            tests.append(paired_test([group.scores[s] - found[0].scores[s] for s in seeds], 0, place))
    return tests


def paired_test(differences: Sequence[float], first: int = 0, second: int = 1) -> PairedTest:
    """Test two differences or more. What can't be computed, since they are all the same, is None."""
    from scipy import stats

    count, mean, deviation = len(differences), fmean(differences), stdev(differences)
    if deviation < 1e-12:
        return PairedTest(first, second, count, mean)
    half = float(stats.t.ppf(0.975, count - 1)) * deviation / math.sqrt(count)
    return PairedTest(
        first,
        second,
        count,
        mean,
        mean - half,
        mean + half,
        mean / deviation,
        float(stats.ttest_1samp(differences, 0.0).pvalue),
        float(stats.wilcoxon(differences).pvalue),
    )


def warnings(found: Sequence[Group], tests: Sequence[PairedTest], runs: Sequence[Overview] = ()) -> list[str]:
    """What a reader of the tests has to know; of ``runs``, which of them are in no group, since they are not over."""
    told = []
    if unfinished := [f"#{number}" for number, run in enumerate(runs, start=1) if run.state != "finished"]:
        told.append(f"Not finished, and so neither in the means nor in the tests: {', '.join(unfinished)}.")
    if len(found) > 1 and not tests:
        told.append("No tests: they need runs of each setting with two --seed or more, the same for all.")
    few = sorted({test.pairs for test in tests if test.pairs < FEW})
    for pairs in few:
        told.append(
            f"With {pairs} seeds a test tells little: the Wilcoxon test can't have a p below {2.0 ** (1 - pairs):.3g}, "
            "and the t-test takes for granted that differences are normal."
        )
    if any(test.t_test is None for test in tests):
        told.append("Where all differences are the same there is nothing to test.")
    if len(tests) > 1:
        told.append(f"{len(tests)} settings are tested against one: by chance alone, one in twenty has a p below 0.05.")
    return told


def comparison(runs: Sequence[Overview], place: Place) -> dict[str, Any]:
    """What there is to say of ``runs``: ``differ``, ``groups``, ``tests`` and ``warnings``.

    Raises:
        FedummError: see :func:`groups`.
    """
    found = groups(runs, place)
    tests = paired_tests(found)
    return {"differ": differences(runs), "groups": found, "tests": tests, "warnings": warnings(found, tests, runs)}
