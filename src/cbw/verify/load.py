"""The load of a verification, which is sent again where only clients and workers can tell who was free meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from cbw.core import catalogue
from cbw.verify.notebook import Notebook

LOAD_TRIES = 3
"""Loads, at most, until one shows no free worker: a busy machine makes some of them look wrong. A broker that leaves workers free
does so each time."""


def send_load(
    send: Callable[[], bool],
    is_nobody_idle: Callable[[], bool],
    notebook: Notebook,
    say: Callable[[str], None],
    doubt: str = "a worker looks free for too long",
) -> bool:
    """``send`` the load, and again if somebody looks idle, which is told with ``doubt``. False: ``send`` has failed."""
    for left in reversed(range(LOAD_TRIES)):
        if not send():
            return False
        if not left or is_nobody_idle():
            break
        say(f"{doubt}: once more")
        notebook.note(catalogue.LOAD_REPEATED)
    return True
