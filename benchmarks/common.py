"""What the benchmarks share: models from configurations, processes and their memory, tables."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

import psutil
from rich.console import Console
from rich.table import Table as RichTable

if TYPE_CHECKING:
    from fedumm.config import FederateConfig

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Table:
    """A title, column names, and rows of text."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self) -> None:
        """Print it."""
        table = RichTable(*self.columns, title=self.title, title_justify="left")
        for row in self.rows:
            table.add_row(*row)
        Console(width=None if sys.stdout.isatty() else 160).print(table)


def machine() -> dict[str, str]:
    """What the numbers depend on."""
    import torch
    import transformers

    return {
        "processor": f"{_processor()}, {len(os.sched_getaffinity(0))} cores for this process",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"transformers {transformers.__version__}",
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main(name: str, text: str | None, run: Callable[[], list[Table]]) -> None:
    """Run a benchmark, print its tables, and keep them for ``docs/benchmarks.md``."""
    start = time.monotonic()
    tables = run()
    for table in tables:
        table.show()
    RESULTS.mkdir(exist_ok=True)
    content = {
        "text": (text or "").strip(),
        "machine": machine(),
        "minutes": round((time.monotonic() - start) / 60, 1),
        "tables": [asdict(table) for table in tables],
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


@dataclass(frozen=True)
class Measured:
    """One command: wall time, and the peak of the proportional set size over all its processes."""

    seconds: float
    peak_bytes: int
    processes: int
    server_bytes: int


def measure(command: Sequence[str], every: Callable[[float], None] = lambda _: None) -> Measured:
    """Run ``command`` to its end, looking at its processes a few times a second.

    Args:
        every: called with the seconds since the start, each time.
    """
    start = time.monotonic()
    peak = processes = server = 0
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, cwd=ROOT) as child,
    ):
        while child.poll() is None:
            every(time.monotonic() - start)
            sizes = _sizes(child.pid)
            peak, processes = max(peak, sum(size for size, _ in sizes)), max(processes, len(sizes))
            server = max([server, *(size for size, line in sizes if "simulator.simulator " in line)])
            time.sleep(0.1)
        seconds = time.monotonic() - start
        if child.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(command)}\n{errors.read().decode()}")
    return Measured(seconds, peak, processes, server)


def _sizes(pid: int) -> list[tuple[int, str]]:
    """Proportional set size (shared pages divided among those who share them) and command of each process."""
    found = []
    try:
        for process in (root := psutil.Process(pid), *root.children(recursive=True)):
            try:
                found.append((process.memory_full_info().pss, " ".join(process.cmdline())))
            except psutil.Error:
                continue
    except psutil.NoSuchProcess:
        pass
    return found


def federate(folder: Path, **options: Any) -> list[str]:
    """The command of a federated run; ``True`` makes a bare flag."""
    flags = [f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, str(ROOT / "job.py"), f"--name={folder}", *flags]


def records(folder: Path, event: str) -> list[dict[str, Any]]:
    """Records of one kind in a run's ``metrics.jsonl``."""
    from fedumm.report.run_folder import read_records

    return [record for record in read_records(folder) if record["event"] == event]


def run_once(config: FederateConfig) -> list[dict[str, Any]]:
    """All records of a federated run in this process, with one torch thread; its folder is not kept."""
    import torch

    from fedumm.federation.runners.in_process import run_in_process
    from fedumm.report.run_folder import RunFolder, create, read_records

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        create(path, config, "a benchmark").release()
        run_in_process(config, RunFolder(path, config), lambda *_: None)
        return list(read_records(path))


def spread(values: Sequence[float], factor: float = 100.0, digits: int = 1) -> str:
    """Mean and standard deviation over seeds."""
    return f"{factor * mean(values):.{digits}f} ± {factor * stdev(values):.{digits}f}"


SIZES: dict[str, dict[str, int]] = {
    "mid": {"image": 192, "layers": 6, "width": 384, "heads": 6, "vocabulary": 1000},
    "base": {"image": 384, "layers": 12, "width": 768, "heads": 12, "vocabulary": 30524},
}


def model_folder(size: str) -> str:
    """``tiny``, or a folder with a randomly initialised BLIP of the size (made once).

    ``base`` has the architecture of Salesforce/blip-vqa-base, with the tokenizer of ``tiny``.
    """
    if size == "tiny":
        return size
    from fedumm.features.options import default_folder

    folder = default_folder() / "benchmarks" / f"{size}-random"
    if not (folder / "model.safetensors.index.json").exists():
        _make_model(folder, **SIZES[size])
    return str(folder)


def _make_model(folder: Path, **sizes: int) -> None:
    import torch

    sys.path.insert(0, str(ROOT / "scripts"))
    from published_models import blip_vqa, on_meta
    from random_weights import write_weights

    config, processor = blip_vqa(**sizes)
    folder.mkdir(parents=True, exist_ok=True)
    config.save_pretrained(folder)
    processor.save_pretrained(folder)
    write_weights(on_meta(config, "blip_vqa"), folder, torch.float32, 0)
