"""Every page is true: its commands parse, its options exist, what it links to is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from fedumm.cli.main import COMMANDS
from fedumm.cli.new import write
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import CentralConfig, FederateConfig, RunConfig
from fedumm.plugins import load_plugins
from fedumm.run_options import known_options
from support.pages import PAGES, ROOT, commands, name

PROGRAMS: dict[str, type[RunConfig]] = {
    "python job.py": FederateConfig,
    "python src/local_train.py": CentralConfig,
    "fedumm federate": FederateConfig,
    "fedumm train": CentralConfig,
    "fedumm download": FederateConfig,
    "fedumm poc": FederateConfig,
}
# Commands that take their options from a run's folder, or of which a page shows a part ("...").
IN_PARTS = {"--resume", "..."}
# Options of other commands and programs that a page names in its text.
OTHERS = {
    "help", "config", "json", "figure", "show", "adapter", "prompts", "detector_weights", "color_weights", "out", "num",
    "batch_size", "requeue", "export", "plugin", "durations", "nu", "split", "format", "samples",
    "no_hub", "merge", "push", "public", "base_model", "more_images", "compare", "slurm", "collect", "run",
    "score", "port", "lr_search", "startup_kit", "detach", "workspace", "job", "fingerprint", "measure",
    "write_launcher", "seen", "nodes", "gpus", "time", "cpus", "mem", "partition", "account",
}  # fmt: skip
OPTIONS = {name for config in (FederateConfig, CentralConfig) for name in known_options(config)}


def runs() -> list[tuple[Path, str, list[str]]]:
    """Page, program and options of every command of ours that a page shows."""
    found = []
    for page in PAGES:
        for words in commands(page):
            program, options = " ".join(words[:2]), words[2:]
            if words[:2] == ["fedumm", "slurm"]:
                program, options = "fedumm federate", words[words.index("--") + 1 :]
            if words[0] == "sbatch" and "scripts/slurm_run.sh" in words:
                backend, *rest = words[words.index("scripts/slurm_run.sh") + 1 :]
                program = "python job.py"
                options = ["--model_backend", backend, "--simulator", *(word.replace("%a", "1") for word in rest)]
            if program in PROGRAMS and not IN_PARTS & set(options):
                found.append((page, program, options))
    return found


RUNS = runs()


@pytest.mark.parametrize(("page", "program", "options"), RUNS, ids=lambda value: str(value)[-40:])
def test_each_command_has_good_options(
    page: Path, program: str, options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "sites.yaml").write_text("heidelberg: a\nmainz: b\n")
    if "trusted_mean.py" in options:
        write("aggregator", "trusted_mean", tmp_path)
        load_plugins(["trusted_mean.py"])
    if "--help" in options:
        options = [*options, "--model_backend", "blip_vqa"]
        options.remove("--help")
    parser = Parser(prog=program)
    add_options(parser, PROGRAMS[program])
    chosen = config_from(parser.parse_args(options), PROGRAMS[program])
    if program == "python job.py":
        assert isinstance(chosen, FederateConfig)
        assert chosen.simulator or chosen.in_process or chosen.export_dir


def test_every_program_is_shown_on_the_page_that_explains_it() -> None:
    shown = {(name(page), " ".join(words[:2])) for page in PAGES for words in commands(page)}
    assert shown >= {
        ("README.md", "python job.py"),
        ("README.md", "python src/local_train.py"),
        ("README.md", "make demo"),
        ("README.md", "make test"),
        ("README.md", "sbatch scripts/slurm_run.sh"),
        ("docs/quickstart.md", "python job.py"),
        ("docs/quickstart.md", "python src/local_train.py"),
        ("docs/data.md", "fedumm partition"),
        ("docs/data.md", "fedumm download"),
        ("docs/runs.md", "fedumm ask"),
        ("docs/runs.md", "fedumm evaluate"),
        ("docs/runs.md", "python job.py"),
        ("docs/unified.md", "fedumm draw"),
        ("docs/unified.md", "fedumm geneval"),
        ("docs/sites.md", "nvflare job"),
        ("docs/sites.md", "fedumm poc"),
        ("docs/sites.md", "fedumm submit"),
        ("docs/sites.md", "fedumm watch"),
        ("docs/sites.md", "fedumm check-site"),
        ("docs/sites.md", "fedumm site-log"),
        ("docs/deploy.md", "fedumm kit"),
        ("docs/deploy.md", "nvflare provision"),
        ("docs/hpc.md", "bash scripts/setup_envs.sh"),
        ("CONTRIBUTING.md", "make test-slow"),
    }


def test_what_is_called_exists() -> None:
    called = [words for page in PAGES for words in commands(page)]
    assert {words[1] for words in called if words[0] == "fedumm"} <= set(COMMANDS)
    scripts = {words[1] for words in called if words[0] in ("python", "bash") and not words[1].startswith("-")}
    assert all((ROOT / script).is_file() for script in scripts), scripts
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {words[1] for words in called if words[0] == "make"} <= targets


def test_every_option_is_listed_once_and_every_listed_one_exists() -> None:
    section = (ROOT / "docs" / "options.md").read_text(encoding="utf-8").split("\n## ")[0]
    assert set(re.findall(r"--(\w+)", section)) - {"help", "config"} == OPTIONS


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_flag_in_the_text_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"`--(\w+)", text)) <= OPTIONS | OTHERS


def anchors(page: Path) -> set[str]:
    """What a link may end in after ``#``: the headings, as GitHub writes them."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_links_to_is_there(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_in_the_table_of_pages() -> None:
    index = ROOT / "docs" / "index.md"
    decisions = ROOT / "docs" / "decisions" / "index.md"
    for table in (index, decisions):
        linked = {(table.parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+)", table.read_text())}
        pages = {page for page in table.parent.glob("*.md") if page != table}
        assert pages <= linked, pages - linked
    assert "(decisions/index.md)" in index.read_text()
