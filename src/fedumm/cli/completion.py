"""``fedumm completion``: a script for the shell, which then completes commands, options and what they may be."""

from __future__ import annotations

import argparse

from fedumm.cli.options import Parser, ParserMadeError, catching_parsers

DESCRIPTION = """Print a script that lets a shell complete what you type; it takes effect in the next shell.

  fedumm completion bash > ~/.local/share/bash-completion/completions/fedumm
  fedumm completion zsh > ~/.zsh/completions/_fedumm        (a folder of $fpath)"""

_SHELLS = ("bash", "zsh", "tcsh")


def main(argv: list[str], prog: str) -> int:
    """Print the script."""
    parser = Parser(prog=prog, usage="%(prog)s SHELL", description=DESCRIPTION)
    parser.add_argument("shell", choices=_SHELLS, help="your shell")
    args = parser.parse_args(argv)
    import shtab

    print(shtab.complete(command_parser(), args.shell))
    return 0


def command_parser() -> argparse.ArgumentParser:
    """A parser for ``fedumm`` with all of its commands, made for completion only."""
    from fedumm.cli.main import COMMANDS

    whole = argparse.ArgumentParser(prog="fedumm", description="Federated fine-tuning of multimodal models")
    commands = whole.add_subparsers(dest="command")
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, parents=[parser_of(name)], add_help=False)
    return whole


def parser_of(name: str) -> Parser:
    """The parser of one command, which is not carried out."""
    from fedumm.cli.main import module_of

    with catching_parsers():
        try:
            module_of(name).main([], f"fedumm {name}")
        except ParserMadeError as made:
            return made.parser
    raise AssertionError(f"{name} parses nothing")
