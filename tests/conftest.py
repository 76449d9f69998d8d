"""What all tests need."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background like this, and every program inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class TwoSides(LoadScopeScheduling):  # type: ignore[misc]
    """``pytest -n 2``: the tests of deployments, which wait for Docker most of the time, run beside all others."""

    def _split_scope(self, nodeid: str) -> str:
        return "deploy" if nodeid.startswith("tests/deploy/") else "here"


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> TwoSides:
    """How xdist shares the tests out."""
    return TwoSides(config, log)
