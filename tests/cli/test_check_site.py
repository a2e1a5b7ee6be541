"""``fedumm check-site`` finds what would keep a site from taking part, and says what would leave it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fedumm.cli.main import main
from fedumm.config import FederateConfig
from fedumm.federation.runners.flare.job_launcher import RESTARTS
from fedumm.federation.runners.flare.recipe import FedummRecipe
from support.site_kit import GOOD, listening, site_kit

STREAMER = "nvflare.app_common.logging.job_log_streamer.JobLogStreamer"
HOST = "fedumm.flare.HostExecutor"
TINY = ["--model_backend=blip_vqa", "--model_name_or_path=tiny", "--max_train_samples=60", "--max_eval_samples=20"]


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDUMM_CACHE", str(tmp_path / "cache"))
    # The policy sets it for the process.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with listening() as number:
        yield number


def look(kit: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any], Any]:
    """Status, the worst finding by what was looked at, and what would leave."""
    status = main(["check-site", str(kit), "--json", *more])
    told = json.loads(capsys.readouterr().out)
    order = ["ok", "warning", "fault"]
    found = {f["what"]: f for f in sorted(told["findings"], key=lambda finding: order.index(finding["state"]))}
    assert all(finding["mend"] for finding in told["findings"] if finding["state"] != "ok")
    return status, found, told["leaves"]


def test_a_kit_as_the_page_asks_for_it_will_do(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    kit = site_kit(tmp_path / "site-1", port, policy="datasets: {}\n")
    before = sorted(tmp_path.rglob("*"))
    status, found, leaves = look(kit, capsys)
    assert status == 0
    assert leaves is None
    assert {what for what, finding in found.items() if finding["state"] != "ok"} == {"launcher", "job"}
    assert sorted(tmp_path.rglob("*")) == before, "nothing is changed"


@pytest.mark.parametrize(
    ("resources", "what", "state", "said"),
    [
        ({"class_allow_list": []}, "classes", "fault", "does not admit"),
        ({"class_allow_list": ["fedumm.flare.HostExec"]}, "classes", "fault", "does not admit"),
        ({"class_allow_list": ["fedumm."]}, "classes", "fault", "more than"),
        ({"class_allow_list": ["fedumm.flare", HOST]}, "classes", "fault", "more than"),
        ({"class_allow_list": [HOST, "torch.nn"]}, "classes", "warning", "torch.nn"),
        ({"class_list_enforcement_mode": "warn"}, "classes", "fault", "any class"),
        ({"allow_log_streaming": True}, "log streaming", "fault", "the whole job would fail"),
        ({"allow_log_streaming": True, "class_allow_list": [HOST, STREAMER]}, "log streaming", "warning", "any file"),
        ({"client": {}}, "timeout", "warning", "300 s"),
        ({"client": {"communication_timeout": 2}}, "timeout", "warning", "2 s"),
        ({"components": []}, "launcher", "warning", "none"),
    ],
)
def test_settings_are_held_against_the_page(
    resources: dict[str, Any], what: str, state: str, said: str, tmp_path: Path, port: int,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    status, found, _ = look(site_kit(tmp_path / "site-1", port, **resources), capsys)
    assert found[what]["state"] == state
    assert said in found[what]["told"]
    assert status == (state == "fault")


@pytest.mark.parametrize(
    ("days", "state", "said"), [(100, "ok", "valid until"), (10, "warning", "valid until"), (-1, "fault", "not valid")]
)
def test_a_certificate_has_its_time(
    days: int, state: str, said: str, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    _, found, _ = look(site_kit(tmp_path / "site-1", port, days), capsys)
    assert found["certificate"]["state"] == state
    assert said in found["certificate"]["told"]


@pytest.mark.parametrize("name", ["client.key", "rootCA.pem"])
def test_a_certificate_of_another_federation_is_a_fault(
    name: str, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kit, other = (site_kit(tmp_path / folder, port) for folder in ("site-1", "other"))
    shutil.copy2(other / "startup" / name, kit / "startup" / name)
    status, found, _ = look(kit, capsys)
    assert (status, found["certificate"]["state"]) == (1, "fault")


def test_what_is_missing_is_named(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    kit = site_kit(tmp_path / "site-1", port)
    (kit / "startup" / "sub_start.sh").unlink()
    (kit / "startup" / "client.key").chmod(0o644)
    status, found, _ = look(kit, capsys)
    assert "sub_start.sh" in found["startup kit"]["told"]
    assert found["private key"]["state"] == "warning"
    assert status == 1
    assert main(["check-site", str(kit / "startup")]) == 2
    assert "not a site's startup kit" in capsys.readouterr().err


def test_a_server_that_does_not_answer_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with listening() as gone:
        kit = site_kit(tmp_path / "site-1", gone)
    status, found, _ = look(kit, capsys)
    assert (status, found["server"]["state"]) == (1, "fault")
    assert str(gone) in found["server"]["told"]


def test_filters_that_do_nothing_are_told(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    kit = site_kit(tmp_path / "site-1", port)
    scopes = [{"name": "public", "task_result_filters": [{"path": "x.Y"}]}]
    (kit / "local" / "privacy.json").write_text(json.dumps({"scopes": scopes}))
    assert look(kit, capsys)[1]["filters"]["state"] == "warning"


@pytest.mark.parametrize(
    ("policy", "said"),
    [("datsets: {}\n", "datsets"), ("datasets: {x: /nowhere/at/all}\n", "not where it says")],
)
def test_a_policy_that_lets_no_job_in_is_a_fault(
    policy: str, said: str, tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    status, found, _ = look(site_kit(tmp_path / "site-1", port, policy=policy), capsys)
    assert (status, found["policy"]["state"]) == (1, "fault")
    assert said in found["policy"]["told"]


def test_a_job_that_the_policy_refuses_is_a_fault(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = site_kit(tmp_path / "site-1", port, policy="most: {num_rounds: 5}\n")
    for more, said in (("--num_rounds=6", "num_rounds: 6"), ("--dataset=chest_xray", "chest_xray")):
        status, found, leaves = look(kit, capsys, *TINY, "--dataset=easy_vqa", more)
        assert (status, found["job"]["state"], leaves) == (1, "fault", None)
        assert said in found["job"]["told"]


def test_an_exported_job_brings_its_own_options(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    kit = site_kit(tmp_path / "site-1", port)
    options: Any = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa", "lora_r": 2048}
    FedummRecipe(FederateConfig(**options, name="job")).export(str(tmp_path / "jobs"))
    status, found, _ = look(kit, capsys, "--job", str(tmp_path / "jobs" / "job"))
    assert (status, found["job"]["state"]) == (1, "fault")
    assert "lora_r" in found["job"]["told"]
    assert main(["check-site", str(kit), "--job", str(tmp_path / "jobs"), "--seed=1"]) == 2
    assert main(["check-site", str(kit), "--job", str(tmp_path)]) == 2


def test_the_launcher_is_written_beside_what_is_there(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    kit = site_kit(tmp_path / "site-1", port, own_key=[1])
    before = (kit / "local" / "resources.json").read_bytes()
    for _ in range(2):
        status, found, _ = look(kit, capsys, "--write_launcher")
        assert (status, found["launcher"]["state"]) == (0, "ok")
    content = json.loads((kit / "local" / "resources.json").read_text())
    (entry,) = (part for part in content["components"] if part["id"] == "process_launcher")
    assert entry["args"] == {"restarts": RESTARTS}
    assert {**content, "components": GOOD["components"]} == json.loads(before)
    assert [part for part in content["components"] if part != entry] == GOOD["components"][:1]


@pytest.mark.slow
def test_a_job_on_data_of_the_sites_own_is_told_in_numbers(
    tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the folder that the policy names, under the name that the job knows; another model is a fault."""
    data = tmp_path / "radiology"
    rows = ["image,question,answer"]
    data.mkdir()
    for number in range(20):
        Image.new("RGB", (16, 16), (12 * number, 0, 255)).save(data / f"{number}.png")
        rows.append(f"{number}.png,what is it?,{'pneumothorax' if number % 2 else 'nothing'}")
    (data / "data.csv").write_text("\n".join(rows) + "\n")
    kit = site_kit(tmp_path / "site-1", port, policy=f"datasets: {{chest_xray: {data}}}\n")
    job = [*TINY, "--dataset=chest_xray", "--partition=own", "--num_rounds=5", "--wire=int8"]
    status, found, leaves = look(kit, capsys, *job)
    assert (status, found["job"]["state"], found["model"]["state"]) == (0, "ok", "ok")
    assert (leaves["clients"]["train"] + leaves["clients"]["heldout"], leaves["clients"]["labels"]) == (18, {})
    assert len(leaves["rounds"]) == 5
    assert all(shape and dtype == "float32" for shape, dtype in leaves["tensors"].values())
    told = " ".join(leaves["lines"])
    assert str(tmp_path) not in told
    assert "pneumothorax" not in told
    fingerprint = leaves["fingerprint"]
    for given, state in ((fingerprint.upper(), "ok"), (fingerprint[::-1], "fault")):
        status, found, _ = look(kit, capsys, *job, "--fingerprint", given)
        assert (status, found["fingerprint"]["state"]) == (int(state == "fault"), state)
