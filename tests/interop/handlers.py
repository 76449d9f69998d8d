"""What our own workers do in these tests."""


def sign(body: bytes) -> bytes:
    """The body and ``ours``, as the other programs answer with their names."""
    return body + b" ours"
