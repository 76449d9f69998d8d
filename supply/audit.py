"""``python -m supply.audit``: asks a public database whether any locked dependency has a known vulnerability.

Exit codes: 0, all were looked up and none has one; 1, there are some; 3, some or all could not be looked up. pip-audit by
itself says "No known vulnerabilities found" of dependencies that the database does not answer for, so that a build behind a
mirror would always look clean. Here that is a failure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LOCKS = (ROOT / "deploy" / "image" / "requirements.txt", ROOT / "deploy" / "image" / "build-requirements.txt")
FOUND = 1
NOT_LOOKED_UP = 3
WAIT_S = 15
"""For one answer of the database."""


@dataclass
class Findings:
    """What the database says of each dependency."""

    clean: list[str] = field(default_factory=list)
    vulnerable: list[str] = field(default_factory=list)
    not_looked_up: list[str] = field(default_factory=list)


def findings_of(report: dict[str, Any]) -> Findings:
    """Read a report of pip-audit, in its JSON format."""
    findings = Findings()
    for each in report["dependencies"]:
        if "skip_reason" in each:
            findings.not_looked_up.append(f"{each['name']}: {each['skip_reason']}")
            continue
        known = f"{each['name']} {each['version']}"
        for one in each["vulns"]:
            mended = ", ".join(one.get("fix_versions", ())) or "no version"
            names = ", ".join([one["id"], *one.get("aliases", ())])
            findings.vulnerable.append(f"{known}: {names}; mended in {mended}")
        if not each["vulns"]:
            findings.clean.append(known)
    return findings


def audit(lock: Path, service: str) -> Findings:
    """What the database of ``service`` says of all that ``lock`` names."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
        options = ["-r", str(lock), "-s", service, "--timeout", str(WAIT_S), "-f", "json", "-o", str(report)]
        done = subprocess.run([*command, *options], capture_output=True, text=True)
        if report.exists() and (text := report.read_text()):
            return findings_of(json.loads(text))
    lines = done.stderr.strip().splitlines() or ["pip-audit said nothing"]
    return Findings(not_looked_up=[f"all of {lock.name}: {lines[-1]}"])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m supply.audit", description=__doc__)
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whose database is asked")
    service = parser.parse_args().service
    code, is_all_known = 0, True
    for lock in LOCKS:
        findings = audit(lock, service)
        for line in findings.vulnerable:
            print(f"VULNERABLE {line}")
        for line in findings.not_looked_up:
            print(f"NOT LOOKED UP {line}")
        is_all_known = is_all_known and not findings.not_looked_up
        known = len(findings.clean) + len(findings.vulnerable)
        print(f"{lock.relative_to(ROOT)}: {known} looked up, {len(findings.clean)} without a known vulnerability")
        if findings.vulnerable:
            code = FOUND
        elif findings.not_looked_up and code == 0:
            code = NOT_LOOKED_UP
    if not is_all_known:
        print(
            f"NOT AUDITED: the database of {service} did not answer for those that were not looked up, so nothing is known of"
            " them. Run this where the database can be reached, or ask another one: make audit SERVICE=osv"
        )
    return code


if __name__ == "__main__":
    sys.exit(main())
