"""A message as it stands on a connection that libzmq has let go of."""

from __future__ import annotations

from cbw.transport.displaced import encode


def test_frames_with_what_comes_after_them() -> None:
    assert encode([b"", b"sorry"]) == b"\x01\x00\x00\x05sorry"


def test_a_long_frame_has_eight_bytes_of_size() -> None:
    assert encode([b"", bytes(256)]) == b"\x01\x00\x02" + (256).to_bytes(8, "big") + bytes(256)
    assert encode([bytes(255)]) == b"\x00\xff" + bytes(255)
