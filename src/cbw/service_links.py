"""Variables that Kubernetes sets in every pod for each service, and that look like ours.

Of a service called ``broker`` it sets ``BROKER_PORT=tcp://10.96.0.12:9998``. Nobody has meant that for us, and the port in it is
one of several: that for clients is no good for a worker. So it counts as not set.
"""

from __future__ import annotations

import os
import re

LINKED = ("BROKER_PORT", "LOGGER_PORT", "CBW_STATUS_PORT")
"""Our variables that services called ``broker``, ``logger`` and ``cbw-status`` set."""
_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")


def ignored(name: str) -> str:
    """What the variable ``name`` says; empty if it is not set, or is such a link."""
    text = os.environ.get(name, "")
    return "" if _LINK.fullmatch(text) else text


def forget() -> None:
    """Take all such links out of the environment, before the command line reads it."""
    for name in LINKED:
        if not ignored(name):
            os.environ.pop(name, None)
