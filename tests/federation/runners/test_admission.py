"""What a job may set at a site: nothing but what the site's own file allows, key by key."""

from __future__ import annotations

import math
import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fedumm.config import OF_ONE_RUN, FederateConfig, option_fields
from fedumm.errors import FedummError
from fedumm.federation.runners.flare.admission import admitted, site_config
from fedumm.federation.runners.flare.site_policy import FILE, SitePolicy, read_policy
from fedumm.run_options import from_mapping, to_mapping

BUNDLED = {"model_backend": "blip_vqa", "model_name_or_path": "tiny", "dataset": "easy_vqa"}


def job(**options: Any) -> dict[str, Any]:
    """What an exported job brings."""
    config = from_mapping(FederateConfig, {**BUNDLED, "export_dir": "jobs", **options})
    return {name: value for name, value in to_mapping(config).items() if name not in OF_ONE_RUN}


def admit(policy: dict[str, Any] | None = None, **options: Any) -> FederateConfig:
    return admitted(job(**options), SitePolicy(**(policy or {})))


def test_without_a_policy_what_ships_with_the_program_is_allowed(tmp_path: Path) -> None:
    config = admitted(job(), read_policy(tmp_path))
    assert (config.dataset, config.model_name_or_path) == ("easy_vqa", "tiny")
    assert admit(dataset="shapes", model_backend="januspro", task="unified").dataset == "shapes"
    unchanged = {f.name for f in option_fields(FederateConfig)} - {"label_counts"} - set(OF_ONE_RUN)
    assert all(getattr(config, name) == job()[name] for name in unchanged)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dataset": "owner/data"}, "hub_datasets: [owner/data]"),
        ({"dataset": "vqav2"}, "hub_datasets: [vqav2]"),
        ({"dataset": ""}, "hub_datasets: [vqav2]"),
        ({"dataset": "/data/patients"}, "below 'datasets:', /data/patients: /its/folder/on/this/site"),
        ({"dataset": "../patients"}, "below 'datasets:', ../patients: "),
        ({"dataset": "~/patients"}, "datasets"),
        ({"dataset": "chest_xray"}, "below 'datasets:', chest_xray: "),
        (
            {"model_name_or_path": ""},
            "hub_models: [Salesforce/blip-vqa-base], and to download it: allow_download: true",
        ),
        ({"model_name_or_path": "owner/model"}, "hub_models: [owner/model]"),
        ({"model_name_or_path": "/models/blip"}, "below 'models:', /models/blip: /its/folder"),
        ({"model_backend": "mine"}, "backends: [mine]"),
        ({"partition_by": "question_id"}, "partition_columns: [question_id]"),
        ({"allow_remote_images": True}, "allow_remote_images: true"),
        ({"num_workers": 9}, "num_workers: 9"),
    ],
)
def test_everything_else_is_refused_with_the_line_that_would_allow_it(options: dict[str, Any], line: str) -> None:
    with pytest.raises(FedummError) as caught:
        admit(**options)
    assert line in str(caught.value)
    assert f"local/{FILE}" in str(caught.value)


@pytest.mark.parametrize("name", ["plugin", "data_path", "feature_cache_dir", "image_root", "answers"])
def test_places_and_code_of_another_machine_are_refused_whatever_the_policy(name: str) -> None:
    policy = {"data_roots": ["/"], "image_roots": ["/"]}
    with pytest.raises(FedummError, match=f"--{name}"):
        admit(policy, **{name: "/somewhere/else.py"})


def test_an_unknown_option_or_a_wrong_type_is_refused() -> None:
    with pytest.raises(FedummError, match="Unknown option 'run_dir' in the job"):
        admitted({**job(), "run_dir": "/etc"}, SitePolicy())
    with pytest.raises(FedummError, match="--threads must be of type int"):
        admitted({**job(), "threads": "1; rm"}, SitePolicy())


# each key of the policy


def test_datasets_gives_a_name_its_folder(tmp_path: Path) -> None:
    policy = {"datasets": {"chest_xray": str(tmp_path), "mine": "registered_source", "gone": "/no/such/folder"}}
    assert admit(policy, dataset="chest_xray").dataset == str(tmp_path)
    assert admit(policy, dataset="mine").dataset == "registered_source"
    with pytest.raises(FedummError) as caught:
        admit(policy, dataset="gone")
    assert "/no/such" not in str(caught.value), "where a site keeps its data is nobody's business"
    with pytest.raises(FedummError):
        admit(policy, dataset=str(tmp_path))


def test_data_roots_allows_full_paths_below(tmp_path: Path) -> None:
    inside = tmp_path / "shared" / "set"
    inside.mkdir(parents=True)
    (tmp_path / "shared2").mkdir()
    (tmp_path / "shared" / "link").symlink_to(tmp_path / "shared2")
    (tmp_path / "shared" / "link:a").symlink_to(tmp_path / "shared2")
    policy = {"data_roots": [str(tmp_path / "shared")]}
    assert admit(policy, dataset=str(inside)).dataset == str(inside)
    assert admit(policy, dataset=f"{inside}:easy").dataset == f"{inside}:easy"
    for name in ("shared2", "shared/../shared2", "shared/link", "shared/link:easy", "shared/link:a", "shared2:easy"):
        with pytest.raises(FedummError):
            admit(policy, dataset=str(tmp_path / name))


def test_hub_datasets_and_hub_models_allow_by_name() -> None:
    policy = {"hub_datasets": ["owner/data", "vqav2"], "hub_models": ["owner/model", "Salesforce/blip-vqa-base"]}
    config = admit(policy, dataset="owner/data", model_name_or_path="owner/model")
    assert (config.dataset, config.model_name_or_path) == ("owner/data", "owner/model")
    assert admit(policy, dataset="owner/data:easy").dataset == "owner/data:easy"
    assert admit(policy, dataset="", model_name_or_path="").dataset == "vqav2"
    with pytest.raises(FedummError):
        admit(policy, dataset="owner/model")


def test_models_gives_a_name_its_folder(tmp_path: Path) -> None:
    policy = {"models": {"Salesforce/blip-vqa-base": str(tmp_path)}}
    for name in ("", "Salesforce/blip-vqa-base"):
        assert admit(policy, model_name_or_path=name).model_name_or_path == str(tmp_path)


@pytest.mark.parametrize("allowed", [False, True])
def test_allow_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: bool) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    (tmp_path / FILE).write_text(f"allow_download: {str(allowed).lower()}\n")
    site_config(BUNDLED, tmp_path)
    assert os.environ.get("HF_HUB_OFFLINE") == (None if allowed else "1")


def test_allow_remote_images_and_backends_and_partition_columns() -> None:
    policy = {"allow_remote_images": True, "backends": ["mine"], "partition_columns": ["scanner"]}
    config = admit(policy, allow_remote_images=True, model_backend="mine", partition_by="scanner")
    assert config.allow_remote_images
    for refused in ({"model_backend": "blip_vqa"}, {"partition_by": "answer"}):
        with pytest.raises(FedummError):
            admit(policy, **{"model_backend": "mine", "partition_by": "scanner", **refused})


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("num_workers", 2, 3),
        ("threads", 2, 3),
        ("batch_size", 2, 3),
        ("local_epochs", 2, 3),
        ("num_rounds", 2, 3),
        ("max_train_samples", 2, 3),
        ("max_train_samples", 2, -1),
        ("max_eval_samples", 2, -1),
        ("lora_r", "1,site-1=2", "1,site-1=3"),
        ("lora_alpha", 2, 3),
        ("feature_cache_gb", 1.5, 2.5),
    ],
)
def test_most_bounds_any_number(name: str, good: Any, bad: Any) -> None:
    policy = {"most": {name: 2}}
    assert getattr(admit(policy, **{name: good}), name) == good
    with pytest.raises(FedummError, match=f"does not allow --{name} .*at most 2"):
        admit(policy, **{name: bad})


def test_most_may_also_be_more_than_the_default() -> None:
    assert admit({"most": {"num_workers": 64}}, num_workers=64).num_workers == 64


@pytest.mark.parametrize(("site", "asked", "applied"), [(5, 1, 5), (1, 7, 7), (10, 5, 10)])
def test_the_least_counts_are_the_higher_of_both(site: int, asked: int, applied: int) -> None:
    assert admit({"min_label_count": site}, min_label_count=asked).min_label_count == applied
    assert admit({"min_train_rows": site}, min_train_rows=asked).min_train_rows == applied


@pytest.mark.parametrize(
    ("site", "asked", "applied"),
    [(True, "names", "ranks"), (True, "ranks", "ranks"), (True, "none", "none"), (False, "names", "none")],
)
def test_label_counts_are_never_texts(site: bool, asked: str, applied: str) -> None:
    assert admit({"label_counts": site}, label_counts=asked).label_counts == applied


def test_the_sites_own_values_replace_the_jobs(tmp_path: Path) -> None:
    own: dict[str, Any] = {"threads": 3, "num_workers": 0, "gpu": "1"}
    places = {
        "data_path": "/hf",
        "feature_cache_dir": "/cache",
        "image_roots": ["/mnt/pacs", "/mnt/coco"],
        "answers": "/data/answers.txt",
    }
    config = admit({**own, **places}, threads=1, num_workers=2, gpu="0")
    assert {name: getattr(config, name) for name in own} == own
    assert (config.data_path, config.feature_cache_dir) == ("/hf", "/cache")
    assert config.answers == "/data/answers.txt"
    assert config.image_roots == ("/mnt/pacs", "/mnt/coco")
    assert admit(threads=1, gpu="0").gpu == "0"


@pytest.mark.parametrize(
    ("site", "job_has", "allowed"),
    [("off", "off", True), ("central", "off", False), ("central", "central", True), ("central", "local", True),
     ("local", "central", False), ("local", "local", True)],
)  # fmt: skip
def test_dp_required_is_the_weakest_mode(site: str, job_has: str, allowed: bool) -> None:
    options = {} if job_has == "off" else {"dp": job_has, "dp_noise_multiplier": 1.0, "client_weights": "equal"}
    if allowed:
        assert admit({"dp_required": site}, **options).dp == job_has
    else:
        with pytest.raises(FedummError, match="with differential privacy only"):
            admit({"dp_required": site}, **options)


def test_a_site_may_ask_for_sums() -> None:
    assert admit({"secure_aggregation_required": True}, secure_aggregation=True).secure_aggregation
    assert admit().secure_aggregation is False
    with pytest.raises(FedummError, match="takes part only where the server gets sums"):
        admit({"secure_aggregation_required": True})


def local(noise: float, rounds: int = 3, **more: Any) -> dict[str, Any]:
    return {
        "dp": "local", "dp_noise_multiplier": noise, "num_rounds": rounds, "client_weights": "equal",
        "aggregator": "ffa_lora", **more,
    }  # fmt: skip


def test_min_noise_multiplier_and_max_delta() -> None:
    policy = {"min_noise_multiplier": 1.5}
    assert admit(policy, **local(1.5)).dp_noise_multiplier == 1.5
    with pytest.raises(FedummError, match="wants more noise"):
        admit(policy, **local(1.49))
    with pytest.raises(FedummError, match="with differential privacy only"):
        admit(policy)
    with pytest.raises(FedummError, match="dp_delta of 1e-05 or less"):
        admit(policy, **local(1.5, dp_delta=1e-4))
    assert admit({**policy, "max_delta": 1e-4}, **local(1.5, dp_delta=1e-4)).dp_delta == 1e-4


def gaussian_delta(noise: float, rounds: int, epsilon: float) -> float:
    """Delta of ``rounds`` Gaussian mechanisms of sensitivity 2 (Balle & Wang, 2018, theorem 8)."""

    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    mu = 2 * math.sqrt(rounds) / noise
    return phi(mu / 2 - epsilon / mu) - math.exp(epsilon) * phi(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize("rounds", [1, 4, 9])
def test_max_epsilon_is_that_after_all_rounds(rounds: int) -> None:
    """The least noise that is admitted is the least one that an independent formula allows."""
    enough = next(n / 10 for n in range(10, 400) if gaussian_delta(n / 10, rounds, 4.0) <= 1e-5)
    assert admit({"max_epsilon": 4}, **local(enough, rounds)).num_rounds == rounds
    with pytest.raises(FedummError, match="an epsilon of 4 or less after all rounds"):
        admit({"max_epsilon": 4}, **local(enough - 0.1, rounds))


# the file


def test_the_documented_example_is_a_policy_and_names_every_key(tmp_path: Path) -> None:
    document = (Path(__file__).parents[3] / "docs" / "sites.md").read_text()
    example = document.split("```yaml\n")[1].split("```")[0]
    (tmp_path / FILE).write_text(example)
    read_policy(tmp_path)
    known = {f.name for f in fields(SitePolicy)}
    assert set(yaml.safe_load(example)) == known
    assert all(f"`{name}`" in document for name in known)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("# nothing yet\n")
    assert read_policy(tmp_path) == SitePolicy()


@pytest.mark.parametrize(
    "text",
    [
        "alow_download: true", "datasets: /data", "datasets: {x: 3}", "datasets: {x: ./relative}",
        "hub_models: owner/model", "hub_datasets: [../x]",
        "image_roots: [relative]", "image_roots: ['/a:/b']", "allow_download: 'yes'", "allow_download: 1",
        "most: {batch: 3}",
        "most: {batch_size: -1}", "most: {batch_size: .nan}", "most: {model_backend: 3}", "most: [1]", "threads: -1",
        "threads: true", "min_label_count: 2.5", "dp_required: maybe", "dp_required: on", "max_epsilon: .inf",
        "data_path: relative", "gpu: 0", "backends: [3]", "- a", "3: 4", "datasets: {a: [", "\x00", "datasets: null",
    ],
)  # fmt: skip
def test_a_policy_that_is_not_understood_lets_no_job_in(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(FedummError, match="is invalid, so this site accepts no job"):
        site_config(job(), tmp_path)


@pytest.mark.parametrize("kind", ["folder", "dangling link", "not UTF-8"])
def test_a_policy_that_cannot_be_read_lets_no_job_in(tmp_path: Path, kind: str) -> None:
    path = tmp_path / FILE
    if kind == "folder":
        path.mkdir()
    elif kind == "dangling link":
        path.symlink_to(tmp_path / "gone.yaml")
    else:
        path.write_bytes(b"\xff\xfe")
    with pytest.raises(FedummError, match="accepts no job"):
        site_config(job(), tmp_path)


def test_off_is_off(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("dp_required: off\n")
    assert read_policy(tmp_path).dp_required == "off"


@given(st.text(max_size=60), st.sampled_from(["dataset", "model_name_or_path", "model_backend", "partition_by"]))
def test_no_name_of_a_job_gets_past_its_list(text: str, name: str) -> None:
    known = {"easy_vqa", "shapes", "tiny", "blip_vqa", "januspro", "answer", "answer_type"}
    allowed, said = "", ""
    try:
        allowed = getattr(admit(**{name: text}), name)
    except FedummError as error:
        said = str(error)
    assert allowed in known or said
    assert said.isprintable()
    assert len(said) < 700
