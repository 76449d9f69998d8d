"""Headers: texts that travel with a request beside its body, for whoever stands between a caller and a handler."""

from __future__ import annotations

from collections.abc import Mapping

HEADERS_MAX = 32
"""Most headers of a request. Tracing needs three; each is an entry in the tables of the broker."""
HEADERS_BYTES_MAX = 8192
"""Most bytes of all names and values of a request's headers, as web servers have it. What is larger belongs into the body."""
PER_HEADER_BYTES = 150
"""What each header takes of the broker's memory beside its characters: two texts, of some 50 bytes each, and its entry."""


TRACEPARENT = "traceparent"
"""The header of W3C's Trace Context that says of which trace a request is a part, and which span has sent it."""
TRACEPARENT_CHARS_MAX = 128
"""Longest such header that is recorded, in characters. Those of version 00 have 55; later ones may have more."""


def trace_of(headers: Mapping[str, str] | None) -> str:
    """The ``traceparent`` among them; empty: there is none, or a text that cannot be one."""
    found = "" if headers is None else headers.get(TRACEPARENT, "")
    return found if len(found) <= TRACEPARENT_CHARS_MAX else ""


def bytes_of_headers(headers: Mapping[str, str]) -> int:
    """The bytes of their names and values, in UTF-8."""
    return sum(
        len(name.encode(errors="replace")) + len(value.encode(errors="replace")) for name, value in headers.items()
    )


def memory_of_headers(headers: Mapping[str, str] | None) -> int:
    """The memory, in bytes, that the broker needs for them. A text may have four bytes a character."""
    if not headers:
        return 0
    return 4 * (sum(map(len, headers)) + sum(map(len, headers.values()))) + PER_HEADER_BYTES * len(headers)


def why_bad_headers(headers: Mapping[str, str]) -> str:
    """Why no request may have these headers; empty: one may."""
    if len(headers) > HEADERS_MAX:
        return f"{len(headers)} headers; a request has at most {HEADERS_MAX}"
    if (size := bytes_of_headers(headers)) > HEADERS_BYTES_MAX:
        return f"headers of {size} bytes; they have at most {HEADERS_BYTES_MAX} in all"
    return "" if all(headers) else "a header without a name"
