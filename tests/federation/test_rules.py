"""Options that contradict each other: one clear error each, that says what to do, before any work."""

from __future__ import annotations

from typing import Any

import pytest

from fedumm.cli.main import run
from fedumm.errors import FedummError
from fedumm.federation.option_rules import check_rules
from support.toy import toy_config

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"lora_r": "8,site-1=4"}, "--aggregator fedavg needs one --lora_r .* allow different ranks: flora, svd"),
    ({"lora_alpha": "8,site-1=4", "aggregator": "median"}, "--aggregator median needs one --lora_r and one --lora_alp"),
    ({"lora_r": "8,site-9=4", "aggregator": "svd"}, "names site-9, but the clients are site-1 to site-3"),
    ({"lora_r": "site-1=4", "aggregator": "svd"}, "no number for site-2"),
    ({"scaffold": True, "aggregator": "svd"}, "--scaffold works with averaged adapters, not with --aggregator svd"),
    ({"scaffold": True, "aggregator": "fedsa_lora"}, "not with --aggregator fedsa_lora"),
    (
        {"load_in_4bit": True, "aggregator": "fedex_lora"},
        "fedex_lora changes frozen weights, which --load_in_4bit rounds",
    ),
    ({"top_k": 0.1, "aggregator": "flora"}, "--top_k holds back .* Use --wire_up int8 or nf4"),
    ({"wire": "int4"}, "Unknown codec 'int4'. Available: bfloat16, .* Did you mean 'int8'"),
    ({"wire_up": "int16"}, "Unknown codec 'int16'"),
    ({"export_rank": 8}, "--export_rank means nothing to --aggregator fedavg"),
    ({"answer_mode": "rank", "in_process": False, "export_dir": "jobs"}, "--answer_mode rank.*--partition own"),
    ({"server_lr": 0.5}, "--server_lr means nothing to --aggregator fedavg, but to fed"),
    ({"krum_keep": 2, "aggregator": "median"}, "--krum_keep means nothing to --aggregator median, but to krum"),
    ({"server_beta2": 0.5, "aggregator": "fedadagrad"}, "--server_beta2 means nothing to --aggregator fedadagrad"),
    ({"krum_f": 1, "aggregator": "krum"}, "--krum_f 1 needs at least 5 clients"),
    ({"dp_epsilon": 1.0}, "--dp_epsilon needs --dp"),
    ({"dp": "central", "dp_noise_multiplier": 1.0, "client_weights": "samples"}, "leave it out, or say equal"),
    ({"dp": "local", "dp_noise_multiplier": 1.0, "aggregator": "fedsa_lora"}, "factors that clients keep .* without"),
    ({"dp": "central", "dp_noise_multiplier": 1.0, "client_weights": "equal", "min_clients": 2}, "--min_clients means"),
    (
        {
            "dp": "central",
            "dp_noise_multiplier": 1.0,
            "client_weights": "equal",
            "clients_per_round": 2,
            "export_dir": "jobs",
        },
        "--clients_per_round gains privacy only while nobody knows",
    ),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=lambda v: str(v) if isinstance(v, dict) else "")
def test_what_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FedummError, match=message):
        check_rules(toy_config(**options))


def test_of_a_number_out_of_bounds_the_option_is_named() -> None:
    for options, message in (
        (
            {"aggregator": "fedavgg"},
            "Unknown aggregator 'fedavgg'. Available: .*, trimmed_mean. Did you mean 'fedavg'",
        ),
        ({"min_clients": 4}, "--min_clients 4 is more than take part"),
        ({"trim_ratio": 0.5, "aggregator": "trimmed_mean"}, "--trim_ratio must be at least 0 and below 0.5"),
        ({"top_k": 0.0}, "--top_k must be above 0 and at most 1"),
    ):
        with pytest.raises(FedummError, match=message):
            toy_config(**options)


@pytest.mark.parametrize(
    "options", [{}, {"aggregator": "svd", "lora_r": "8,site-1=4"}, {"aggregator": "fedadam", "server_lr": 0.1},
                {"scaffold": True}, {"scaffold": True, "aggregator": "ffa_lora"}, {"top_k": 0.1, "wire": "int8"}]
)  # fmt: skip
def test_what_makes_sense_is_not(options: dict[str, Any]) -> None:
    assert check_rules(toy_config(**options)) is None


def test_the_command_says_so_before_it_makes_a_run_folder(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    options = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--in_process"]
    assert run("federate", [*options, "--aggregator", "median", "--lora_r", "8,site-1=4"], "job.py") == 2
    assert "--aggregator median needs one --lora_r" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
