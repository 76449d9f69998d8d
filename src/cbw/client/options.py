"""What a caller can say of a request, and what of it is wrong."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from types import EllipsisType
from typing import Any

from cbw import codec
from cbw.core import messages
from cbw.core.headers import why_bad_headers
from cbw.errors import UsageError
from cbw.visible import writable

Timeout = float | EllipsisType | None
"""Seconds that a request may take; None: for ever; ``...``: as many as its client was made with."""
Headers = Mapping[str, str] | None
"""Texts that travel with a request, by their names."""


def seconds_of(timeout: float | None, what: str = "the timeout") -> float:
    """``timeout`` as a number of seconds, at least 0; infinity for None.

    Raises:
        UsageError: ``timeout`` is no number. The error calls it ``what``.
    """
    if timeout is None:
        return math.inf
    if not isinstance(timeout, (float, Real)) or timeout != timeout:  # which is NaN
        raise UsageError(f"{what} is {timeout!r}; it must be a number of seconds, or None to wait for ever")
    try:
        return max(0.0, float(timeout))
    except OverflowError:  # a whole number beyond all floats
        return math.inf


def check_priority(priority: int) -> None:
    """Raise if no request may have this ``priority``.

    Raises:
        UsageError: it is no whole number from 0 to 9.
    """
    if type(priority) is not int or not 0 <= priority <= messages.PRIORITY_MAX:
        text = f"from 0 to {messages.PRIORITY_MAX}, which is served first"
        raise UsageError(f"the priority is {priority!r}; it must be a whole number {text}")


def checked_delay(delay_s: float, timeout_s: float) -> float:
    """``delay_s``, if a request that may take ``timeout_s`` seconds can be handed out so much later.

    Raises:
        UsageError: it is no number of seconds, or not below ``timeout_s``.
    """
    if not isinstance(delay_s, (float, Real)) or not 0 <= delay_s <= messages.DELAY_S_MAX:
        text = f"a number of seconds, at most {messages.DELAY_S_MAX:.0f}"
        raise UsageError(f"the delay is {delay_s!r}; it must be {text}")
    if delay_s >= timeout_s:
        text = f"the delay is {delay_s:g} s, and the request may take only {timeout_s:g} s in all"
        raise UsageError(text, advice="Give a longer timeout, or None to wait for ever.")
    return float(delay_s)


def check_returns(kind: Any) -> None:
    """See that an answer can be read as ``kind``, before the work is done for nothing.

    Raises:
        UsageError: none can.
    """
    if reason := codec.why_unusable(kind):
        shown = getattr(kind, "__qualname__", None) or repr(kind)
        raise UsageError(f"returns is {shown}, which no answer can be read as: {reason}")


def checked_headers(headers: Headers) -> dict[str, str] | None:
    """``headers``, if a request may have them. None: there are none.

    Raises:
        UsageError: they are no texts by name, or none that UTF-8 can hold, too many or too long.
    """
    if not headers:
        return None
    try:
        texts = dict(headers)
        are_texts = all(isinstance(text, str) and writable(text) == text for item in texts.items() for text in item)
    except (TypeError, ValueError):  # no mapping
        are_texts = False
    if not are_texts:
        raise UsageError(f"the headers are {headers!r}; names and values must be texts that UTF-8 can hold")
    if why := why_bad_headers(texts):
        raise UsageError(why, advice="Send what is larger in the body.")
    return texts
