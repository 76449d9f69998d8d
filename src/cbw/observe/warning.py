"""A line on stderr for whoever runs a role."""

from __future__ import annotations

import contextlib
import sys

from cbw.clock import stamp
from cbw.visible import visible


def warn(text: str) -> None:
    """Print ``text`` on stderr. If nobody reads it, or it cannot be printed, the role goes on all the same."""
    with contextlib.suppress(OSError, ValueError):
        print(stamp() + visible(text), file=sys.stderr, flush=True)
