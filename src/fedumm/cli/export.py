"""``fedumm export``: the adapter of a run for others, as a folder, merged into its model, or on the Hub."""

from __future__ import annotations

import argparse
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.output import check_folder
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.adapters.origin import Origin
    from fedumm.report.console import RunConsole

DESCRIPTION = """Hand on the adapter of a run: in PEFT's format, with a model card, and without paths of this machine.

  fedumm export runs/demo --out demo-adapter
  fedumm export runs/demo --merge --out demo-model
  fedumm export runs/demo --push OWNER/NAME"""

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")


def main(argv: list[str], prog: str) -> int:
    """Parse, check, write."""
    parser = Parser(prog=prog, usage="%(prog)s RUN [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("run", help="folder of a run, or of an adapter")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="of a federated run (default: best)")
    parser.add_argument("--out", default="", help="new folder (default: none, if there is --push; else export/NAME)")
    parser.add_argument("--merge", action="store_true", help="write the whole model with the adapter in it")
    parser.add_argument(
        "--push", default="", metavar="OWNER/NAME", help="upload it to this model repository of the Hub"
    )
    parser.add_argument("--public", action="store_true", help="a repository that --push makes is for everybody")
    parser.add_argument("--base_model", default="", metavar="OWNER/NAME", help="the base model's name on the Hub")
    parser.add_argument("--gpu", default="cpu", help="GPU id for --merge (default: cpu)")
    args = parser.parse_args(argv)
    source, name = adapter_folder(args.run, args.which)
    for flag in ("push", "base_model"):
        if (given := getattr(args, flag)) and not _HUB_ID.fullmatch(given):
            raise FedummError(f"--{flag} {one_line(given, 80)}: not a name on the Hub (OWNER/NAME).")
    out = Path(args.out) if args.out else None if args.push else Path("export") / name
    if out is not None and (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise FedummError(f"--out {out} exists. Choose a new folder.")
    if out is not None:
        check_folder("out", out)

    from fedumm.report.console import RunConsole

    with RunConsole() as console, _draft(out) as draft:
        _fill(args, source, draft, console)
        if args.push:
            address = push(draft, args.push, public=args.public)
            console.line(f"Uploaded to {address}")
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            if out.is_dir():
                out.rmdir()
            draft.rename(out)
            console.line(f"{'Model' if args.merge else 'Adapter'}: {out}")
    return 0


def adapter_folder(run: str, which: str) -> tuple[Path, str]:
    """The adapter's folder of a run, or an adapter's own folder; and what the run is called.

    Raises:
        FedummError: there is none.
    """
    from fedumm.adapters.folder import WEIGHTS
    from fedumm.report.run_folder import folder_for_name

    for path in (Path(run), folder_for_name(run)):
        for folder in (path / "adapter" / which, path / "adapter", path):
            if (folder / WEIGHTS).is_file():
                return folder, path.resolve().name
    raise FedummError(f"{one_line(run, 120)}: no run with an adapter, and no folder of an adapter.")


@contextmanager
def _draft(out: Path | None) -> Iterator[Path]:
    """A new folder beside ``out``, which is gone afterwards unless it was renamed."""
    parent = Path(tempfile.gettempdir()) if out is None else out.parent
    parent.mkdir(parents=True, exist_ok=True)
    draft = parent / f".export-{secrets.token_hex(8)}"
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(args: argparse.Namespace, source: Path, draft: Path, console: RunConsole) -> None:
    from fedumm.adapters.folder import CARD, CONFIG, WEIGHTS, read_folder
    from fedumm.adapters.origin import ORIGIN, read_origin
    from fedumm.model_card import for_others
    from fedumm.training.merging import without_paths

    _, peft = read_folder(source)
    origin = read_origin(source)
    base = args.base_model or (_name_on_hub(origin) if origin else "")
    if not base:
        console.line("The base model has no name on the Hub: the card names none (--base_model OWNER/NAME).")
    card = (source / CARD).read_text(encoding="utf-8") if (source / CARD).is_file() else ""
    (draft / CARD).write_text(for_others(card, base, merged=args.merge), encoding="utf-8")
    if args.merge:
        apart = _merge(args, source, draft, console)
        console.line(f"Merged; read again, its losses differ by {apart:.1e} of those with the adapter")
        return
    shutil.copyfile(source / WEIGHTS, draft / WEIGHTS)
    (draft / CONFIG).write_text(without_paths(peft, base), encoding="utf-8")
    if origin:
        path = Path(origin.model_name_or_path)
        here = replace(origin, model_name_or_path=path.name) if path.is_absolute() else origin
        (draft / ORIGIN).write_text(here.text(), encoding="utf-8")


def _name_on_hub(origin: Origin) -> str:
    from fedumm.backends.registry import BACKENDS, get_backend

    name = origin.model_name_or_path
    if not name and BACKENDS.is_shipped(origin.model_backend):
        name = getattr(get_backend(origin.model_backend), "default_model", "")
    return name if _HUB_ID.fullmatch(name) else ""


def _merge(args: argparse.Namespace, source: Path, draft: Path, console: RunConsole) -> float:
    from fedumm.cli.adapted import adapted_config, load_adapted
    from fedumm.training.merging import save_merged

    given = argparse.Namespace(
        adapter=str(source), model_backend="", model_name_or_path="", plugin="", gpu=args.gpu, answers="",
        answer_mode="", prompt="",
    )  # fmt: skip
    config, _ = adapted_config(given)
    return save_merged(load_adapted(given), config, draft, console.progress)


def push(folder: Path, repo_id: str, *, public: bool = False) -> str:
    """Upload ``folder`` to a model repository, which is made if it is not there; its address.

    Raises:
        FedummError: nobody is logged in, it may not be written to, or the Hub is out of reach.
    """
    from huggingface_hub import HfApi, get_token, is_offline_mode

    if is_offline_mode():
        raise FedummError("--push: HF_HUB_OFFLINE is set. Unset it, or export with --out and upload later.")
    if not get_token():
        raise FedummError("--push: nobody is logged in. 'hf auth login', or set HF_TOKEN.")
    api = HfApi()
    try:
        api.create_repo(repo_id, repo_type="model", private=not public, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload from FedUMM")
    except Exception as error:  # of huggingface_hub and of the HTTP library that it uses
        told = one_line(str(error).strip().split("\n")[0], 300)
        raise FedummError(f"--push {repo_id}: {told} Export with --out, and upload the folder later.") from error
    return f"{api.endpoint}/{repo_id}"
