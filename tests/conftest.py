"""What all tests need."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell without job control starts what it puts into the background like this, and every program inherits it.
    signal.signal(signal.SIGINT, signal.default_int_handler)


DEPLOY = Path(__file__).parent / "deploy"


def pytest_itemcollected(item: pytest.Item) -> None:
    """With ``-n 2 --dist loadgroup`` (``make test``) those that wait for Docker, most of the time, run beside all others."""
    item.add_marker(pytest.mark.xdist_group("deploy" if DEPLOY in item.path.parents else "here"))
