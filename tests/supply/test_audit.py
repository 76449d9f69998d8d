"""What the audit makes of pip-audit's words, of which "none found" is not always one."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supply import audit

CLEAN = {"name": "click", "version": "8.5.1", "vulns": []}
SKIPPED = {"name": "rich", "skip_reason": "Dependency not found on PyPI and could not be audited: rich (15.0.0)"}
WEAK = {
    "name": "pyzmq",
    "version": "27.3.0",
    "vulns": [{"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["27.3.1"], "description": "…"}],
}


class PipAudit:
    """In the place of the real one: writes ``report``, or complains and writes nothing."""

    def __init__(self, report: list[Any] | None) -> None:
        self._report = report

    def run(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if self._report is None:
            return subprocess.CompletedProcess(command, 1, "", "Traceback …\nNameResolutionError: pypi.org")
        Path(command[command.index("-o") + 1]).write_text(json.dumps({"dependencies": self._report}))
        return subprocess.CompletedProcess(command, 0, "", "No known vulnerabilities found")


@pytest.mark.parametrize(
    ("report", "code", "said"),
    [
        ([CLEAN], 0, "1 looked up, 1 without a known vulnerability"),
        ([CLEAN, WEAK], audit.FOUND, "VULNERABLE pyzmq 27.3.0: PYSEC-1, CVE-1; mended in 27.3.1"),
        ([CLEAN, SKIPPED], audit.NOT_LOOKED_UP, "NOT LOOKED UP rich"),
        ([SKIPPED, WEAK], audit.FOUND, "NOT LOOKED UP rich"),
        ([SKIPPED], audit.NOT_LOOKED_UP, "0 looked up, 0 without a known vulnerability\nNOT AUDITED: "),
        (None, audit.NOT_LOOKED_UP, "NOT LOOKED UP all of requirements.txt: NameResolutionError: pypi.org"),
    ],
)
def test_what_it_says(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    report: list[Any] | None,
    code: int,
    said: str,
) -> None:
    monkeypatch.setattr(subprocess, "run", PipAudit(report).run)
    monkeypatch.setattr("sys.argv", ["audit"])
    assert audit.main() == code
    printed = capsys.readouterr().out
    assert said in printed
    assert ("NOT AUDITED: " in printed) is ("SERVICE=osv" in printed) is (report is None or SKIPPED in report)
