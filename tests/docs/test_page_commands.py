"""Every command of the pages' shell blocks runs, in the order of its page, on small models and few samples.

What does not run is listed here with the reason, and listed only while a page shows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fedumm.cli.main import run as run_command
from fedumm.federation.protocol.messages import HostError
from fedumm.federation.runners.flare.kits import free_port
from fedumm.federation.runners.flare.outgoing_log import FILE, OutgoingLog
from fedumm.federation.runners.flare.process_guard import end_tree
from support.federation import processes_in
from support.layouts import coco_pictures, questions_and_annotations, write
from support.page_commands import Checkout, installed, shown
from support.pages import PAGES, ROOT, blocks, name
from support.processes import wait_for
from support.site_kit import listening, site_kit
from support.vlm_families import save

_FETCHES = "fetches packages; CI and 'make demo' begin with it"
_MINUTES = "a benchmark of a minute or more, as its page says; 'make benchmarks' runs it"

NOT_RUN: dict[str, str] = {
    "pip install -c constraints.txt -e .": _FETCHES,
    "pip install -e .": _FETCHES,
    "pip install -e '.[privacy]'": _FETCHES,
    "pip install -e '.[4bit]'": _FETCHES,
    "pip install -e '.[mlflow]'": _FETCHES,
    "pip install 'fedumm[privacy]'": _FETCHES,
    "python3 -m venv .venv": _FETCHES,
    "source .venv/bin/activate": "of an environment that is not made here",
    "srun --gres=gpu:1 --mem=32G --time=02:00:00 --pty bash": "asks a cluster for a shell; no program of ours",
    "sbatch sites05.sbatch": "needs a cluster: test_slurm_steps.py has one",
    **{
        f"{command} --startup_kit kits/admin@example.com {options}": "needs a server: docs/deploy.md has one"
        for command, options in (
            ("fedumm submit", "--model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --num_clients 2 "
             "--num_rounds 10 --name demo"),
            ("fedumm watch 54d4ddd2-6027-4709-98d3-bb502f7b8724", "--name demo"),
        )
    },
    "nvflare job submit -j jobs/fedumm-blip_vqa": "needs a server: test_real_sites.py submits jobs to one",
    "fedumm submit --startup_kit kits/admin@example.com --resume demo": "needs a server: test_job_resume.py has one",
    "fedumm check-site site-1 --job jobs/fedumm-blip_vqa": "its model and data are published ones; test_check_site.py "
    "looks at a job that was exported",
    "python scripts/make_random_checkpoint.py qwen3-vl-2b qwen --dtype bfloat16": "writes 4 GB; in its place stands a "
    "model of that family of a few kB, and test_random_checkpoint.py runs the script",
    **{
        f"python benchmarks/{one}.py": _MINUTES
        for one in (
            "startup", "overhead", "connection", "memory", "cache", "cache_types", "images", "attention", "scale",
            "answers", "unified", "aggregation", "attacks", "hostile", "rounding", "janus_pro_1b", "loading",
            "full_size",
        )
    },
}  # fmt: skip

_BASE = "--model_backend blip_vqa --model_name_or_path tiny --dataset easy_vqa --num_clients 4 --in_process"
STAND_INS: dict[str, dict[str, str]] = {
    "": {
        "--resume NAME": "--resume NAME --num_rounds 2",
        "federate ...": f"federate {_BASE}",
        "make demo": "make -n demo",
        "make test": "make -n test",
        "/mnt/coco": "coco",
        "/data/envs/janus": "nvflare_januspro",
        "check DATA": "check scans",
        "fedumm poc": "fedumm federate --in_process",  # test_poc.py runs it
    },
    "docs/sweeps.md": {
        # Tens of runs each: the page's first command is a whole study.
        "study.yaml --lr 1e-4,5e-4": "study.yaml --lr 1e-4,5e-4 --dry_run --model_name_or_path small_vlm "
        "--dataset my_images",
        "tiny_table1.yaml": "tiny_table1.yaml --dry_run",
    },
    # On this machine, and without FLARE, which the page starts before.
    "docs/hpc.md": {"--gpus 4": "--gpus 0", "--name alpha05": "--name alpha05 --in_process"},
    "docs/results.md": {"tiny_table1.yaml": "tiny_table1.yaml --dry_run"},
    "docs/options.md": {"table1_blip_vqa.yaml": "table1_blip_vqa.yaml --dry_run"},
    "docs/runs.md": {} if installed("mlflow") else {"tensorboard,mlflow": "tensorboard"},
}
"""What stands in for a part of a page's commands (of "": of any page)."""

SIMULATED = {"README.md": 1, "docs/hpc.md": 2}
"""On how many commands of a page FLARE's simulator starts, which takes ten seconds; the others run in process."""

QUICK = {"CONTRIBUTING.md"}
"""Pages whose commands take a few seconds together."""

SHOWN = {name(page): shown(page) for page in PAGES if "```bash" in page.read_text(encoding="utf-8")}


def test_what_does_not_run_is_shown_and_has_a_reason() -> None:
    texts = {one.text for commands in SHOWN.values() for one in commands}
    assert set(NOT_RUN) <= texts, set(NOT_RUN) - texts
    assert all(NOT_RUN.values())


def test_what_stands_in_stands_for_something() -> None:
    for page, stand_ins in STAND_INS.items():
        texts = [one.text for own, commands in SHOWN.items() if page in ("", own) for one in commands]
        unused = [old for old in stand_ins if not any(old in text for text in texts)]
        assert not unused, f"{page}: {unused}"
    assert set(SHOWN) >= {*STAND_INS, *SIMULATED, *QUICK} - {""}


@pytest.fixture
def checkout_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a page's commands run; what they leave in the background ends with the test, whatever happens."""
    folder = tmp_path_factory.mktemp("page") / "fedumm"
    yield folder
    # Start scripts start again what has ended, so these end first.
    for process in sorted(processes_in(folder), key=lambda process: process.create_time()):
        end_tree(process.pid)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that is over."""
    folder = tmp_path_factory.mktemp("run") / "given"
    options = f"{_BASE} --max_train_samples 40 --max_eval_samples 12 --num_rounds 1 --name {folder} --gpu cpu"
    assert run_command("federate", options.split(), "job.py") == 0
    return folder


@pytest.fixture
def port() -> Iterator[int]:
    """Of a server that a site finds."""
    with listening() as number:
        yield number


def a_site(kit: Path, port: int) -> None:
    """Its startup kit, and a line on what has left it."""
    site_kit(kit, port)
    OutgoingLog(kit / FILE, "1", "admin@example.com").add(None, HostError("no"))


def scans(folder: Path) -> None:
    """Pictures with a table."""
    rows = ["image,question,answer"]
    for number in range(40):
        color, place = ("red", "blue")[number % 2], f"{number:03}.png"
        write(folder / place, b"")
        Image.new("RGB", (32, 32), (6 * number, 0, 255) if number % 2 else (255, 6 * number, 0)).save(folder / place)
        rows += [f"{place},what color is it?,{color}", f"{place},is it red?,{'no' if number % 2 else 'yes'}"]
    write(folder / "data.csv", "\n".join(rows) + "\n")


def vqa_v2(folder: Path) -> None:
    """Its pictures are in ``coco``."""
    for subset, images in (("train2014", [9, 25] * 20), ("val2014", [42, 73])):
        asked, given = questions_and_annotations(range(len(images)), images)
        write(folder / "data" / "vqa_v2" / f"v2_OpenEnded_mscoco_{subset}_questions.json", asked)
        write(folder / "data" / "vqa_v2" / f"v2_mscoco_{subset}_annotations.json", given)
    coco_pictures(folder / "coco")


def prepared(page: str, folder: Path) -> dict[str, str]:
    """What the readers of a page have: pictures, tables, files that the page itself shows.

    Returns:
        What in its commands is something else here.
    """
    scans(folder / "scans")
    write(folder / "sites.yaml", "heidelberg: scans\nmainz: scans\n")
    Image.new("RGB", (64, 64), "red").save(folder / "picture.png")
    if page == "docs/data.md":
        vqa_v2(folder)
        scans(folder / "data" / "mine")
        table = folder / "data" / "mine" / "data.csv"
        table.rename(table.with_name("rows.csv")).write_text(
            table.with_name("rows.csv").read_text().replace("image,question,answer", "scan,ask,reply")
        )
    if page == "docs/models.md":
        (source,) = [block for block in blocks(ROOT / page, "python") if "register_backend" in block]
        write(folder / "words_backend.py", source)
        save("qwen3_vl", folder / "small_vlm")
        (folder / "qwen").symlink_to("small_vlm")
    if page == "docs/deploy.md":
        (project,) = (block for block in blocks(ROOT / page, "yaml") if "participants:" in block)
        port = str(free_port())
        write(folder / "project.yml", project.replace("8002", port))
        return {"8002": port}
    if page == "docs/sweeps.md":
        scans(folder / "my_images")
        save("qwen3_vl", folder / "small_vlm")
        write(folder / "study.yaml", next(block for block in blocks(ROOT / page, "yaml") if "my_images" in block))
    return {}


@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [own if own in QUICK else pytest.param(own, marks=pytest.mark.slow) for own in SHOWN])
def test_the_commands_of_a_page_run(
    page: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, checkout_folder: Path
) -> None:
    run = request.getfixturevalue("run") if any("NAME" in one.text for one in SHOWN[page]) else None
    checkout = Checkout(checkout_folder, run, tmp_path_factory.getbasetemp() / "features")
    stand_ins = {old: new for own in ("", page) for old, new in STAND_INS.get(own, {}).items()}
    stand_ins |= prepared(page, checkout.folder)
    if page == "docs/sites.md":
        a_site(checkout.folder / "site-1", request.getfixturevalue("port"))
    simulated = SIMULATED.get(page, 0)
    for command in SHOWN[page]:
        if command.text in NOT_RUN:
            continue
        if "--simulator" in command.text and not simulated:
            stand_ins["--simulator"] = "--in_process"
        simulated = max(0, simulated - ("--simulator" in command.text))
        if "JOB" in command.text:
            (job,) = (checkout.folder / "server" / "kit" / "jobs").iterdir()
            stand_ins["JOB"] = job.name
        checkout.carry_out(command, stand_ins)
    # What a page starts, it ends; FLARE's start scripts look now and then whether they are to.
    wait_for(lambda: not processes_in(checkout.folder), 60)
