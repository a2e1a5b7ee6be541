"""The command line: help without heavy imports, and for every mistake one clear message and status 2."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import fedumm
from fedumm.cli.main import COMMANDS, main, run
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import CentralConfig, FederateConfig
from fedumm.run_options import known_options
from fedumm.stopping import StoppedError

ROOT = Path(__file__).parents[2]
GROUPS = ["Model:", "Federated Learning:", "Training:", "Data:", "Execution:"]
HEAVY = ["torch", "transformers", "nvflare", "peft", "datasets", "matplotlib"]

# What the original program's help lists, with its defaults.
SHARED_FLAGS = {
    "model_backend": "(required)",
    "model_name_or_path": '(default: "")',
    "batch_size": "(default: 8)",
    "grad_accum": "(default: 8)",
    "lr": "(default: 5e-05)",
    "lora_r": "(default: 16)",
    "lora_alpha": "(default: 32)",
    "max_train_samples": "(default: -1)",
    "max_eval_samples": "(default: -1)",
    "data_path": '(default: "")',
    "seed": "(default: 42)",
}
FEDERATED_FLAGS = {
    "num_clients": "(default: 2)",
    "num_rounds": "(default: 3)",
    "local_epochs": "(default: 1)",
    "dirichlet_alpha": "(default: 0.0)",
    "simulator": "",
    "export_dir": '(default: "")',
}
CENTRAL_FLAGS = {"num_epochs": "(default: 1)", "output_dir": '(default: "./workspace_centralized")'}

# Runs a program as its user would, then tells what it has imported.
PROBE = """
import json, runpy, sys
kind, target, *sys.argv[1:] = sys.argv[1:]
status = 0
try:
    runpy.run_path(target, run_name="__main__") if kind == "file" else runpy.run_module(target, run_name="__main__")
except SystemExit as exit:
    status = exit.code or 0
print(json.dumps({"status": status, "modules": sorted({name.split(".")[0] for name in sys.modules})}))
"""
JOB, CENTRAL, MODULE = ("file", "job.py"), ("file", "src/local_train.py"), ("module", "fedumm.cli.main")


def probe(program: tuple[str, str], *argv: str) -> tuple[int, str, str, list[str]]:
    """Status, output, errors and the heavy libraries imported, of a program in a process of its own."""
    kind, target = program
    place = str(ROOT / target) if kind == "file" else target
    done = subprocess.run(
        [sys.executable, "-c", PROBE, kind, place, *argv],
        capture_output=True, text=True, timeout=60, check=True, env={**os.environ, "COLUMNS": "200"},
    )  # fmt: skip
    output, _, report = done.stdout.rstrip("\n").rpartition("\n")
    result = json.loads(report)
    return result["status"], output, done.stderr, [name for name in HEAVY if name in result["modules"]]


def headings(help_text: str) -> list[str]:
    return [line for line in help_text.splitlines() if line in GROUPS]


class TestHelp:
    @pytest.mark.parametrize(
        ("program", "argv", "groups", "flags"),
        [
            (JOB, [], GROUPS, SHARED_FLAGS | FEDERATED_FLAGS),
            (MODULE, ["federate"], GROUPS, SHARED_FLAGS | FEDERATED_FLAGS),
            (CENTRAL, [], [g for g in GROUPS if "Federated" not in g], SHARED_FLAGS | CENTRAL_FLAGS),
        ],
        ids=["job.py", "fedumm federate", "local_train.py"],
    )
    def test_of_a_training_command_has_the_original_flags_and_groups_in_order(
        self, program: tuple[str, str], argv: list[str], groups: list[str], flags: dict[str, str]
    ) -> None:
        status, output, errors, imported = probe(program, *argv, "--help")
        assert (status, errors, imported) == (0, "", [])
        assert headings(output) == groups
        for flag, shown in flags.items():
            entry = re.search(rf"^  --{flag}\b.*(?:\n {{6,}}.*)*", output, re.MULTILINE)
            assert entry, flag
            assert entry.group().endswith(shown)

    @pytest.mark.parametrize("argv", [["--help"], ["-h"], []], ids=str)
    def test_of_fedumm_lists_the_commands(self, argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert main(argv) == 0
        output = capsys.readouterr().out
        assert all(f"\n  {name} " in output for name in COMMANDS)

    @pytest.mark.parametrize("argv", [["--help"], ["partition", "--help"], ["ask", "--help"], ["--version"]], ids=str)
    def test_of_every_command_imports_nothing_heavy(self, argv: list[str]) -> None:
        status, output, errors, imported = probe(MODULE, *argv)
        assert (status, errors, imported) == (0, "", [])
        assert output.startswith(("usage: ", f"fedumm {fedumm.__version__}"))

    def test_names_every_option_of_the_configuration_once(self) -> None:
        for config in (FederateConfig, CentralConfig):
            parser = Parser(prog="x")
            add_options(parser, config)
            flags = re.findall(r"^  --(\w+)", parser.format_help(), re.MULTILINE)
            assert sorted(flags) == sorted([*known_options(config), "config"])

    def test_the_console_command_is_this_program(self) -> None:
        (script,) = entry_points(group="console_scripts", name="fedumm")
        assert script.value == "fedumm.cli.main:main"


@pytest.mark.parametrize(
    ("program", "argv", "message"),
    [
        (
            JOB,
            ["--model_backend", "nope", "--simulator"],
            "job.py: Unknown backend 'nope'. Available: blip_vqa, hf_vlm, januspro.",
        ),
        (CENTRAL, ["--model_backend", "blip_vqa", "--lr", "0"], "local_train.py: --lr must be positive, not 0.0."),
        (MODULE, ["fedreate"], "fedumm: unknown command 'fedreate'. Did you mean 'federate'?"),
    ],
    ids=["unknown backend", "no learning rate", "unknown command"],
)
def test_a_mistake_is_found_before_anything_heavy_is_imported(
    program: tuple[str, str], argv: list[str], message: str
) -> None:
    status, output, errors, imported = probe(program, *argv)
    assert (status, output, imported) == (2, "", [])
    assert message in errors.splitlines()[0]


@pytest.fixture
def mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], list[str]]:
    """Runs ``command arguments`` in an empty folder; the lines of its message, which must be the only output."""
    monkeypatch.chdir(tmp_path)

    def run_it(line: str) -> list[str]:
        command, *argv = shlex.split(line)
        prog = f"fedumm {command}"
        assert run(command, argv, prog) == 2
        output, errors = capsys.readouterr()
        assert output == ""
        assert "Traceback" not in errors
        assert errors.startswith(f"{prog}: ")
        return errors.removeprefix(f"{prog}: ").splitlines()

    return run_it


JANUS = "--model_backend januspro"
BLIP = "--model_backend blip_vqa"
MISTAKES = {
    # options
    f"federate {BLIP} --simulator --num_client 3": "Unknown option '--num_client'. Did you mean '--num_clients'?",
    f"federate {BLIP} --simulater": "Unknown option '--simulater'. Did you mean '--simulator'?",
    f"federate {BLIP} --simulator --lora-r=8": "Unknown option '--lora-r'. Did you mean '--lora_r'?",
    f"train {BLIP} --num_rounds 3": "Unknown option '--num_rounds'.",
    f"train {BLIP} stray": "Unknown option 'stray'.",
    "partition --dataset shapes --num_client 3": "Unknown option '--num_client'. Did you mean '--num_clients'?",
    "partition --num_clients 3": "the following arguments are required: --dataset",
    f"federate {BLIP} --simulator --num_clients two": "argument --num_clients: invalid int value: 'two'",
    f"federate {BLIP} --simulator --num_clients 2.5": "argument --num_clients: invalid int value: '2.5'",
    f"train {BLIP} --lr fast": "argument --lr: invalid float value: 'fast'",
    f"train {BLIP} --lr": "argument --lr: expected one argument",
    # bounds
    f"federate {BLIP} --simulator --num_clients 0": "--num_clients must be positive, not 0.",
    f"federate {BLIP} --simulator --num_clients -3": "--num_clients must be positive, not -3.",
    f"federate {BLIP} --simulator --num_rounds 0": "--num_rounds must be positive, not 0.",
    f"federate {BLIP} --simulator --dirichlet_alpha -0.5": "--dirichlet_alpha must be 0 or more, not -0.5.",
    f"federate {BLIP} --simulator --dirichlet_alpha nan": "--dirichlet_alpha must be 0 or more, not nan.",
    f"train {BLIP} --batch_size 0": "--batch_size must be positive, not 0.",
    f"train {BLIP} --num_epochs -1": "--num_epochs must be positive, not -1.",
    f"train {BLIP} --max_train_samples 0": "--max_train_samples must be -1 (all) or positive, not 0.",
    f"train {BLIP} --lr inf": "--lr must be positive, not inf.",
    "partition --dataset shapes --num_clients 0": "--num_clients must be positive, not 0.",
    "partition --dataset shapes --holdout 1": "--holdout must be above 0 and below 1, not 1.0.",
    # what is missing or contradictory
    f"federate {JANUS} --model_name_or_path deepseek-ai/Janus-Pro-1B --simulator": "deepseek-ai/Janus-Pro-1B is in the "
    "layout of the 'janus' package, which transformers can't read. The same weights in the native layout are "
    "deepseek-community/Janus-Pro-1B.",
    f"federate {JANUS} --task both --simulator": "--task must be one of vqa, i2t, t2i, unified, not 'both'.",
    f"federate {JANUS} --task_mix 5-4 --simulator": "--task_mix must be two positive numbers, such as 5:4, not '5-4'.",
    f"federate {JANUS} --partition task:0 --task unified --simulator": "--partition must be empty, own, task:SHARE",
    f"federate {JANUS} --partition dirichlt --simulator": "Unknown partitioner 'dirichlt'. Available: dirichlet, iid,",
    f"federate {JANUS} --partition iid --dirichlet_alpha 1 --simulator": "--partition iid has no use for",
    f"federate {BLIP} --answer_metric vqaa --simulator": "Unknown metric 'vqaa'. Available: exact, rouge_l, token_f1,",
    f"federate {JANUS} --partition task:0.5 --simulator": "--partition task:0.5 needs two tasks to deal out",
    f"train {BLIP} --task unified": "--task unified: the backend 'blip_vqa' can only answer (--task vqa).",
    f"federate {BLIP} --lora_targets all --simulator": "--lora_targets all: the backend 'blip_vqa' does not support",
    f"train {JANUS} --geneval_prompts -1": "--geneval_prompts must be 0 or more, not -1.",
    "federate --simulator": "--model_backend is required (blip_vqa, januspro, hf_vlm",
    f"federate {BLIP}": "Say how to run: --simulator, --in_process or --export_dir. For example:",
    f"federate {BLIP} --simulator --in_process": "--simulator and --in_process can't be combined: choose one.",
    f"federate {BLIP} --simulator --export_dir jobs": "--simulator and --export_dir can't be combined: choose one.",
    f"federate {BLIP} --in_process --export_dir jobs": "--in_process and --export_dir can't be combined: choose one.",
    f"federate {BLIP} --in_process --hosts 3": "--hosts 3 is more than --num_clients 2.",
    f"federate {BLIP} --in_process --clients_per_round 3": "--clients_per_round 3 is more than --num_clients 2.",
    "federate --model_backend blip --simulator": "Unknown backend 'blip'. Available: blip_vqa, hf_vlm, "
    "januspro. Did you mean",
    "train --model_backend janus": "Unknown backend 'janus'. Available: blip_vqa, hf_vlm, januspro.",
    f"train {BLIP} --plugin nowhere.py": "--plugin nowhere.py: no such file.",
    f"federate {BLIP} --in_process --plugin nowhere.py": "--plugin nowhere.py: no such file.",
    f"federate {BLIP} --simulator --plugin nowhere.py": "--plugin nowhere.py: no such file.",
    f"train {BLIP} --config nowhere.yaml": "Config file not found: nowhere.yaml",
    "partition --dataset shapes --figure nowhere/split.png": "--figure nowhere/split.png: no such folder.",
    "partition --dataset shapes --figure split.xyz": "--figure split.xyz: the name must end in .png, .pdf, .svg.",
    "ask nowhere.png 'what shape?'": "Image not found: nowhere.png",
    "ask nowhere.png": "Image not found: nowhere.png",
}


@pytest.mark.parametrize(("line", "message"), MISTAKES.items(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_message_and_leaves_nothing_behind(
    line: str, message: str, mistake: Callable[[str], list[str]], tmp_path: Path
) -> None:
    first, *rest = mistake(line)
    assert first.startswith(message)
    assert all(text.startswith(("See 'fedumm ", "  fedumm federate --model_backend")) for text in rest)
    assert list(tmp_path.iterdir()) == []


def test_without_a_runner_there_is_an_example_of_each_that_can_be_copied(
    mistake: Callable[[str], list[str]], tmp_path: Path
) -> None:
    _, *examples = mistake(f"federate {BLIP}")
    parsed = []
    for example in examples:
        parser = Parser(prog="x")
        add_options(parser, FederateConfig)
        parsed.append(config_from(parser.parse_args(shlex.split(example)[2:]), FederateConfig))
    assert [(c.simulator, c.in_process, bool(c.export_dir)) for c in parsed] == [
        (True, False, False),
        (False, True, False),
        (False, False, True),
    ]


@pytest.mark.parametrize("folder", ["./nowhere", "/nowhere/at/all", "nowhere", "a/b/c"])
def test_a_model_folder_that_is_not_there_is_named(
    folder: str, mistake: Callable[[str], list[str]], tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "shape.png")
    lines = mistake(f"ask shape.png 'what?' {BLIP} --model_name_or_path {folder} --gpu cpu")
    assert lines == [f"--model_name_or_path {folder}: no such folder, and not a Hub id (owner/name) or 'tiny'."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("text.png what", "text.png can't be read as an image: "),
        ("shape.png what", "Say which model to use: --adapter FOLDER of a run, or --model_backend."),
        ("shape.png what --adapter nowhere", "Adapter folder not found: nowhere"),
        ("shape.png what --adapter empty", "empty does not hold an adapter (adapter_model.safetensors, "),
        ("shape.png what --model_backend blip", "Unknown backend 'blip'. Available: blip_vqa, hf_vlm, januspro."),
        ("shape.png what --model_backend x --plugin bad.py", "--plugin bad.py registered nothing"),
        (f"shape.png what {BLIP} --gpu 99", "--gpu 99: this machine has "),
    ],
)
def test_a_question_that_cannot_be_asked_says_why(
    arguments: str, message: str, mistake: Callable[[str], list[str]], tmp_path: Path
) -> None:
    from PIL import Image

    Image.new("RGB", (4, 4)).save(tmp_path / "shape.png")
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "bad.py").write_text("")
    (tmp_path / "empty").mkdir()
    (line,) = mistake(f"ask {arguments}")
    assert line.startswith(message)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fedreate", "--simulator"], "fedumm: unknown command 'fedreate'. Did you mean 'federate'?"),
        (["trains"], "fedumm: unknown command 'trains'. Did you mean 'train'?"),
        (["--simulator"], "fedumm: unknown command '--simulator'."),
        (["xyz"], "fedumm: unknown command 'xyz'."),
    ],
    ids=str,
)
def test_an_unknown_command_lists_those_there_are(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(argv) == 2
    output, errors = capsys.readouterr()
    assert output == ""
    assert errors.splitlines()[0] == message
    assert all(f"\n  {name} " in errors for name in COMMANDS)


class TestConfigFile:
    """Defaults, then ``--config``, then flags."""

    def parse(self, argv: list[str], config: type[Any] = FederateConfig) -> Any:
        parser = Parser(prog="x")
        add_options(parser, config)
        return config_from(parser.parse_args(argv), config)

    def test_wins_over_defaults_and_loses_to_flags(self, tmp_path: Path) -> None:
        file = tmp_path / "options.yaml"
        file.write_text("model_backend: from_file\nlr: 1e-3\nnum_clients: 7\nsimulator: true\n")
        config = self.parse(["--config", str(file), "--num_clients", "9", "--seed", "1"])
        assert (config.model_backend, config.lr, config.num_clients, config.seed) == ("from_file", 1e-3, 9, 1)
        assert (config.simulator, config.num_rounds) == (True, 3)

    def test_loses_to_a_flag_even_if_the_flag_repeats_the_default(self, tmp_path: Path) -> None:
        file = tmp_path / "options.yaml"
        file.write_text("num_clients: 7\ndata_path: /data\n")
        config = self.parse([*BLIP.split(), "--config", str(file), "--num_clients", "2", "--data_path", ""])
        assert (config.num_clients, config.data_path) == (2, "")

    def test_without_one_there_are_defaults(self) -> None:
        assert self.parse(BLIP.split()) == FederateConfig(model_backend="blip_vqa")
        assert self.parse(BLIP.split(), CentralConfig) == CentralConfig(model_backend="blip_vqa")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("num_cleints: 3\n", "Unknown option 'num_cleints' in options.yaml. Did you mean 'num_clients'?"),
            ("num_clients: two\n", "--num_clients must be of type int"),
            ("num_clients: 0\n", "--num_clients must be positive, not 0."),
            ("- 1\n", "Config file options.yaml must hold lines of the form 'name: value'."),
            ("a: [1\n", "Config file options.yaml can't be read as YAML: "),
        ],
    )
    def test_with_a_mistake_is_named(
        self, content: str, message: str, mistake: Callable[[str], list[str]], tmp_path: Path
    ) -> None:
        (tmp_path / "options.yaml").write_text(content)
        assert mistake(f"federate {BLIP} --simulator --config options.yaml")[0].startswith(message)


class TestRunners:
    """What reaches the federation: the checked options, and a command that can be copied."""

    @pytest.fixture
    def started(self, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []
        from fedumm.federation.runners import launch

        monkeypatch.setattr(launch, "run", lambda config, command: calls.append(("run", config, command)) or 0)
        monkeypatch.setattr(launch, "export", lambda config: calls.append(("export", config)) or 0)
        return calls

    @pytest.mark.parametrize("flag", ["simulator", "in_process"])
    def test_a_run_gets_options_and_command(self, flag: str, started: list[tuple[Any, ...]]) -> None:
        argv = [*BLIP.split(), f"--{flag}", "--name", "my run"]
        assert run("federate", argv, "python job.py") == 0
        (kind, config, command) = started[0]
        assert kind == "run"
        assert config == FederateConfig(model_backend="blip_vqa", name="my run", **{flag: True})
        assert shlex.split(command) == ["python", "job.py", *argv]

    def test_an_export_gets_options(self, started: list[tuple[Any, ...]]) -> None:
        assert run("federate", [*BLIP.split(), "--export_dir", "jobs"], "python job.py") == 0
        assert started == [("export", FederateConfig(model_backend="blip_vqa", export_dir="jobs"))]

    def test_a_backend_of_ones_own_is_known_by_its_plugin(self, started: list[tuple[Any, ...]], tmp_path: Path) -> None:
        (tmp_path / "mine.py").write_text(
            "from types import SimpleNamespace\n"
            "from fedumm.backends import register_backend\n"
            "from fedumm.backends.protocol import REQUIRED_METHODS\n"
            "register_backend('mine', SimpleNamespace(**{name: print for name in REQUIRED_METHODS}))\n"
        )
        argv = ["--model_backend", "mine", "--plugin", str(tmp_path / "mine.py"), "--simulator"]
        assert run("federate", argv, "x") == 0
        assert started[0][1].model_backend == "mine"

    @pytest.mark.parametrize(
        ("stop", "status"),
        [(KeyboardInterrupt(), 130), (StoppedError(signal.SIGTERM), 143), (StoppedError(signal.SIGINT), 130)],
    )
    def test_stopping_by_hand_is_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stop: BaseException, status: int
    ) -> None:
        def interrupted(*_: object) -> int:
            raise stop

        monkeypatch.setattr("fedumm.cli.train.train", interrupted)
        assert run("train", BLIP.split(), "fedumm train") == status
        told = "fedumm train: stopped. No adapter is saved before the end: the same command starts from the beginning."
        assert capsys.readouterr() == ("", f"\n{told}\n")
        monkeypatch.setattr("fedumm.cli.ask.main", interrupted)
        assert run("ask", [], "fedumm ask") == status
        assert capsys.readouterr() == ("", "\nfedumm ask: stopped.\n")


def test_local_paths_are_kept_by_their_full_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's processes, and whoever repeats it, work in other folders."""
    (tmp_path / "model").mkdir()
    (tmp_path / "my" / "data").mkdir(parents=True)
    (tmp_path / "easy_vqa").mkdir()
    monkeypatch.chdir(tmp_path)
    parser = Parser(prog="x")
    add_options(parser, FederateConfig)
    flags = ["--model_backend", "b", "--model_name_or_path", "model", "--dataset", "my/data", "--data_path", "cache"]
    config = config_from(parser.parse_args(flags), FederateConfig)
    assert (config.model_name_or_path, config.dataset, config.data_path) == (
        str(tmp_path / "model"), str(tmp_path / "my" / "data"), str(tmp_path / "cache"),
    )  # fmt: skip
    names = ["--model_backend", "b", "--model_name_or_path", "tiny", "--dataset", "easy_vqa", "--gpu", "0"]
    config = config_from(parser.parse_args(names), FederateConfig)
    assert (config.model_name_or_path, config.dataset, config.data_path) == ("tiny", "easy_vqa", "")


def test_the_simulator_refuses_a_path_with_a_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    from fedumm.errors import FedummError
    from fedumm.federation.runners.launch import run as launch

    with pytest.raises(FedummError, match="can't use a path with a space"):
        launch(FederateConfig(model_backend="blip_vqa", simulator=True, name="my run"), "command")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("foreign", ["config.yaml", "adapter/best/adapter_model.safetensors"])
def test_the_baseline_does_not_write_over_other_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], foreign: str
) -> None:
    (tmp_path / foreign).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / foreign).write_text("mine")
    options = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny", "--output_dir", str(tmp_path)]
    assert run("train", options, "fedumm train") == 2
    assert "Choose another folder" in capsys.readouterr().err
    assert (tmp_path / foreign).read_text() == "mine"
