"""What roles and logger say to each other: the vocabulary of CBWL/1, whose bytes are in :mod:`cbw.wire.log`."""

from __future__ import annotations

import msgspec


class Lines(msgspec.Struct, array_like=True, gc=False, tag=70):
    """Records ``first`` … ``first + count - 1`` of the sender's start ``boot``.

    ``oldest`` is the oldest record that the sender still has: what the logger misses before it is lost for ever.
    ``is_urgent``: the sender is about to end and waits for the acknowledgement, so the logger syncs at once.
    """

    sender: str
    boot: str
    first: int
    count: int
    oldest: int
    is_urgent: bool = False


class Ack(msgspec.Struct, array_like=True, gc=False, tag=71):
    """Records up to ``through`` of ``boot`` are on disk, as the logger's ``--fsync`` says. ``resend``: what was sent beyond
    was not taken; send it again. Every second the logger says ``through=0`` to senders whose records are not yet on disk, so
    that they know it lives.
    """

    boot: str
    through: int
    resend: bool = False


class Refused(msgspec.Struct, array_like=True, gc=False, tag=72):
    """The logger cannot read what the sender says, and why."""

    text: str
