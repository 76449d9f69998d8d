"""Makes the wall clock of a Python program wrong, by as many seconds as the file says that ``CBW_TEST_CLOCK`` names.

Python imports it at its start when this folder is in ``PYTHONPATH``. The file is read each time, so the clock can jump.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

if file := os.environ.get("CBW_TEST_CLOCK"):
    _true = time.time

    def _shifted(path: Path = Path(file)) -> float:
        return _true() + float(path.read_text())

    time.time = _shifted
    time.time_ns = lambda: int(_shifted() * 1e9)
