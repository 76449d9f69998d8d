"""What a codec is: one small class, which a program may write too."""

from __future__ import annotations

from typing import Any


class Codec:
    """How values become bodies, and bodies values. Subclass it, and give an object of yours as ``codec=`` of a task or a service.

    ``kind`` is the annotation of the value. A function with one parameter is given that value alone. The arguments of any other
    are one value: an object of a ``msgspec.Struct`` type, which has their names as fields.

    ::

        class Csv(cbw.Codec):
            def encode(self, value, kind):
                return "\\n".join(map(",".join, value)).encode()

            def decode(self, body, kind):
                return [line.split(",") for line in bytes(body).decode().splitlines()]
    """

    def encode(self, value: Any, kind: Any) -> bytes:
        """The body for ``value``.

        Raises:
            NotEncodable: it has none.
        """
        raise NotImplementedError

    def decode(self, body: bytes | memoryview, kind: Any) -> Any:
        """The value that ``body`` is, which may be anything: a stranger may have sent it. Whatever this raises says that the body
        does not fit. A memoryview is valid as long as something refers to it.
        """
        raise NotImplementedError

    def why_unusable(self, kind: Any) -> str:
        """Why no body can be a ``kind``, in words that follow a colon; empty: one can. A worker asks when it starts."""
        return ""
