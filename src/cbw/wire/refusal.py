"""What the broker refuses, as exceptions: a hello that it did refuse, and names that it would."""

from __future__ import annotations

import contextlib

from cbw.core.identities import NAME_CHARS_MAX
from cbw.core.messages import Refusal, Refused
from cbw.errors import (
    CbwError,
    DuplicateId,
    KeyNotAllowed,
    KeysMissing,
    UsageError,
    VersionMismatch,
    WrongServerKey,
)


def checked_id(text: str) -> str:
    """``text``, if a peer may call itself so.

    Raises:
        UsageError: it is no text that UTF-8 can hold, empty, or longer than 200 characters.
    """
    return _checked(text, "an id", 1)


def checked_service(text: str) -> str:
    """``text``, if a service may be called so: like an id, or empty.

    Raises:
        UsageError: it may not.
    """
    return _checked(text, "a service", 0)


def checked_ticket(text: str) -> str:
    """``text``, if a ticket may be called so: like an id.

    Raises:
        UsageError: it may not.
    """
    return _checked(text, "a ticket", 1)


def _checked(text: object, what: str, chars_min: int) -> str:
    if isinstance(text, str) and chars_min <= len(text) <= NAME_CHARS_MAX:
        with contextlib.suppress(UnicodeEncodeError):
            text.encode()
            return str(text)
    advice = f"Give {chars_min} to {NAME_CHARS_MAX} characters of Unicode."
    raise UsageError(f"{repr(text)[:NAME_CHARS_MAX]} cannot be {what}", advice=advice)


def refusal_error(refused: Refused) -> CbwError:
    """The exception for a hello that was refused for good."""
    match refused.reason:
        case Refusal.DUPLICATE_ID:
            return DuplicateId(refused.text)
        case Refusal.VERSION:
            return VersionMismatch(refused.text)
        case Refusal.KEY:
            return KeyNotAllowed(refused.text)
        case Refusal.WRONG_SERVER_KEY:
            return WrongServerKey(refused.text)
        case Refusal.KEYS_MISSING:
            return KeysMissing(refused.text)
        case _:
            return UsageError(f"the broker refused us: {refused.text}")
