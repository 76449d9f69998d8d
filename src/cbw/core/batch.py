"""The messages of CBWL/1, between the roles and the logger. Their bytes are in :mod:`cbw.wire.log`."""

from __future__ import annotations

import msgspec


class BatchHeader(msgspec.Struct, array_like=True, gc=False, tag=70):
    """Announces records ``first`` to ``first + count - 1`` of the start ``boot`` of ``sender``.

    ``oldest`` is the oldest record that the sender still has; earlier ones that the logger lacks are lost for good.
    ``is_urgent``: the sender is about to end and waits for the acknowledgement, so the logger syncs at once.
    """

    sender: str
    boot: str
    first: int
    count: int
    oldest: int
    is_urgent: bool = False


class Ack(msgspec.Struct, array_like=True, gc=False, tag=71):
    """Records up to ``through`` of ``boot`` are on disk, in the sense of the logger's ``--fsync``.

    ``resend`` asks the sender to send everything again that is not acknowledged. While records are not yet on disk the
    logger says ``through=0`` every second, which acknowledges nothing and shows that it is alive.
    """

    boot: str
    through: int
    resend: bool = False


class BatchRefused(msgspec.Struct, array_like=True, gc=False, tag=72):
    """The logger took nothing of a batch, because it is not valid; ``text`` says why."""

    text: str
