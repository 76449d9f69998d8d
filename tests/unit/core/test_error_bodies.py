"""The body of an answer that is an error: what is written, and what is read of one that somebody else has written."""

from __future__ import annotations

import msgspec
import pytest

from cbw.core.messages import ErrorParts, error_body, error_of, error_parts


def test_it_is_read_as_it_was_written() -> None:
    assert error_of(error_body("kind", "text")) == ("kind", "text")
    assert error_parts(error_body("kind", "text")) == ErrorParts("kind", "text")
    assert error_parts(error_body("kind", "text", "traceback")) == ErrorParts("kind", "text", "traceback")
    assert error_parts(error_body("kind", "", data="null")) == ErrorParts("kind", "", "", "null")


def test_more_than_is_known_is_passed_over() -> None:
    body = msgspec.msgpack.encode(("kind", "text", "traceback", "{}", "more"))
    assert error_of(body) == ("kind", "text") and error_parts(body) == ErrorParts("kind", "text", "traceback", "{}")


@pytest.mark.parametrize("value", [("kind",), (), ("kind", 1), {"kind": "text"}, 7, None, ("kind", "text", b"x")])
def test_what_is_no_error_is_a_text(value: object) -> None:
    body = msgspec.msgpack.encode(value)
    assert error_parts(body) == ErrorParts("error", body.decode("utf-8", "replace"))


@pytest.mark.parametrize("body", [b"", b"plain text", b"\xff\xfe", b"\x92\xa1\xff\xa1x"])
def test_bytes_that_are_no_message_are_a_text(body: bytes) -> None:
    assert error_parts(body) == ErrorParts("error", body.decode("utf-8", "replace"))
