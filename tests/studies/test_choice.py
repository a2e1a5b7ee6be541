"""A learning rate is chosen by held-out data, whatever the test set says."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fedumm.studies.choice import choices, with_test
from fedumm.studies.results import Outcome, rows
from fedumm.studies.study import Study
from fedumm.studies.tables import write_tables

STUDY = Study.of(
    {"model_backend": "blip_vqa", "dataset": "easy_vqa", "num_clients": [2, 4], "lr": [1e-4, 1e-3], "seed": [1, 2]}
)
SCORE = st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0])
RUNS = [run.name for run in STUDY.runs()]


def outcome(name: str, test: float, heldout: float) -> Outcome:
    kind = name.split("-")[0]
    return Outcome({kind: test}, 1.0, None, ()) if kind == "central" else Outcome({kind: test}, 1.0, heldout, (100,))


@given(st.lists(st.tuples(SCORE, SCORE), min_size=len(RUNS), max_size=len(RUNS)))
@settings(max_examples=60, deadline=None)
def test_the_best_on_held_out_data_is_chosen(scores: list[tuple[float, float]]) -> None:
    found = {name: outcome(name, *own) for name, own in zip(RUNS, scores, strict=True)}
    made = with_test(STUDY, choices(STUDY, found), found)
    assert [(one.kind, one.setting["num_clients"]) for one in made] == [
        ("federated", 2), ("local_only", 2), ("federated", 4), ("local_only", 4),
    ]  # fmt: skip
    for one in made:
        by_rate = {}
        for rate in ("0.0001", "0.001"):
            alpha = next(part for part in RUNS[-1].split("-") if part.startswith("alpha"))
            names = [f"{one.kind}-k{one.setting['num_clients']}-{alpha}-seed{seed}-lr{rate}" for seed in (1, 2)]
            own = [found[name] for name in names]
            held = sum(run.heldout or 0.0 for run in own) / 2
            by_rate[float(rate)] = held, sum(run.scores[one.kind] for run in own) / 2
        best = max(by_rate, key=lambda rate: by_rate[rate][0])
        assert one.best
        assert one.test
        assert one.best.value == best
        assert one.best.rows == 200
        assert abs((one.best.heldout or 0.0) - by_rate[best][0]) < 1e-12
        assert abs(one.test.mean - by_rate[best][1]) < 1e-12


def test_nothing_is_chosen_before_all_are_finished(tmp_path: Path) -> None:
    found = {name: outcome(name, 0.5, 0.5) for name in RUNS}
    first = next(name for name in RUNS if name.startswith("federated-k2"))
    few = {name: own for name, own in found.items() if name != first}
    assert [(one.kind, one.setting["num_clients"]) for one in choices(STUDY, few)] == [
        ("local_only", 2), ("federated", 4), ("local_only", 4),
    ]  # fmt: skip
    write_tables(STUDY, found, rows(STUDY, found), tmp_path)
    told = (tmp_path / "chosen.md").read_text()
    assert "| 2 | federated | 0.0001 | 50.00 | 200 | yes | 50.00 ± 0.00 |" in told, "of equals the first"
    assert "| 2 | federated | 0.001 | 50.00 | 200 |  |  |" in told
    assert "central |" not in told


def test_one_rate_leaves_nothing_to_choose(tmp_path: Path) -> None:
    study = Study.of({"model_backend": "blip_vqa", "num_clients": [2, 4], "lr": 1e-3})
    found = {run.name: outcome(run.name, 0.5, 0.5) for run in study.runs()}
    assert not choices(study, found)
    earlier = {name: outcome(name, 0.5, 0.5) for name in RUNS}
    write_tables(STUDY, earlier, rows(STUDY, earlier), tmp_path)
    write_tables(study, found, rows(study, found), tmp_path)
    assert not (tmp_path / "chosen.md").exists()
