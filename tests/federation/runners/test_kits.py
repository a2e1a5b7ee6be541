"""Startup kits of a federation on this machine: what they allow, where they keep things, whom they let in."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedumm.cli.main import main
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.admission import admitted
from fedumm.federation.runners.flare.job_options import job_options
from fedumm.federation.runners.flare.kits import (
    COMMUNICATION_TIMEOUT,
    HEART_BEAT_TIMEOUT,
    Kits,
    new_workspace,
    provision,
)
from fedumm.federation.runners.flare.poc import job_of, site_policies
from fedumm.federation.runners.flare.site_policy import SitePolicy, read_policy
from fedumm.run_options import from_mapping

BUNDLED = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa"}


def config_of(**options: Any) -> FederateConfig:
    return from_mapping(FederateConfig, {**BUNDLED, "threads": 1, **options})


def policy_of(config: FederateConfig) -> SitePolicy:
    policies = site_policies(config)
    assert list(policies) == [f"site-{number + 1}" for number in range(config.num_clients)]
    return SitePolicy(**policies["site-2"])


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Kits:
    return provision(tmp_path_factory.mktemp("kits"), {"site-1": {}, "other": {"threads": 3}})


def resources(kit: Path) -> Any:
    return json.loads((kit / "local" / "resources.json").read_text())


def test_server_and_sites_admit_one_class_each(kits: Kits) -> None:
    assert resources(kits.server)["class_allow_list"] == ["fedumm.flare.ServerController"]
    for kit in kits.sites.values():
        own = resources(kit)
        assert (own["class_allow_list"], own["allow_log_streaming"]) == (["fedumm.flare.HostExecutor"], False)
        assert own["client"]["communication_timeout"] == COMMUNICATION_TIMEOUT


def test_what_a_server_keeps_lies_in_its_kit(kits: Kits) -> None:
    own = resources(kits.server)
    text = json.dumps(own)
    assert "/tmp/nvflare" not in text
    assert text.count(str(kits.server)) == 2
    assert own["servers"][0]["heart_beat_timeout"] == HEART_BEAT_TIMEOUT


def test_each_site_has_its_policy(kits: Kits) -> None:
    assert list(kits.all) == ["server", "site-1", "other"]
    assert read_policy(kits.sites["other"] / "local") == SitePolicy(threads=3)
    assert read_policy(kits.sites["site-1"] / "local") == SitePolicy()


def test_a_bad_policy_makes_no_kits(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="threads must be a whole number"):
        provision(tmp_path, {"site-1": {"threads": "many"}})
    assert not list(tmp_path.iterdir())


def test_a_name_that_flare_does_not_take_is_told(tmp_path: Path) -> None:
    with pytest.raises(FedummError, match="could not provision"):
        provision(tmp_path, {"no good name/": {}})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dataset": "shapes", "model_backend": "januspro", "task": "unified"},
        {"dataset": "owner/data:all"},
        {"dataset": "vqav2", "num_workers": 20, "local_epochs": 500},
        {"model_name_or_path": "owner/model", "gpu": "cpu", "partition_by": "question_type", "dirichlet_alpha": 0.1},
        {"allow_remote_images": True, "min_label_count": 2, "aggregator": "flora", "wire": "int8"},
        {"feature_cache_dir": "/cache", "data_path": "/hub", "image_root": "/pacs:/mnt"},
    ],
)
def test_a_site_admits_its_job_as_the_run_asks_for_it(options: dict[str, Any]) -> None:
    config = config_of(**options)
    found = admitted(job_options(job_of(config)), policy_of(config))
    assert replace(found, label_counts=config.label_counts) == config


@pytest.mark.parametrize(
    "other",
    [
        {"dataset": "owner/other"}, {"dataset": "records"}, {"model_name_or_path": "owner/other"},
        {"model_backend": "januspro"}, {"partition_by": "image_id"}, {"num_rounds": 100_000},
    ],
)  # fmt: skip
def test_a_site_admits_no_other(other: dict[str, Any]) -> None:
    policy = policy_of(config_of(dataset="owner/data"))
    with pytest.raises(FedummError, match=r"does not allow|does not have"):
        admitted(job_options(config_of(**other)), policy)


def test_a_folder_is_a_name_in_the_job_and_a_place_at_the_sites(tmp_path: Path) -> None:
    folder = tmp_path / "röntgen bilder"
    folder.mkdir()
    config = config_of(dataset=str(folder), model_name_or_path=str(tmp_path))
    options = job_options(job_of(config))
    assert options["dataset"] == "local-r-ntgen-bilder"
    assert str(tmp_path) not in yaml.safe_dump(options)
    found = admitted(options, policy_of(config))
    assert (found.dataset, found.model_name_or_path) == (str(folder), str(tmp_path))


def test_sites_with_own_folders_are_each_told_of_theirs(tmp_path: Path) -> None:
    folders = {name: str(tmp_path / name) for name in ("north", "south")}
    for folder in folders.values():
        Path(folder).mkdir()
    data = ",".join(f"{name}={folder}" for name, folder in folders.items())
    config = config_of(dataset="owner/data", partition="own", client_data=data)
    policies = site_policies(config)
    assert list(policies) == ["north", "south"]
    for site, folder in folders.items():
        found = admitted(job_options(job_of(config)), SitePolicy(**policies[site]))
        assert found.dataset == folder
        with pytest.raises(FedummError, match="does not allow"):
            admitted(job_options(config), SitePolicy(**policies[site]))


def test_a_workspace_is_new_and_for_its_user_only(tmp_path: Path) -> None:
    made = new_workspace(tmp_path / "a" / "b")
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    (made / "x").touch()
    with pytest.raises(FedummError, match="is not empty"):
        new_workspace(made)
    with pytest.raises(FedummError, match="can't be made"):
        new_workspace(made / "x")


def test_a_kit_of_another_provisioning_is_narrowed_and_keeps_what_else_it_says(
    tmp_path: Path, kits: Kits, capsys: pytest.CaptureFixture[str]
) -> None:
    """Done twice it is the same; an administrator's kit has nothing to narrow."""
    for kit, kind, own in (
        (kits.server, "server", "ServerController"),
        (kits.sites["other"], "client", "HostExecutor"),
    ):
        place = tmp_path / kind
        for name in (f"startup/fed_{kind}.json", "local/resources.json.default"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes((kit / name).read_bytes())
        settings = {**json.loads((place / "local/resources.json.default").read_text()), "of_its_own": 1}
        (place / "local" / "resources.json").write_text(json.dumps(settings))
        for _ in range(2):
            assert main(["kit", str(place)]) == 0
            told = capsys.readouterr().out
            assert f"class_allow_list: fedumm.flare.{own}\n" in told
        assert resources(place) == json.loads(
            json.dumps({**resources(kit), "of_its_own": 1}).replace(str(kit), str(place))
        )
    assert main(["kit", str(kits.admin)]) == 2
    assert "not the startup kit of a server or a site" in capsys.readouterr().err
