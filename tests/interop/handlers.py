"""What our own workers do in these tests."""

from collections.abc import Iterator


def sign(body: bytes) -> bytes:
    """The body and ``ours``, as the other programs answer with their names."""
    return body + b" ours"


def spell(body: bytes) -> Iterator[str]:
    """Each letter of the body is a part of the answer."""
    yield from body.decode()


def count(to: int) -> Iterator[int]:
    """Many parts."""
    yield from range(to)
