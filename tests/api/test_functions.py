"""``import fedumm``: quick to import, and the functions do what the commands do."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest

import fedumm
from fedumm.adapters.folder import read_folder
from fedumm.config import FederateConfig, command_of
from fedumm.run_events import RunListener
from fedumm.run_options import to_mapping
from support.commands import federate, prepare, records, results
from support.toy import lora_options, toy_config


def options(folder: Path, **more: Any) -> dict[str, Any]:
    """What a run of two rounds is given: only what is no default."""
    config = toy_config(**lora_options(name=str(folder), in_process=False, **more))
    plain = to_mapping(FederateConfig(model_backend="none"))
    return {option: value for option, value in to_mapping(config).items() if value != plain[option]}


def test_importing_it_imports_no_library() -> None:
    heavy = ("torch", "transformers", "datasets", "numpy", "nvflare", "rich", "pydantic", "yaml")
    code = f"import sys, fedumm; dir(fedumm); fedumm.FedummError; print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"


@pytest.mark.parametrize("name", fedumm.__all__)
def test_what_it_offers_is_there_and_described(name: str) -> None:
    found = getattr(fedumm, name)
    assert callable(found)
    assert name in dir(fedumm)


def test_a_name_that_it_lacks_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'federated'"):
        fedumm.federated  # noqa: B018


def test_a_run_is_that_of_the_command_which_stands_in_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    run = fedumm.federate(**options(tmp_path / "api"))
    words = shlex.split(command_of((run.path / "config.yaml").read_text(encoding="utf-8")))
    assert words[:2] == ["fedumm", "federate"]
    assert federate(*words[2:], "--name", tmp_path / "command") == 0
    assert results(run.path) == results(tmp_path / "command")
    assert records(run.path) == records(tmp_path / "command")


def test_what_a_run_offers_is_what_its_folder_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    run = fedumm.federate(**options(tmp_path / "run"))
    kept = records(run.path)
    assert list(run.rounds.index) == [1, 2]
    assert list(run.clients.index) == [(r, f"site-{k}") for r in (1, 2) for k in (1, 2, 3)]
    rounds = [one for one in kept if one["event"] == "round"]
    assert list(run.rounds["test"]) == [one["test"] for one in rounds]
    assert list(run.rounds["test_vqa"]) == [one["test_tasks"]["vqa"]["score"] for one in rounds]
    assert list(run.clients["steps"]) == [one["steps"] for one in kept if one["event"] == "client"]
    assert run.best["round"] == run.rounds["best_round"].iloc[-1] or run.best["round"] == 2
    assert run.adapter("last").path == tmp_path / "run" / "adapter" / "last"
    assert read_folder(run.adapter())[0].keys() == read_folder(run.path / "adapter" / "best")[0].keys()
    assert fedumm.load_run(tmp_path / "run") == run
    with pytest.raises(fedumm.FedummError, match="no adapter 'first'"):
        run.adapter("first")


def test_a_run_can_be_given_more_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    begun = fedumm.federate(**options(tmp_path / "longer", num_rounds=1))
    longer = fedumm.federate(resume=str(tmp_path / "longer"), num_rounds=2, plugin=begun_backend())
    assert (len(begun.round_records), len(longer.round_records)) == (1, 2)
    straight = fedumm.federate(**options(tmp_path / "straight"))
    assert results(longer.path) == results(straight.path)


def begun_backend() -> str:
    """Code is named again by whoever goes on."""
    return str(lora_options()["plugin"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"num_client": 3}, "Did you mean 'num_clients'"),
        ({"num_clients": 0}, "--num_clients must be positive"),
        ({"export_dir": "jobs"}, "fedumm federate --export_dir"),
        ({"lr": [1e-4, 1e-3]}, r"lr: a run takes one value, .* fedumm sweep --lr 0.0001,0.001"),
        ({"dry_run": True}, "Call fedumm.dry_run"),
        ({"resume": "nowhere"}, "there is no run in that folder"),
    ],
)
def test_bad_options_are_one_clear_error_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(fedumm.FedummError, match=said):
        fedumm.federate(**(wrong if "resume" in wrong else options(tmp_path / "run") | wrong))
    assert not list(tmp_path.iterdir())


def test_no_run_is_read_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(fedumm.FedummError, match="there is no run in that folder"):
        fedumm.load_run(tmp_path)


def test_a_split_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    kept = {"num_clients", "dirichlet_alpha", "max_train_samples"}
    given = {name: value for name, value in options(tmp_path / "run").items() if name in kept}
    split = fedumm.partition(dataset="shapes", **given)
    made = json.loads((fedumm.federate(**options(tmp_path / "run")).path / "partition.json").read_text())
    assert split.fingerprint == made["fingerprint"]
    assert {name: len(share.train) for name, share in split.shares.items()} == {
        name: client["train"] for name, client in made["clients"].items()
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"dataset": "shapes", "lr": 1.0}, "Unknown option 'lr'"),
        ({"num_clients": 3}, "Say which data set"),
        ({"dataset": "shapes", "partition": "idd"}, "Unknown partitioner 'idd'"),
    ],
)
def test_a_split_that_makes_no_sense_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(fedumm.FedummError, match=said):
        fedumm.partition(**wrong)


def test_a_path_with_a_dot_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    monkeypatch.chdir(tmp_path)
    run = fedumm.federate(**{**options(Path("demo")), "name": "./demo", "num_rounds": 1})
    assert run.path == tmp_path / "demo"
    assert not (tmp_path / "runs").exists()


def test_paths_and_lists_are_taken_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(monkeypatch)
    given = options(tmp_path / "run") | {"num_rounds": 1, "image_root": None, "gpu": None}
    run = fedumm.federate(**given | {"name": tmp_path / "run", "plugin": [Path(given["plugin"])]})
    assert run.config.image_root == ""
    words = shlex.split(command_of((run.path / "config.yaml").read_text(encoding="utf-8")))
    assert words[words.index("--plugin") + 1] == given["plugin"]


def test_another_plugin_than_the_runs_is_refused_before_it_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(monkeypatch)
    fedumm.federate(**options(tmp_path / "run", num_rounds=1))
    (tmp_path / "trap.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    for more in ({"resume": tmp_path / "run"}, {"name": tmp_path / "run", "resume_if_exists": True}):
        with pytest.raises(fedumm.FedummError, match="is not the file"):
            fedumm.federate(plugin=tmp_path / "trap.py", num_rounds=2, **more)
    assert not (tmp_path / "ran").exists()


def test_what_is_registered_here_only_is_not_for_other_processes(tmp_path: Path) -> None:
    fedumm.register_source("mine", lambda request: None)
    with pytest.raises(fedumm.FedummError, match="source 'mine' is registered in this process only"):
        fedumm.federate(
            model_backend="blip_vqa", model_name_or_path="tiny", dataset="mine", simulator=True, name=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", [{"num_clients": 2}, {"central": True, "num_epochs": 2}])
def test_a_dry_run_tells_and_writes_nothing(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"dataset": "easy_vqa", "max_train_samples": 40, "max_eval_samples": 10, "gpu": "cpu"}
    fedumm.dry_run(model_backend="blip_vqa", model_name_or_path="tiny", **few, **more)
    assert "nothing was written" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_listener_hears_of_each_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Heard(RunListener):
        rounds: ClassVar[list[int]] = []

        def on_round(self, record: Any) -> None:
            self.rounds.append(record["round"])

    prepare(monkeypatch)
    fedumm.federate(listeners=[Heard()], **options(tmp_path / "run"))
    assert Heard.rounds == [1, 2]
