"""What a server and a site have to admit: one class each, by NVIDIA FLARE's own rule, with options and nothing else."""

from __future__ import annotations

import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.apis.workspace import Workspace
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer

import fedumm.flare
from fedumm.cli.main import main
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.admission import site_config
from fedumm.federation.runners.flare.job_options import config_of_job, job_options
from fedumm.federation.runners.flare.recipe import NO_LOGS, SERVER_CLASSES, SITE_CLASSES, FedummRecipe
from fedumm.flare import HostExecutor, ServerController

ROOT = Path(__file__).parents[3]
REFUSED = [
    "fedumm.cli.main.main", "fedumm.plugins.load_plugins", "fedumm.cli.plugins.load_named_plugins",
    "fedumm.flare.Path", "fedumm.flare",
    "fedumm.flare.HostExecutors", "fedumm.flare.process_guard.simulated_run",
    "fedumm.federation.runners.flare.process_guard.end_tree",
]  # fmt: skip
OPTIONS = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa"}


def documented() -> dict[str, Any]:
    """The settings that docs/sites.md tells a server and a site to write."""
    text = (ROOT / "docs" / "sites.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (server|site) \| `(.*)` \|$", text, re.MULTILINE)
    return {who: json.loads(f"{{{settings}}}") for who, settings in rows}


def admits(settings: dict[str, Any], path: str, folder: Path) -> bool:
    """FLARE's word on a component, of a server or site with these settings in its ``local/resources.json``."""
    local = folder / "local"
    local.mkdir(parents=True, exist_ok=True)
    (folder / "startup").mkdir(exist_ok=True)
    (local / "resources.json").write_text(json.dumps({"format_version": 2, **settings}))
    try:
        ComponentPathAuthorizer().authorize_component_config({"path": path}, workspace=Workspace(str(folder)))
    except UnsafeComponentError:
        return False
    return True


def test_the_page_names_exactly_what_a_job_needs() -> None:
    assert documented() == {
        "server": {"class_allow_list": list(SERVER_CLASSES)},
        "site": {"class_allow_list": list(SITE_CLASSES), **NO_LOGS},
    }


def paths_in(config: Any) -> list[str]:
    """All that FLARE would build of a job's configuration."""
    own = [config["path"]] if isinstance(config, dict) and "path" in config else []
    parts = config.values() if isinstance(config, dict) else config if isinstance(config, list) else []
    return own + [path for part in parts for path in paths_in(part)]


def test_an_exported_job_passes_under_what_is_documented(tmp_path: Path) -> None:
    FedummRecipe(FederateConfig(**OPTIONS, name="job")).export(str(tmp_path))
    for who, role in (("server", "server"), ("site", "client")):
        (file,) = tmp_path.rglob(f"config_fed_{role}.json")
        found = paths_in(json.loads(file.read_text()))
        assert len(found) == 1
        assert admits(documented()[who], found[0], tmp_path / who)


@pytest.mark.parametrize("who", ["server", "site"])
def test_nothing_else_is_admitted(who: str, tmp_path: Path) -> None:
    assert not [path for path in REFUSED if admits(documented()[who], path, tmp_path)]


def test_there_is_nothing_below_the_two_classes_that_their_entries_would_admit() -> None:
    """An entry admits what begins with it and a dot, too: FLARE would import that as a module."""
    assert not hasattr(fedumm.flare, "__path__")


def test_no_function_of_ours_is_beside_them() -> None:
    """A site that cuts an entry short to ``fedumm.flare.`` admits what that module has."""
    ours = {
        name
        for name, value in vars(fedumm.flare).items()
        if callable(value) and (inspect.getmodule(value).__name__.startswith("fedumm"))  # type: ignore[union-attr]
    }
    assert ours == {"HostExecutor", "ServerController"}


def test_the_module_is_light() -> None:
    code = "import sys, fedumm.flare; sys.exit(','.join({'torch', 'transformers', 'datasets'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


SET: dict[str, list[Any]] = {
    "plugin": ["/tmp/x.py"], "feature_cache_dir": ["/home"], "data_path": [""], "threads": [900], "gpu": ["0"],
    "num_workers": [10_000], "dataset": ["/srv/records", "../records", "~/records", "a/../b", "here"],
    "seed": [{"a": 1}], "model_name_or_path": ["/srv/model", "s3://x"], "batch_size": [0], "lr": [{"path": "x"}],
    "run_dir": ["/srv"],
}  # fmt: skip
HOSTILE = [{**OPTIONS, name: value} for name, values in SET.items() for value in values]


@pytest.mark.parametrize("options", [*HOSTILE, "text", None, ["model_backend"], {}, {**OPTIONS, 3: 4}], ids=str)
@pytest.mark.parametrize(
    "take", [lambda options, local: ServerController(options), site_config], ids=["server", "site"]
)
def test_arguments_that_no_exporter_writes_are_refused(
    take: Any, options: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    take(OPTIONS, tmp_path)
    with pytest.raises(FedummError):
        take(options, tmp_path)


@pytest.mark.parametrize("kind", [HostExecutor, ServerController])
def test_there_is_no_other_argument(kind: Any) -> None:
    for more in ("run_dir", "num_hosts"):
        with pytest.raises(TypeError):
            kind(OPTIONS, **{more: 1})


def test_what_travels_comes_back_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = FederateConfig(**{**OPTIONS, "dataset": "hospital_a"}, num_clients=3, lora_r="16,site-1=4", seed=7)
    assert config_of_job(json.loads(json.dumps(job_options(config)))) == config


def test_the_exporters_machine_stays_out_of_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = [
        "--threads",
        "3",
        "--num_workers",
        "2",
        "--feature_cache_dir",
        str(tmp_path),
        "--gpu",
        "cpu",
        "--hosts",
        "2",
    ]
    assert main(["federate", "--model_backend", "blip_vqa", "--export_dir", "jobs", "--name", "own", *flags]) == 0
    text = "".join(p.read_text() for p in Path("jobs").rglob("*.json"))
    assert str(tmp_path) not in text
    assert not [
        name for name in ("threads", "num_workers", "feature_cache_dir", "gpu", "hosts", "export_dir") if name in text
    ]
    out = capsys.readouterr().out
    assert "each machine sets its own: --num_workers, --feature_cache_dir, --gpu, --threads, --hosts" in out


@pytest.mark.parametrize("name", ["dataset", "model_name_or_path"])
def test_a_path_can_t_be_exported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    config = FederateConfig(**{**OPTIONS, name: str(tmp_path / "mine")})
    with pytest.raises(FedummError, match=r"is a path of this machine.*the sites' policies"):
        job_options(config)
    if name == "dataset":
        assert main(["federate", "--model_backend", "blip_vqa", "--export_dir", "jobs", "--dataset", "mine"]) == 2
        assert "is a path of this machine" in capsys.readouterr().err
        assert not Path("jobs/fedumm-blip_vqa").exists()
