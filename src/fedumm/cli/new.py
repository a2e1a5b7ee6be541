"""``fedumm new``: a commented file to start a plugin from, and its test."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from string import Template

from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.shell import command_line, quoted
from fedumm.texts import one_line

KINDS = ("backend", "aggregator", "partitioner", "source")
DESCRIPTION = f"""Write NAME.py, a plugin that runs as it is, with comments that explain each part, and its test.

  fedumm new aggregator trusted_mean
  fedumm federate --plugin trusted_mean.py --aggregator trusted_mean --help

KIND is one of {", ".join(KINDS)}."""


def main(argv: list[str], prog: str) -> int:
    """Write both files, or none."""
    parser = Parser(prog=prog, description=DESCRIPTION, usage="%(prog)s KIND NAME [--dir FOLDER]")
    parser.add_argument("kind", choices=KINDS, metavar="KIND")
    parser.add_argument("name", metavar="NAME", help="small letters, digits and _")
    parser.add_argument("--dir", default=".", metavar="FOLDER", help="where to (default: here)")
    args = parser.parse_args(argv)
    plugin, test = write(args.kind, args.name, Path(args.dir))
    print(f"Wrote {plugin} and {test}. Try them:\n  python -m pytest {quoted(test)}\n  {_first_use(args.kind, plugin)}")
    return 0


def write(kind: str, name: str, folder: Path) -> tuple[Path, Path]:
    """The plugin's file and its test's in ``folder``, which is made.

    Raises:
        FedummError: ``name`` is no name for a module, a file is there already, or can't be written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,39}", name) or keyword.iskeyword(name):
        raise FedummError(f"NAME {one_line(name, 60)!r}: take small letters, digits and _, beginning with a letter.")
    if find_spec(name) and not (folder / f"{name}.py").exists():
        raise FedummError(f"NAME {name!r} is that of an installed module, which {name}.py would hide: take another.")
    paths = folder / f"{name}.py", folder / f"test_{name}.py"
    cls = "".join(part.capitalize() for part in (*name.split("_"), kind))
    words = {"name": name, "file": paths[0].name, "cls": cls}
    for path in paths:
        if path.exists() or path.is_symlink():
            raise FedummError(f"{path} is there already: choose another name, or another --dir.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, template in zip(paths, (kind, f"test_{kind}"), strict=True):
            text = (files("fedumm.templates") / f"{template}.py.txt").read_text(encoding="utf-8")
            path.write_text(Template(text).substitute(words), encoding="utf-8")
    except OSError as error:
        raise FedummError(f"--dir {folder} can't be written to: {error}.") from error
    return paths


def _first_use(kind: str, plugin: Path) -> str:
    """A command that runs within a minute, on data and models that are shipped."""
    named = f"./{plugin}" if str(plugin).startswith("-") else str(plugin)
    run = ["federate", "--plugin", named, "--in_process", "--num_rounds", "2", "--max_train_samples", "200"]
    model = ["--model_backend", "blip_vqa", "--model_name_or_path", "tiny"]
    return command_line(
        *run,
        *{
            "backend": ["--model_backend", plugin.stem, "--lr", "1e-2"],
            "aggregator": [*model, "--dataset", "easy_vqa", "--aggregator", plugin.stem],
            "partitioner": [*model, "--dataset", "easy_vqa", "--partition", plugin.stem],
            "source": [*model, "--dataset", plugin.stem],
        }[kind],
    )
