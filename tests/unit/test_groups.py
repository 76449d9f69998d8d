"""Tests of one ``xdist_group`` run in one process, so that they start what they share once."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = """
import pytest
pytestmark = pytest.mark.xdist_group("of one process")
@pytest.mark.parametrize("number", range(6))
def test_it(number):
    pass
"""


@pytest.mark.slow
def test_a_group_runs_in_one_process(tmp_path: Path) -> None:
    """Not so with pytest 9.2 and pytest-xdist 3.8, and nothing says so: four processes started four systems."""
    (tmp_path / "test_group.py").write_text(GROUP)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-n", "2", "--dist", "loadgroup"]
    done = subprocess.run([*command, str(tmp_path)], cwd=tmp_path, capture_output=True, text=True, check=True)
    ran_in = re.findall(r"\[(gw\d)\].*PASSED", done.stdout)
    assert len(ran_in) == 6 and len(set(ran_in)) == 1, done.stdout
