"""``make seconds``: how long the tests of each kind took, from the reports that ``make test`` has left in ``build/test``."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree


def seconds_by_kind(reports: Sequence[Path]) -> dict[str, float]:
    """The sum for each folder of ``tests``, or file that is in none, from reports in JUnit's format; the longest first."""
    sums: defaultdict[str, float] = defaultdict(float)
    for report in reports:
        for case in ElementTree.parse(report).iter("testcase"):
            _, kind, *inside = case.attrib["classname"].split(".")
            is_file = kind.startswith("test_")
            assert is_file or inside, f"{report}: {case.attrib}"
            sums[f"tests/{kind}.py" if is_file else f"tests/{kind}/"] += float(case.attrib["time"])
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


if __name__ == "__main__":
    for kind, seconds in seconds_by_kind([*map(Path, sys.argv[1:])]).items():
        print(f"{kind:<24} {seconds:6.0f}")
