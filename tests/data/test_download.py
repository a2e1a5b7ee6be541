"""``fedumm download`` of the documentation, then the run without a connection, on a Hub of this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fedumm
from support import hub_child
from support.hub_repositories import EVAL, EVAL_LAYOUT, MODEL, ROWS, TRAIN, TRAIN_LAYOUT, card, child_env, shards
from support.hub_server import HubServer, closed_port

ROOT = Path(__file__).parents[2]
HPC = (ROOT / "docs" / "hpc.md").read_text(encoding="utf-8")
SMALL = ("--num_clients", "2", "--num_rounds", "1", "--threads", "1", "--gpu", "cpu", "--name", "run")


def documented(start: str) -> list[str]:
    """The one command of the chapter that starts like this, without ``$USER``'s folder."""
    lines = "".join(re.findall(r"```bash\n(.*?)```", HPC, re.DOTALL)).replace("\\\n", " ").splitlines()
    (line,) = [line for line in lines if line.startswith(start)]
    return [word.replace("/scratch/$USER", "scratch") for word in shlex.split(line, comments=True)]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """BLIP and VQA v2 by their names, small; the model with weights that nobody here needs beside its own."""
    root = tmp_path_factory.mktemp("repositories")
    model = root / "model"
    shutil.copytree(Path(fedumm.__file__).parent / "checkpoints" / "tiny_blip_vqa", model)
    for name in ("pytorch_model.bin", "tf_model.h5"):
        (model / name).write_bytes(bytes(1000))
    shards(root / "train", "train", TRAIN_LAYOUT)
    for split in ("validation", "test"):
        shards(root / "eval", split, EVAL_LAYOUT)
    card(root / "eval", "validation", "test")
    repositories = {
        ("model", MODEL): model, ("model", "someone/gated"): model,
        ("dataset", TRAIN): root / "train", ("dataset", EVAL): root / "eval",
    }  # fmt: skip
    with HubServer(repositories) as server:
        server.gated.add("someone/gated")
        yield server


@dataclass(frozen=True)
class Node:
    """A folder to work in, with the caches that the commands name, and the variables of its programs."""

    folder: Path

    def run(self, command: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        programs = {"fedumm": ["-m", "fedumm.cli.main"], "python": []}
        own = {"HF_HOME": str(self.folder / "scratch" / "hf_cache"), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        return subprocess.run(
            [sys.executable, *programs[command[0]], *command[1:]],
            cwd=self.folder, env=child_env({**own, **env}), capture_output=True, text=True, timeout=200,
        )  # fmt: skip


@pytest.fixture(scope="module")
def login_node(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Node, str]:
    """After the documented download, and what that printed."""
    node = Node(tmp_path_factory.mktemp("cluster"))
    done = node.run(documented("fedumm download"), HF_ENDPOINT=hub.endpoint)
    assert done.returncode == 0, done.stderr
    return node, done.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_documented_run_needs_no_connection_afterwards(login_node: tuple[Node, str]) -> None:
    node, _ = login_node
    command = documented("HF_HUB_OFFLINE=1 python job.py")[1:]
    command = [str(ROOT / part) if part == "job.py" else part for part in command if part != "--simulator"]
    done = node.run([*command, *SMALL, "--in_process"], HF_ENDPOINT=closed_port(), HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert (node.folder / "runs" / "run" / "adapter" / "best").is_dir()


@pytest.mark.slow
def test_it_says_what_it_fetched_and_how_to_go_on(login_node: tuple[Node, str]) -> None:
    node, said = login_node
    cache = node.folder / "scratch" / "hf_cache"
    assert f"Model: {MODEL}, in {cache}\n" in said
    assert f"Data: {ROWS} training and {ROWS} evaluation samples\n" in said
    assert f"To run without a connection, use HF_HOME={cache} HF_HUB_OFFLINE=1 and --data_path {cache}\n" in said


def test_no_weights_are_fetched_twice(hub: HubServer, login_node: tuple[Node, str]) -> None:
    """As the Hub has them: also for other frameworks, and in an older format."""
    fetched = [r.path.rpartition("/")[2] for r in hub.requests if MODEL in r.path and "/resolve/" in r.path]
    assert "model.safetensors" in fetched
    assert not [name for name in fetched if name.endswith((".bin", ".h5"))]


MISTAKES = {
    ("--model_name_or_path", "nobody/nothing"): "no model 'nobody/nothing'",
    ("--model_name_or_path", "someone/gated"): "terms",
    ("--model_name_or_path", "tiny", "--dataset", "nobody/nothing"): "no dataset 'nobody/nothing'",
    ("--model_name_or_path", "tiny", "--dataset", "HuggingFaceM4/VQAv2"): "--dataset vqav2",
}


def commands_in_one_process(folder: Path, commands: list[list[str]], **env: str) -> list[dict[str, Any]]:
    """What became of each ``fedumm`` command: status, output and errors."""
    (folder / "steps.json").write_text(json.dumps([("command", command, {}) for command in commands]))
    subprocess.run(
        [sys.executable, hub_child.__file__, str(folder)], env=child_env({"HF_HOME": str(folder), **env}), check=True
    )
    results: list[dict[str, Any]] = json.loads((folder / "results.json").read_text())
    return results


@pytest.mark.slow
def test_what_can_not_be_fetched_is_one_line(hub: HubServer, tmp_path: Path) -> None:
    commands = [["download", "--model_backend", "blip_vqa", *options] for options in MISTAKES]
    for result, message in zip(
        commands_in_one_process(tmp_path, commands, HF_ENDPOINT=hub.endpoint), MISTAKES.values(), strict=True
    ):
        assert result["status"] == 2
        # Before it there may be a bar that shows the progress.
        *_, line = result["err"].splitlines()
        assert line.startswith("fedumm download: ")
        assert message in line


@pytest.mark.slow
def test_offline_it_says_whether_all_is_there(login_node: tuple[Node, str], tmp_path: Path) -> None:
    command = documented("fedumm download")[1:]
    (missing,) = commands_in_one_process(tmp_path, [command], HF_HUB_OFFLINE="1")
    assert missing["status"] == 2
    assert f"The model {MODEL!r} is not in the cache" in missing["err"]
    node, said = login_node
    again = node.run(["fedumm", *command], HF_ENDPOINT=closed_port(), HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stdout) == (0, said)
