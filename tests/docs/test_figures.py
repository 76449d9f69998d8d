"""The table of figures in the README has the rows that ``python -m benchmarks`` prints."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.__main__ import MEASURED

README = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_readme_has_the_rows_of_the_benchmarks() -> None:
    found = re.search(r"<!-- figures -->\n(.*?)<!-- figures -->", README, re.DOTALL)
    assert found
    rows = [
        [cell.strip() for cell in line.strip("| \n").split(" | ")] for line in found[1].splitlines() if line[:1] == "|"
    ]
    head, _, *figures = rows
    assert head == ["figure", "measured", "peer or limit in the same run", "ratio"]
    assert [row[0] for row in figures] == [figure for module in MEASURED for figure in module.FIGURES]
