"""A run read back: its figure is of its records, its samples are those of the report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fedumm
from fedumm.report.client_curves import client_curves
from support.commands import federate, flags, prepare

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, made once."""
    path = tmp_path_factory.mktemp("runs") / "toy"
    with pytest.MonkeyPatch.context() as patched:
        prepare(patched)
        assert federate(*flags(path, num_rounds=2)) == 0
    return path


def test_the_figure_has_a_curve_for_each_client_with_its_scores(folder: Path) -> None:
    run = fedumm.load_run(folder)
    assert len(repr(run)) < 200
    figure = run.plot()
    assert callable(figure.savefig), "a figure of matplotlib"
    assert figure._repr_png_().startswith(PNG), "what a notebook asks for"
    panel = next(
        axes for axes in figure.axes if axes.get_legend() and "each client" in axes.get_legend().get_title().get_text()
    )
    drawn = {
        text.get_text(): (list(line.get_xdata()), list(line.get_ydata()))
        for text, line in zip(panel.get_legend().get_texts(), panel.get_lines(), strict=True)
    }
    for client, own in run.clients.groupby("client"):
        assert drawn[client] == (
            list(own.index.get_level_values("round")),
            pytest.approx(list(100 * own["heldout_after_vqa"])),
        )
    assert client_curves(run.client_records)["vqa"].keys() == drawn.keys()


def test_samples_are_those_of_the_report(folder: Path) -> None:
    run = fedumm.load_run(folder)
    with pytest.raises(fedumm.FedummError, match="fedumm report"):
        _ = run.samples
    rows = [{"question": "red?", "references": ["yes"], "before": "no", "after": "yes"}] * 2
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run.samples.to_dict("records") == rows
    (folder / "samples.jsonl").write_text("[1\n")
    with pytest.raises(fedumm.FedummError, match="can't be read"):
        _ = fedumm.load_run(folder).samples


def test_a_run_without_rounds_says_so(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes((folder / "config.yaml").read_bytes())
    run = fedumm.load_run(tmp_path)
    assert run.rounds.empty
    assert run.summary == run.best == {}
    with pytest.raises(fedumm.FedummError, match="no finished round"):
        run.plot()
    with pytest.raises(fedumm.FedummError, match="no adapter 'best'"):
        run.adapter()


def test_clients_that_keep_their_own_adapter_have_one_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    assert federate(*flags(tmp_path / "own", aggregator="fedsa_lora", num_rounds=1)) == 0
    run = fedumm.load_run(tmp_path / "own")
    assert run.adapter("site-2").path == tmp_path / "own" / "clients" / "site-2" / "adapter"
    with pytest.raises(fedumm.FedummError, match="no adapter 'site-9'"):
        run.adapter("site-9")


def test_a_central_run_is_read_with_its_epochs(tmp_path: Path) -> None:
    few = {"dataset": "easy_vqa", "max_train_samples": 8, "max_eval_samples": 4, "num_epochs": 2}
    trained = fedumm.train(
        model_backend="blip_vqa", model_name_or_path="tiny", output_dir=tmp_path / "central", gpu="cpu", **few
    )
    run = fedumm.load_run(tmp_path / "central")
    assert list(run.rounds.index) == [0, 1, 2]
    assert run.rounds["test_vqa"].iloc[-1] == trained.after["vqa"].score == run.best["test"]
    assert run.clients.empty
    assert run.adapter().path == tmp_path / "central" / "adapter"
    assert run.plot().axes
    assert run.config.num_epochs == 2
