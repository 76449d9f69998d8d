"""The messages of CBWL/1, between the roles and the logger. Their bytes are in :mod:`cbw.wire.log`."""

from __future__ import annotations

import hashlib

import msgspec

_PROVED = "p"
"""What a boot begins with that is the hash of a secret. Those of senders that prove nothing are hexadecimal digits."""
_HASH_BYTES = 16


def boot_of(proof: str) -> str:
    """The boot of a sender that has drawn the secret ``proof``.

    The boot stands in every line of the log. That its sender knows the secret shows a logger, also one that has just been
    started, that a batch is not from somebody who has read the log.
    """
    return _PROVED + hashlib.blake2b(proof.encode(errors="replace"), digest_size=_HASH_BYTES).hexdigest()


def is_proved(boot: str, proof: str) -> bool:
    """Whether a sender that knows ``proof`` may send records of ``boot``. A boot of another form needs no proof."""
    return not boot.startswith(_PROVED) or len(boot) != 1 + 2 * _HASH_BYTES or boot == boot_of(proof)


class BatchHeader(msgspec.Struct, array_like=True, gc=False, tag=70):
    """Announces records ``first`` to ``first + count - 1`` of the start ``boot`` of ``sender``.

    ``oldest`` is the oldest record that the sender still has; earlier ones that the logger lacks are lost for good.
    ``is_urgent``: the sender is about to end and waits for the acknowledgement, so the logger syncs at once. ``proof`` is the
    secret of which ``boot`` is the hash; it is kept and shown nowhere.
    """

    sender: str
    boot: str
    first: int
    count: int
    oldest: int
    is_urgent: bool = False
    proof: str = ""


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
