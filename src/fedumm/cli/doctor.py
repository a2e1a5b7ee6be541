"""``fedumm doctor``: would a run work on this machine, and if not, what is to be done?"""

from __future__ import annotations

import json
from dataclasses import asdict

from fedumm.cli.health import Finding, look
from fedumm.cli.options import Parser

DESCRIPTION = """Look at this machine: libraries, devices, memory, disk, the Hub, NVIDIA FLARE. Nothing is changed.

  fedumm doctor
  fedumm doctor --no_hub --json"""

_MARKS = {"ok": "ok", "warning": "!", "fault": "FAULT"}


def main(argv: list[str], prog: str) -> int:
    """Look, tell; the exit status is 1 if something would fail."""
    parser = Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("--json", action="store_true", help="print JSON, one list of all")
    parser.add_argument("--no_hub", action="store_true", help="send nothing: don't ask whether the Hub is in reach")
    args = parser.parse_args(argv)
    findings: list[Finding] = []
    for finding in look(not args.no_hub):
        findings.append(finding)
        if not args.json:
            print(f"{_MARKS[finding.state]:>5}  {finding.what:<16} {finding.told}", flush=True)
            if finding.mend:
                print(f"{'':24}-> {finding.mend}", flush=True)
    faults = sum(finding.state == "fault" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    elif faults:
        print(f"{faults} fault(s): runs will fail until they are mended.")
    else:
        print(f"Ready{f', with {warnings} warning(s)' if warnings else ''}. Try: make demo, or fedumm federate --help")
    return 1 if faults else 0
