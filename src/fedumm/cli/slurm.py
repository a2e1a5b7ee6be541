"""``fedumm slurm``: one federated run as a Slurm job on a node or on several, written and not submitted."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedumm.batch_script import BatchScript
from fedumm.cli.federate import check, options_of
from fedumm.cli.options import Parser
from fedumm.cli.plugins import load_named_plugins
from fedumm.cli.resume import RUNNERS
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.output import check_file
from fedumm.report.run_folder import folder_for
from fedumm.shell import quoted
from fedumm.texts import one_line

DESCRIPTION = """Write a batch script for one federated run on a cluster, queued again and resumed when its time is
over. On one node it has a host for each GPU; with --nodes the server and each site are steps of the job, connected as
on real sites. What stands after -- are the options of fedumm federate.

  fedumm slurm --gpus 4 --time 8:00:00 -- --model_backend blip_vqa --num_clients 8 --num_rounds 100 --name alpha01
  fedumm slurm --nodes 2 --gpus 4 -- --model_backend blip_vqa --num_clients 8 --num_rounds 100 --name alpha02"""

_TIME = re.compile(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?")
_WORD = re.compile(r"[\w.,:=/@+-]+")
_LEAST_TIME = 5 * 60
"""Of a job that is told of its end two minutes before."""

_REFUSED = {
    "resume": "the script resumes the run of --name by itself",
    "overwrite": "a job that is queued again must find its run",
    "export_dir": "a job for real sites is submitted to their FLARE server",
    "dry_run": "try it with fedumm federate",
}


def main(argv: list[str], prog: str) -> int:
    """Parse, check, write."""
    own, theirs = _apart(argv)
    args = _parser(prog).parse_args(own)
    if not theirs:
        raise FedummError(f"What is to run? Say it after --, as to fedumm federate: {prog} -- --model_backend ...")
    load_named_plugins(theirs, prog)
    _check(args)
    words = (_on_nodes if args.nodes else _on_one_node)(args, theirs, prog)
    config = options_of(words, prog)
    if check(replace(config, resume_if_exists=True)) is None:
        print(f"The run in {folder_for(config)} is finished.")
        return 0
    name = Path(config.name).name
    out = Path(args.out or f"{re.sub(r'[^A-Za-z0-9._-]', '_', name)}.sbatch")
    check_file("out", out)
    if out.exists() and not args.replace:
        raise FedummError(f"{out} exists. Replace it with --replace, or choose another --out.")
    _script(args, words, name, out).write(out)
    from fedumm.federation.runners.same_options import LOCAL_NOISE

    print(f"Job of the run {one_line(folder_for(config))} written to {out}. Submit it from here:")
    print("  mkdir -p logs")
    print(f"  sbatch {quoted(out)}")
    if config.dp == "local":
        print(f"It can't go on where it was stopped: {LOCAL_NOISE}. Ask for enough --time.")
    return 0


def _apart(argv: list[str]) -> tuple[list[str], list[str]]:
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, usage="%(prog)s [OPTIONS] -- OPTIONS OF fedumm federate", description=DESCRIPTION)
    parser.add_argument("--nodes", type=int, default=0, help="on which server and sites are steps (default: no steps)")
    parser.add_argument("--gpus", type=int, default=1, help="a node's GPUs, with a host or site on each (default: 1)")
    parser.add_argument("--cpus", type=int, default=0, help="a node's cores (default: 8 for each GPU, 8 without any)")
    parser.add_argument("--mem", default="", help="a node's memory (default: 32G for each GPU, 32G without any)")
    parser.add_argument("--time", default="24:00:00", help="time limit, as Slurm writes it (default: 24:00:00)")
    parser.add_argument("--partition", default="", help="(default: the cluster's)")
    parser.add_argument("--account", default="", help="(default: yours)")
    parser.add_argument("--out", default="", help="the script's file (default: NAME.sbatch, of the run's --name)")
    parser.add_argument("--replace", action="store_true", help="an --out that is there may be replaced")
    return parser


def _check(args: argparse.Namespace) -> None:
    for name in ("nodes", "gpus", "cpus"):
        if getattr(args, name) < 0:
            raise FedummError(f"--{name} must be 0 or more.")
    if _seconds(args.time) < _LEAST_TIME:
        raise FedummError(f"--time {one_line(args.time, 40)}: not even five minutes. For example 8:00:00 or 2-00.")
    for name in ("mem", "partition", "account"):
        if (given := getattr(args, name)) and not _WORD.fullmatch(given):
            raise FedummError(f"--{name} {one_line(given, 40)}: Slurm has no such name.")


def _seconds(text: str) -> int:
    """Of a time limit: minutes, minutes:seconds, hours:minutes:seconds, days-hours and so on; 0 of another text."""
    found = _TIME.fullmatch(text)
    if not found:
        return 0
    days, *parts = (int(own) if own else None for own in found.groups())
    first, second, third = (own or 0 for own in parts)
    if days is not None:
        return 86400 * days + 3600 * first + 60 * second + third
    if parts[2] is None:
        return 60 * first + second
    return 3600 * first + 60 * second + third


def _checked(args: argparse.Namespace, theirs: Sequence[str], prog: str) -> FederateConfig:
    """The options of the run.

    Raises:
        FedummError: one of them contradicts the job.
    """
    config = options_of(theirs, prog)
    if config.gpu == "cpu" and args.gpus:
        raise FedummError(f"The run is on --gpu cpu, and --gpus {args.gpus} is asked for: say --gpus 0.")
    for name, why in _REFUSED.items():
        if getattr(config, name):
            raise FedummError(f"--{name} is not for a batch job: {why}.")
    if not config.name:
        raise FedummError("Add a --name for the run after --: a job that is queued again finds its run by it.")
    return config


def _on_one_node(args: argparse.Namespace, theirs: Sequence[str], prog: str) -> list[str]:
    """The options of the run as the job gives them: with a runner, hosts, and leave to resume."""
    config, words = _checked(args, theirs, prog), list(theirs)
    if not any(getattr(config, runner) for runner in RUNNERS):
        words.append("--simulator")
    if not config.resume_if_exists:
        words.append("--resume_if_exists")
    return words + _hosts(args.gpus, config)


def _on_nodes(args: argparse.Namespace, theirs: Sequence[str], prog: str) -> list[str]:
    """The options of the run as the job gives them to ``fedumm poc --slurm``: with the threads of a site."""
    from fedumm.federation.runners.allocation import share_of
    from fedumm.federation.runners.flare.poc import check_poc
    from fedumm.training.threads import thread_count

    config = _checked(args, theirs, prog)
    if given := [name for name in RUNNERS if getattr(config, name)]:
        raise FedummError(f"--{given[0]} is another way to run than --nodes: leave out one of them.")
    check_poc(config)
    share = share_of(config, args.nodes, _cpus(args), args.gpus)
    # Other threads give other bits: nodes on which a job is queued again may have more cores.
    return [*theirs, *([] if config.threads else ["--threads", str(thread_count(config, within=share.cpus))])]


def _cpus(args: argparse.Namespace) -> int:
    cpus: int = args.cpus or 8 * max(1, args.gpus)
    return cpus


def _hosts(gpus: int, config: FederateConfig) -> list[str]:
    """``--hosts`` with its number, where it is not given and does not follow from something else."""
    if config.in_process or config.device_map or not gpus:
        if gpus > 1 and not config.device_map:
            raise FedummError(f"--in_process is one host, which uses one GPU of --gpus {gpus}: use --simulator.")
        return []
    most = config.hosts or config.num_clients
    if gpus > most:
        what = f"--hosts {config.hosts}" if config.hosts else f"--num_clients {config.num_clients}"
        raise FedummError(
            f"--gpus {gpus} is more than {what} can use: each GPU has a host, each host a client or more."
        )
    return [] if config.hosts else ["--hosts", str(gpus)]


def _script(args: argparse.Namespace, words: Sequence[str], name: str, out: Path) -> BatchScript:
    memory = args.mem or f"{32 * max(1, args.gpus)}G"
    asks = ["job-name=fedumm", f"nodes={args.nodes or 1}", "ntasks-per-node=1", f"cpus-per-task={_cpus(args)}",
            f"mem={memory}", f"time={args.time}", "output=logs/%x-%j.out"]  # fmt: skip
    asks += [f"gres=gpu:{args.gpus}"] if args.gpus else []
    asks += [f"{key}={value}" for key in ("partition", "account") if (value := getattr(args, key))]
    return BatchScript(
        about=[
            *_about(args.nodes, f"{args.gpus or 'no'} GPU(s)"),
            "",
            "  mkdir -p logs",
            f"  sbatch {one_line(quoted(out))}",
            "",
            "A job that is pre-empted, loses its node or reaches its time limit is queued again, and resumes after its",
            "last finished round; submitted once more it does only what is left. What fits your cluster can also be",
            "said to sbatch (--time, --partition ...), which wins over the lines below.",
        ],
        asks=asks,
        command=_lines("fedumm poc --slurm" if args.nodes else "fedumm federate", words),
        what=f"the run {re.sub(r'[^A-Za-z0-9._-]', '_', name)}",
    )


def _about(nodes: int, gpus: str) -> list[str]:
    if not nodes:
        return [f"A federated run as a Slurm job, with {gpus}. From the folder that fedumm slurm was called in:"]
    return [
        f"A federation as a Slurm job, on {nodes} node(s) with {gpus} each. fedumm poc --slurm makes startup kits and",
        "starts, by srun, the server as a step on the first node and each site as a step of its own, dealt out to the",
        "nodes in turn; then it submits the run to that server and watches it. From the folder that fedumm slurm was",
        "called in, which all nodes must see:",
    ]


def _lines(program: str, words: Sequence[str]) -> str:
    """The command, with an option on each line."""
    lines = [f"python -u -m {program}"]
    for word in words:
        shown = shlex.quote(word)
        if word.startswith("--"):
            lines.append(f"  {shown}")
        else:
            lines[-1] += f" {shown}"
    return " \\\n".join(lines)
