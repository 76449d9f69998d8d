"""A refused hello as an exception, for both kinds of peers."""

from __future__ import annotations

from cbw.core.messages import Refusal, Refused
from cbw.errors import CbwError, DuplicateId, UsageError, VersionMismatch


def refusal_error(refused: Refused) -> CbwError:
    """The exception for a hello that was refused for good."""
    match refused.reason:
        case Refusal.DUPLICATE_ID:
            return DuplicateId(refused.text)
        case Refusal.VERSION:
            return VersionMismatch(refused.text)
        case _:
            return UsageError(f"the broker refused us: {refused.text}")
