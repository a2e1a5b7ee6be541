"""``fedumm check-site``: what a site's engineer runs before the site joins a federation, or takes part in a job."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedumm.cli.health import Finding
from fedumm.cli.options import Parser, add_options, config_from
from fedumm.config import FederateConfig
from fedumm.errors import FedummError
from fedumm.libraries import installed_versions, likely_cause
from fedumm.texts import one_line

if TYPE_CHECKING:
    from fedumm.data import DataSplits
    from fedumm.federation.client.leaving import Leaving
    from fedumm.federation.runners.flare.site_kit import SiteKit

DESCRIPTION = """Look at this site: its startup kit, its policy, its data and model, and what would leave it. Nothing is
changed, and nothing but an empty connection to the server is sent.

  fedumm check-site site-1
  fedumm check-site site-1 --job jobs/chest
  fedumm check-site site-1 --model_backend blip_vqa --model_name_or_path tiny --dataset chest_xray --partition own

A job, as it was exported or as options of 'fedumm federate', is held against the policy, and its data and model are
loaded as a job would. The exit status is 1 if something would fail."""

_MARKS = {"ok": "ok", "warning": "!", "fault": "FAULT"}


def main(argv: list[str], prog: str) -> int:
    """Parse, look, tell; the exit status is 1 if something would fail."""
    parser = Parser(prog=prog, usage="%(prog)s KIT_FOLDER [--job DIR | OPTIONS]", description=DESCRIPTION)
    parser.add_argument("folder", metavar="KIT_FOLDER", help="the site's startup kit")
    parser.add_argument("--job", default="", metavar="DIR", help="a job that was exported")
    parser.add_argument("--fingerprint", default="", metavar="DIGEST", help="of the federation's model, to compare")
    parser.add_argument("--measure", action="store_true", help="try a few steps: time and memory")
    parser.add_argument("--write_launcher", action="store_true", help="have a job's process started again if killed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    add_options(parser, FederateConfig, argv)
    parsed = parser.parse_args(argv)
    own = ("folder", "job", "fingerprint", "measure", "write_launcher", "json")
    args = {name: vars(parsed).pop(name) for name in own}
    given = [name for name, value in vars(parsed).items() if value is not None]
    if args["job"] and given:
        raise FedummError(f"--job has its own options: leave out --{given[0]}.")
    options = _options(args["job"], parsed if given else None)
    from fedumm.federation.runners.flare.site_kit import read_kit, write_launcher

    kit = read_kit(Path(args["folder"]))
    if args["write_launcher"]:
        kept = write_launcher(kit)
        kit = read_kit(kit.folder)
        if not args["json"]:
            print(f"local/resources.json has the launcher; what it was: {one_line(kept)}")
    look = _Look(kit, options, args["fingerprint"], args["measure"])
    return _tell(look, args["json"])


def _options(job: str, parsed: Any) -> dict[str, Any] | None:
    """Those of a job; None if there is none to look at."""
    if job:
        from fedumm.federation.runners.flare.job_options import mapping_of_job
        from fedumm.federation.runners.flare.site_kit import job_of_folder

        return mapping_of_job(job_of_folder(Path(job)))
    if parsed is None:
        return None
    from fedumm.cli.federate import check
    from fedumm.federation.runners.flare.job_options import job_options

    config = config_from(parsed, FederateConfig)
    # What is asked of an exported job holds here.
    check(replace(config, export_dir=".", simulator=False, in_process=False))
    return job_options(config)


class _Look:
    """All findings, one after the other.

    Attributes:
        leaving: what would leave; None before it is known.
        lines: the same in words.
    """

    def __init__(self, kit: SiteKit, options: dict[str, Any] | None, fingerprint: str, measure: bool) -> None:
        self._kit, self._options, self._fingerprint, self._measure = kit, options, fingerprint, measure
        self.leaving: Leaving | None = None
        self.lines: list[str] = []

    def findings(self) -> Iterator[Finding]:
        """Of the kit, and of the job."""
        from fedumm.cli.kit_checks import look_at_kit

        yield from look_at_kit(self._kit)
        yield self._versions()
        if self._options is None:
            yield Finding(
                "job", "warning", "none to look at", "Give one: --job FOLDER, or options as of fedumm federate."
            )
            return
        try:
            from fedumm.federation.runners.flare.admission import site_config

            config = site_config(self._options, self._kit.local)
        except FedummError as error:
            yield Finding("job", "fault", one_line(error), "Let the policy allow it, or ask for another job.")
            return
        except Exception as error:  # of whatever library: the job's names are imported
            yield Finding("job", "fault", one_line(error), likely_cause().strip() or "Is the backend installed here?")
            return
        yield Finding("job", "ok", _job(config))
        yield from self._of_job(config)

    def _versions(self) -> Finding:
        from fedumm import __version__

        own = {**installed_versions(), "Python": platform.python_version()}
        told = ", ".join(
            [f"fedumm {__version__}", *(f"{name} {number or '(missing)'}" for name, number in own.items())]
        )
        return Finding("versions", "ok", told)

    def _of_job(self, config: FederateConfig) -> Iterator[Finding]:
        from fedumm.report.console import RunConsole, Screen
        from fedumm.training.data_check import check_data, data_to_check
        from fedumm.training.data_words import summary, warnings

        with RunConsole(Screen(stderr=True)) as console:
            try:
                splits = data_to_check(config, console.progress)
                report = check_data(config, splits, console.progress)
            except Exception as error:
                told = (
                    one_line(error) if isinstance(error, FedummError) else f"{type(error).__name__}: {one_line(error)}"
                )
                yield Finding("data", "fault", told, "See docs/data.md; fedumm check looks at data alone.")
                return
            yield Finding("data", "ok", summary(report).removeprefix("Data: "))
            for line in warnings(report, config):
                yield Finding("data", "warning", one_line(line), "fedumm check shows all of it.")
            yield from self._of_model(config, splits, console)

    def _of_model(self, config: FederateConfig, splits: DataSplits, console: Any) -> Iterator[Finding]:
        from fedumm.federation.client.leaving import told, what_leaves

        try:
            own = what_leaves(config, self._kit.name, splits, console.progress)
        except Exception as error:
            text = one_line(error) if isinstance(error, FedummError) else f"{type(error).__name__}: {one_line(error)}"
            mend = likely_cause().strip() or "Is it whole, and where the policy says? fedumm download fetches models."
            yield Finding("model", "fault", text, mend)
            return
        self.leaving, self.lines = own, told(config, own)
        yield Finding("model", "ok", f"{own.trainable:,} of {own.total:,} parameters are trained; {own.device}")
        yield self._compared(own.fingerprint)
        yield _disk(config)
        if self._measure:
            yield from _measured(config, splits, console)

    def _compared(self, fingerprint: str) -> Finding:
        wanted = self._fingerprint.strip().lower()
        if not fingerprint:
            return Finding("fingerprint", "warning", "none", "Some of the weights are not in memory (--device_map).")
        if wanted and wanted != fingerprint:
            mend = "Get the model from where the others got theirs: rounds would be refused or wrong."
            return Finding("fingerprint", "fault", f"{fingerprint} is not {one_line(wanted, 64)}", mend)
        same = ", as given" if wanted else " (compare it with the other sites': --fingerprint)"
        return Finding("fingerprint", "ok", f"{fingerprint}{same}")


def _job(config: FederateConfig) -> str:
    own = f"{config.num_clients} clients" if config.num_clients else ""
    return (
        f"this site's policy admits it: {one_line(config.model_backend, 40)}, {own}, {config.num_rounds:,} rounds, "
        f"{config.aggregator}, wire {config.up}, --dp {config.dp}"
    )


def _disk(config: FederateConfig) -> Finding:
    from fedumm.cli.kit_checks import free_space
    from fedumm.features.options import default_folder

    folder = Path(os.path.expanduser(config.feature_cache_dir)) if config.feature_cache_dir else default_folder()
    free = free_space(folder)
    told = f"{free / 1e9:,.1f} GB free for the feature cache in {one_line(folder, 100)}"
    if config.feature_cache == "off":
        return Finding("feature cache", "ok", "off")
    little = free < 5e9
    return Finding(
        "feature cache", "warning" if little else "ok", told, "Make room, or set feature_cache_dir." * little
    )


def _measured(config: FederateConfig, splits: DataSplits, console: Any) -> Iterator[Finding]:
    from fedumm.training.rehearsal import rehearse

    try:
        found = rehearse(config, splits, (config.down, config.up), 1, console.progress)
    except Exception as error:
        mend = "A smaller --batch_size, or another GPU: gpu in the policy."
        yield Finding("measured", "fault", one_line(error), mend)
        return
    in_a_step = config.batch_size * config.grad_accum
    told = f"{found.step:.3g} s a step of {in_a_step} samples, {1 / found.scored:.3g} samples scored a second"
    yield Finding("speed", "ok", f"{told}, {found.load:.3g} s to load the model, on {found.device}")
    if found.peak:
        yield Finding("memory", "ok", f"{found.peak / 1e9:.1f} GB at most in this try")


def _tell(look: _Look, as_json: bool) -> int:
    findings: list[Finding] = []
    for finding in look.findings():
        findings.append(finding)
        if not as_json:
            print(f"{_MARKS[finding.state]:>5}  {finding.what:<16} {finding.told}", flush=True)
            if finding.mend:
                print(f"{'':24}-> {finding.mend}", flush=True)
    faults = sum(finding.state == "fault" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if as_json:
        leaves = {"lines": look.lines, **asdict(look.leaving)} if look.leaving else None
        print(json.dumps({"findings": [asdict(finding) for finding in findings], "leaves": leaves}, indent=1))
        return 1 if faults else 0
    if look.leaving:
        print("\nWhat would leave this site, all of it over FLARE's TLS connection to the server:")
        for line in look.lines:
            print(f"  {line}")
        for name, (shape, dtype) in look.leaving.tensors.items():
            print(f"    {one_line(name)} {' x '.join(map(str, shape))} {dtype}")
        print("  What has left is in the site's own log: fedumm site-log KIT_FOLDER")
    if faults:
        print(f"{faults} fault(s): this site can't take part until they are mended.")
    else:
        print(f"Ready{f', with {warnings} warning(s)' if warnings else ''}.")
    return 1 if faults else 0
