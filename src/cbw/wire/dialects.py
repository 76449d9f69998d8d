"""The table of dialects: which objects read what arrives at each port of the broker."""

from __future__ import annotations

from cbw.core.dialect import ClientDialect, Dialect, WorkerDialect
from cbw.core.port import Frames
from cbw.errors import BadMessage
from cbw.wire import lab, majordomo_01, majordomo_02, native, paranoid_pirate

CLIENTS: tuple[ClientDialect, ...] = (
    native.CLIENT,
    majordomo_02.MAJORTOMO_CLIENT,
    majordomo_02.CLIENT,
    majordomo_01.CLIENT,
    lab.CLIENT,
)
"""The dialects of the client port. The first that recognises a message reads it; the last takes whatever is left."""
WORKERS: tuple[WorkerDialect, ...] = (
    native.WORKER,
    *lab.WORKERS,
    majordomo_02.WORKER,
    majordomo_02.WORKER_WITH_EMPTY_FRAME,
    majordomo_01.WORKER,
    paranoid_pirate.WORKER,
)
"""The dialects of the worker port. Messages that none recognises are of the dialect in which their sender registered."""


def of_client(frames: Frames) -> ClientDialect:
    """The dialect of a message that arrived at the client port."""
    for dialect in CLIENTS:
        if dialect.recognises(frames):
            return dialect
    raise AssertionError("the last one takes whatever is left")


def of_worker(frames: Frames) -> WorkerDialect | None:
    """The dialect that a message at the worker port shows; None if it shows none."""
    for dialect in WORKERS:
        if dialect.recognises(frames):
            return dialect
    return None


def of_answer(frames: Frames) -> WorkerDialect | None:
    """The dialect of a REQ worker whose first word is an answer, to an earlier broker's task; None: it is none."""
    return next((dialect for dialect in lab.WORKERS if dialect.is_answer(frames)), None)


def client_named(name: str) -> ClientDialect | None:
    """The dialect of clients that a journal calls ``name``; None if this version knows none."""
    return next((dialect for dialect in CLIENTS if dialect.name == name), None)


def worker_named(name: str) -> WorkerDialect | None:
    """The dialect of workers that a journal calls ``name``; None if this version knows none."""
    return next((dialect for dialect in WORKERS if dialect.name == name), None)


def is_for_other_port(frames: Frames, *, is_client_port: bool) -> bool:
    """Whether a message that makes no sense at one port would at the other: an easy mistake, and worth a clear word."""
    others: tuple[Dialect, ...] = WORKERS if is_client_port else CLIENTS
    for dialect in others:
        if dialect.is_self_describing and dialect.recognises(frames):
            try:
                dialect.read(b"?", frames)
            except BadMessage:
                continue
            return True
    return False
