"""``fedumm play``: a local page with the answers of a run's adapters side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedumm.cli.adapted import adapted_config, add_model_options, check_named, with_adapter
from fedumm.cli.export import adapter_folder
from fedumm.cli.options import Parser
from fedumm.errors import FedummError
from fedumm.stopping import StoppedError, exit_status
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.play.cast import Cast
    from fedumm.play.page import Suggestion

DESCRIPTION = """A page on this machine: put in a picture and a question, and see what the untrained model, the run's
best adapter and clients with adapters of their own answer; or a caption, and what they draw.

  fedumm play runs/demo"""

MOST_CLIENTS = 100
"""Whose adapters are held in memory."""

_MOST_SUGGESTIONS = 24


def main(argv: list[str], prog: str) -> int:
    """Parse, load, serve until Ctrl-C."""
    parser = Parser(prog=prog, usage="%(prog)s RUN [OPTIONS]", description=DESCRIPTION)
    parser.add_argument("run", help="folder of a run, its name in runs/, or folder of an adapter")
    parser.add_argument("--port", type=int, default=0, help="port of the page on 127.0.0.1 (default: 0, any free one)")
    add_model_options(parser)
    args = parser.parse_args(argv)
    if args.adapter:
        raise FedummError("fedumm play takes a run's folder, or an adapter's, without --adapter: fedumm play FOLDER")
    if not 0 <= args.port < 2**16:
        raise FedummError(f"--port must be from 0 to 65535, not {args.port}.")
    run, folders = adapters_of(args.run)
    cast, facts, notes = load(args, folders)
    if list(folders) in (["best"], ["trained"]):
        notes.append("Clients have no adapters of their own here: the run's method keeps none.")
    else:
        notes.append("Each client has an adapter of its own; what they share is a part of one only, and not asked.")

    from fedumm.play.page import render
    from fedumm.play.server import PlayServer

    suggestions = suggested(run)
    if not suggestions:
        notes.append("No example pictures: 'fedumm report' makes some of the run's data.")
    title = run.resolve().name
    with PlayServer(cast, args.port, lambda n: render(cast, title, facts, notes, suggestions, n)) as server:
        print(f"Open {server.address}\nOnly this machine can, and only with this address. Ctrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt as stop:
            print("\nEnded.")
            return exit_status(stop) if isinstance(stop, StoppedError) else 0
    return 0


def adapters_of(given: str) -> tuple[Path, dict[str, Path]]:
    """The run's folder, and by name the folders of its adapters: the clients', where each has its own.

    Raises:
        FedummError: there is none.
    """
    from fedumm.adapters.folder import WEIGHTS
    from fedumm.federation.assignment import natural
    from fedumm.report.run_folder import CLIENTS, folder_for_name

    for run in (Path(given), folder_for_name(given)):
        own = [path.parent for path in run.glob(f"{CLIENTS}/*/adapter/{WEIGHTS}")]
        names = sorted((path.parent.name for path in own), key=natural)[:MOST_CLIENTS]
        clients = {one_line(name, 60): run / CLIENTS / name / "adapter" for name in names}
        if clients:
            return run, clients
    folder, _ = adapter_folder(given, "best")
    inside = [path for path in (folder.parent, folder.parent.parent) if (path / "config.yaml").is_file()]
    return (inside or [folder])[0], {"best" if folder.name == "best" else "trained": folder}


def load(args: argparse.Namespace, folders: dict[str, Path]) -> tuple[Cast, list[str], list[str]]:
    """The model with its adapters; facts on it; and what was left out, and why.

    Raises:
        FedummError: no adapter can be read, or none fits the model.
    """
    from fedumm.adapters.origin import read_origin
    from fedumm.play.cast import Cast, Role

    first = next(iter(folders.values()))
    args.adapter = str(first)
    config, _ = adapted_config(args)
    check_named(args, config)
    bare = argparse.Namespace(**{**vars(args), "adapter": ""})
    backbone = with_adapter(bare, config, {})
    roles, notes = list[Role](), list[str]()
    shapes = {name: tensor.shape for name, tensor in backbone.adapter().items()}
    for name, folder in folders.items():
        args.adapter = str(folder)
        _, state = adapted_config(args)
        if {key: tensor.shape for key, tensor in state.items()} != shapes:
            if name == next(iter(folders)):
                raise FedummError(f"{folder} does not fit the model {config.model_name_or_path or 'default'!r}.")
            notes.append(f"{name} is left out: its adapter has another rank or other layers than the first one.")
            continue
        roles.append(Role(name, state))
    origin = read_origin(first)
    model = config.model_name_or_path or "default model"
    facts = [f"{config.model_backend} ({Path(model).name or model})", f"rank {config.rank}"]
    return Cast(backbone, roles, origin.task if origin else config.task), facts, notes


def suggested(run: Path) -> list[Suggestion]:
    """The examples of the run's report, each picture and each caption once."""
    from fedumm.play.page import Suggestion
    from fedumm.report.page.examples import read_examples
    from fedumm.report.page.render import picture_address
    from fedumm.tasks import T2I

    found, seen = list[Suggestion](), set[str]()
    for example in read_examples(run):
        drawing = example.task == T2I.name
        key = example.question if drawing else example.image_id or example.image
        address = "" if drawing else picture_address(run, example.image)
        if key in seen or not (drawing or address):
            continue
        seen.add(key)
        said = ", ".join(dict.fromkeys(example.references))
        found.append(Suggestion(one_line(example.question), "" if drawing else one_line(said, 120), address))
    pictures = [one for one in found if one.picture][:_MOST_SUGGESTIONS]
    return [*pictures, *[one for one in found if not one.picture][:_MOST_SUGGESTIONS]]
