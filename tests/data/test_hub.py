"""Models and data from the Hugging Face Hub: what is asked of it, what is kept, and what happens without it.

The Hub is a small server on this machine (``hub_server``). Each child process below runs several
steps, because the import of the libraries costs more than all of them; the fixtures hold what came out.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from datasets import Dataset, Image

import fedumm
from support import hub_child
from support.hub_repositories import (
    EVAL,
    EVAL_LAYOUT,
    MODEL,
    ROWS,
    SHARDS,
    TRAIN,
    TRAIN_LAYOUT,
    card,
    child_env,
    folder_of_images,
    shards,
)  # fmt: skip
from support.hub_server import HubServer, Reply, black_hole, closed_port

CANONICAL = [
    "answer_type",
    "answers",
    "image",
    "image_id",
    "multiple_choice_answer",
    "question",
    "question_id",
    "question_type",
    "source_row",
    "task",
]


@pytest.fixture(scope="module")
def repositories(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("repositories")
    tiny = Path(fedumm.__file__).parent / "checkpoints" / "tiny_blip_vqa"
    shards(root / "train", "train", TRAIN_LAYOUT, ballast=300_000)
    for split in ("validation", "testdev", "test"):
        shards(root / "eval", split, EVAL_LAYOUT, ballast=300_000)
    card(root / "eval", "validation", "testdev", "test")
    for split in ("train", "validation"):
        shards(root / "theirs", split, EVAL_LAYOUT, 1)
    folder_of_images(root / "images", ("train", "test"))
    shards(root / "only-train", "train", EVAL_LAYOUT, 1)
    (root / "script").mkdir()
    (root / "script" / "script.py").write_text("import datasets\n")
    return {
        ("model", MODEL): tiny,
        ("model", "someone/gated"): tiny,
        ("model", "someone/no-model"): root / "script",
        ("dataset", TRAIN): root / "train",
        ("dataset", EVAL): root / "eval",
        ("dataset", "someone/their-vqa"): root / "theirs",
        ("dataset", "someone/images"): root / "images",
        ("dataset", "someone/only-train"): root / "only-train",
        ("dataset", "someone/script"): root / "script",
        ("dataset", "someone/gated"): root / "theirs",
    }


@pytest.fixture(scope="module")
def hub(repositories: dict[tuple[str, str], Path]) -> Iterator[HubServer]:
    with HubServer(repositories) as server:
        server.gated.add("someone/gated")
        server.troubled["broken/"] = Reply(500, b"{}", {})
        server.troubled["denied/"] = Reply(
            401, b"{}", {"X-Error-Message": "Invalid credentials in Authorization header"}
        )
        yield server


@dataclass
class Child:
    """Steps for one child process, by name; :meth:`start` starts it, :meth:`results` waits for what became of them."""

    env: dict[str, str]
    folder: Path
    steps: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = field(default_factory=dict)

    def add(self, step: str, kind: str, *args: str, **options: Any) -> None:
        self.steps[step] = (kind, args, options)

    def start(self) -> None:
        (self.folder / "steps.json").write_text(json.dumps(list(self.steps.values())))
        self.process = subprocess.Popen([sys.executable, hub_child.__file__, str(self.folder)], env=child_env(self.env))

    def results(self) -> dict[str, dict[str, Any]]:
        assert self.process.wait(timeout=200) == 0
        return dict(zip(self.steps, json.loads((self.folder / "results.json").read_text()), strict=True))


def train(output: Path, cache: Path, *options: str) -> list[str]:
    """``fedumm``'s arguments for a short training with the default model."""
    fixed = ["--model_backend", "blip_vqa", "--dataset", "vqav2", "--gpu", "cpu", "--threads", "1"]
    return ["train", *fixed, "--output_dir", str(output), "--overwrite", "--data_path", str(cache), *options]


LIMITS = ("--max_train_samples", "4", "--max_eval_samples", "3")
LIMIT = {"max_train_samples": 4, "max_eval_samples": 3}


@pytest.fixture(scope="module")
def silence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Child, list[socket.socket]]]:
    """Nothing in the cache, and a Hub that takes calls and says nothing. It mostly waits, so it is started first."""
    folder = tmp_path_factory.mktemp("silence")
    with black_hole() as (endpoint, accepted):
        child = Child({"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "home")}, folder)
        child.add("command", "command", *train(folder / "out", folder / "cache", *LIMITS))
        child.add("data", "load", "vqav2", cache_dir=str(folder / "cache"))
        child.add("model", "model", "")
        child.start()
        yield child, accepted
        child.process.wait(timeout=200)


@dataclass(frozen=True)
class Online:
    """A first run with the Hub in reach: its caches, what it printed and how many bytes of each file it took."""

    home: Path
    cache: Path
    output: Path
    process: subprocess.CompletedProcess[str]
    sent: dict[str, int]


@pytest.fixture(scope="module")
def online(hub: HubServer, silence: object, tmp_path_factory: pytest.TempPathFactory) -> Online:
    folder = tmp_path_factory.mktemp("online")
    arguments = train(folder / "out", folder / "cache", *LIMITS)
    process = subprocess.run(
        [sys.executable, "-m", "fedumm.cli.main", *arguments],
        env=child_env(hub.env(folder / "home")),
        text=True,
        capture_output=True,
        timeout=200,
    )
    sent: dict[str, int] = {}
    for request in hub.requests:
        sent[request.path] = sent.get(request.path, 0) + request.sent
    return Online(folder / "home", folder / "cache", folder / "out", process, sent)


def test_default_model_and_vqav2_train_end_to_end(online: Online) -> None:
    assert online.process.returncode == 0, online.process.stderr
    assert "Train: 4, Eval: 3" in online.process.stdout
    assert (online.output / "adapter" / "adapter_model.safetensors").is_file()


def test_nothing_but_the_result_is_printed(online: Online) -> None:
    assert online.process.stderr == ""


@pytest.mark.parametrize(("repo", "split"), [(TRAIN, "train"), (EVAL, "validation")])
def test_a_limit_reads_a_part_of_the_first_file(
    online: Online, repositories: dict[tuple[str, str], Path], repo: str, split: str
) -> None:
    taken = {path: sent for path, sent in online.sent.items() if repo in path and path.endswith(".parquet")}
    there = sum(file.stat().st_size for file in repositories["dataset", repo].rglob(f"{split}-*.parquet"))
    assert len(taken) == 1
    assert f"{split}-00000-of" in next(iter(taken))
    assert sum(taken.values()) < there / 3


Results = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def first_rows(online: Online) -> Path:
    """A copy of the cache as the run with a limit left it."""
    return Path(shutil.copytree(online.cache, online.cache.with_name("first-rows")))


@pytest.fixture(scope="module")
def connected(hub: HubServer, online: Online, first_rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Steps with the Hub in reach, in the caches of ``online``."""
    folder = tmp_path_factory.mktemp("connected")
    child, cache = Child(hub.env(online.home), folder), str(online.cache)
    child.add("whole", "load", "vqav2", cache_dir=cache)
    child.add("then fewer", "load", "vqav2", cache_dir=cache, max_train_samples=6, max_eval_samples=2)
    child.add("validation", "load", "someone/their-vqa", cache_dir=cache, max_train_samples=5)
    child.add("test", "load", "someone/images", cache_dir=cache, max_train_samples=2)
    child.add("no evaluation", "load", "someone/only-train", cache_dir=cache, max_train_samples=2)
    child.add("script", "load", "someone/script", cache_dir=cache)
    child.add("gone", "load", "HuggingFaceM4/VQAv2", cache_dir=cache)
    for name in ("nobody/nothing", "someone/gated", "denied/it", "broken/it"):
        child.add(f"dataset {name}", "load", name, cache_dir=cache)
        child.add(f"dataset {name}, limit", "load", name, cache_dir=cache, **LIMIT)
        child.add(f"model {name}", "model", name)
    child.add("not a model", "model", "someone/no-model")
    child.add("prefetch", "prefetch", "someone/their-vqa", cache_dir=str(first_rows))
    child.start()
    return child.results()


def without_hub(online: Online, first_rows: Path, folder: Path, **env: str) -> Results:
    child = Child({"HF_ENDPOINT": closed_port(), "HF_HOME": str(online.home), **env}, folder)
    child.add("command", "command", *train(folder / "out", first_rows, *LIMITS))
    child.add("first rows", "load", "vqav2", cache_dir=str(first_rows), **LIMIT)
    child.add("more rows", "load", "vqav2", cache_dir=str(first_rows), max_train_samples=5)
    child.add("whole", "load", "vqav2", cache_dir=str(online.cache))
    child.add("some of the whole", "load", "vqav2", cache_dir=str(online.cache), max_train_samples=7)
    child.add("by datasets", "load", "someone/their-vqa", cache_dir=str(first_rows), max_train_samples=5)
    child.add("command without data", "command", *train(folder / "out", folder / "none", *LIMITS))
    child.add("command without model", "command", *train(folder / "out", first_rows, *LIMITS), *OTHER_MODEL)
    child.start()
    return child.results()


OTHER_MODEL = ("--model_name_or_path", "someone/never-seen")


@pytest.fixture(
    scope="module", params=[pytest.param(how, marks=pytest.mark.slow) for how in ("stopped", "HF_HUB_OFFLINE")]
)
def cut_off(
    request: pytest.FixtureRequest,
    connected: Results,
    online: Online,
    first_rows: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Results:
    """Steps without a Hub, in the caches that earlier ones left."""
    env = {} if request.param == "stopped" else {"HF_HUB_OFFLINE": "1"}
    return without_hub(online, first_rows, tmp_path_factory.mktemp("cut-off"), **env)


@pytest.mark.parametrize(
    ("step", "train_rows", "eval_rows"),
    [("whole", ROWS, ROWS), ("then fewer", 6, 2), ("validation", 5, ROWS), ("test", 2, 4)],
)
def test_both_splits_have_the_rows_asked_for(connected: Results, step: str, train_rows: int, eval_rows: int) -> None:
    assert "error" not in connected[step]
    assert (connected[step]["train"]["rows"], connected[step]["eval"]["rows"]) == (train_rows, eval_rows)
    assert connected[step]["train"]["sizes"] == connected[step]["eval"]["sizes"] == [[32, 24], [32, 24]]


def test_first_rows_hold_image_files_as_they_are_on_the_hub(
    connected: Results, online: Online, repositories: dict[tuple[str, str], Path]
) -> None:
    (kept,) = (online.cache / "fedumm").glob("someone--images-train-2-*/*.arrow")
    rows = Dataset.from_file(str(kept)).cast_column("image", Image(decode=False))
    for number in range(2):
        stored = repositories["dataset", "someone/images"] / "train" / f"{number}.jpg"
        assert rows[number]["image"]["bytes"] == stored.read_bytes()


def test_both_layouts_of_vqav2_become_one(connected: Results) -> None:
    for split, numbers in (("train", 542), ("eval", 1067)):
        part = connected["whole"][split]
        assert part["columns"] == CANONICAL
        assert part["first"] == {
            "question": "is there a red circle number 0?",
            "question_type": "is there",
            "multiple_choice_answer": "yes",
            "answers": ["yes"] * 7 + ["no"] * 3,
            "answer_type": "yes/no",
            "image_id": str(numbers),
            "question_id": 1000 * numbers,
            "source_row": 0,
            "task": "vqa",
        }


def test_no_file_of_an_unused_split_is_asked_for(hub: HubServer, connected: Results) -> None:
    asked = {Path(r.path).name.split("-")[0] for r in hub.requests if EVAL in r.path and r.path.endswith(".parquet")}
    assert asked == {"validation"}


def test_what_is_kept_is_not_downloaded_again(hub: HubServer, connected: Results) -> None:
    """The steps 'whole' and 'then fewer' took every file once; 'online' had read a part of the first."""
    whole = [r.path for r in hub.requests if TRAIN in r.path and r.method == "GET" and r.status == 200]
    files = [path for path in whole if path.endswith(".parquet")]
    assert len(files) == len(set(files)) == SHARDS


LOG_IN = "hf auth login"


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("no evaluation", ["someone/only-train", "has a single image"]),
        ("script", ["'someone/script' is a script", "Parquet"]),
        ("gone", ["--dataset vqav2"]),
        ("dataset nobody/nothing", ["no dataset 'nobody/nothing'", LOG_IN]),
        ("dataset nobody/nothing, limit", ["no dataset 'nobody/nothing'", LOG_IN]),
        ("model nobody/nothing", ["no model 'nobody/nothing'", LOG_IN]),
        ("dataset someone/gated", ["terms", LOG_IN]),
        ("dataset someone/gated, limit", ["terms", LOG_IN]),
        ("model someone/gated", ["terms", LOG_IN]),
        ("dataset denied/it", ["not let you read", "401", LOG_IN]),
        ("model denied/it", ["not let you read", "401", LOG_IN]),
        ("dataset broken/it", ["'broken/it'", "out of reach", "--dataset easy_vqa"]),
        ("dataset broken/it, limit", ["'broken/it'", "out of reach", "--dataset easy_vqa"]),
        ("model broken/it", ["'broken/it'", "out of reach", "--model_name_or_path tiny"]),
        ("not a model", ["'someone/no-model' can't be loaded"]),
    ],
)
def test_each_trouble_has_one_line_that_says_what_to_do(connected: Results, step: str, expected: list[str]) -> None:
    result = connected[step]
    assert all(part in result["error"] for part in expected), result["error"]
    assert "\n" not in result["error"]
    assert result["err"] == ""
    assert result["seconds"] < 15


@pytest.mark.parametrize("name", ["nobody/nothing", "denied/it", "broken/it"])
def test_a_refusal_is_not_asked_for_twice(hub: HubServer, connected: Results, name: str) -> None:
    """Three steps each, so three questions."""
    assert len([r for r in hub.requests if f"/{name}" in r.path]) == 3


def test_command_runs_from_the_cache(cut_off: Results) -> None:
    assert cut_off["command"]["status"] == 0, cut_off["command"]["err"]
    assert "Train: 4, Eval: 3" in cut_off["command"]["out"]
    assert cut_off["command"]["err"] == ""


@pytest.mark.parametrize(
    ("step", "train_rows", "eval_rows"),
    [("first rows", 4, 3), ("whole", ROWS, ROWS), ("some of the whole", 7, ROWS), ("by datasets", 5, ROWS)],
)
def test_rows_come_from_the_cache(cut_off: Results, step: str, train_rows: int, eval_rows: int) -> None:
    assert "error" not in cut_off[step]
    assert (cut_off[step]["train"]["rows"], cut_off[step]["eval"]["rows"]) == (train_rows, eval_rows)
    assert cut_off[step]["train"]["sizes"] == [[32, 24], [32, 24]]


def test_fewer_rows_in_the_cache_are_not_taken_for_more(cut_off: Results) -> None:
    assert f"{TRAIN!r} is not in the cache" in cut_off["more rows"]["error"]


def check_one_line(result: dict[str, Any], *expected: str) -> None:
    """One line on standard error, status 2, and no long wait."""
    assert result["status"] == 2
    assert result["err"].count("\n") == 1
    assert result["err"].startswith("fedumm train: ")
    assert all(part in result["err"] for part in expected), result["err"]
    assert result["seconds"] < 15


def test_what_is_not_cached_is_one_line(cut_off: Results) -> None:
    check_one_line(cut_off["command without data"], TRAIN, "not in the cache", "--dataset easy_vqa")
    check_one_line(cut_off["command without model"], "someone/never-seen", "--model_name_or_path tiny")


def test_the_line_says_why_nothing_is_downloaded(cut_off: Results, request: pytest.FixtureRequest) -> None:
    reason = "is out of reach" if "stopped" in request.node.name else "HF_HUB_OFFLINE"
    assert reason in cut_off["command without data"]["err"]


def test_a_hub_that_never_answers_is_waited_for_once(silence: tuple[Child, list[socket.socket]]) -> None:
    child, accepted = silence
    results = child.results()
    check_one_line(results["command"], TRAIN, "out of reach", "--dataset easy_vqa")
    assert "--model_name_or_path tiny" in results["model"]["error"]
    assert all(result["seconds"] < 15 for result in results.values())
    assert len(accepted) <= 2 * len(results)
