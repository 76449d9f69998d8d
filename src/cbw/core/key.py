"""What a key allows: which ports its owner may connect to, and which services it may ask or serve."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cbw.core.messages import CONTROL, MANAGEMENT

ROLES = ("broker", "client", "worker", "logger", "admin")
"""What a key can be for. An ``admin`` is a client that may also control the broker (``cbw dead``)."""
FOR_CLIENTS, FOR_WORKERS, FOR_RECORDS, FOR_LINES = "clients", "workers", "records", "lines of text"
"""The ports, as they are called where keys are checked: the domains of ZAP (RFC 27)."""
ROLES_OF_PORT: Mapping[str, tuple[str, ...]] = {
    FOR_CLIENTS: ("client", "admin"),
    FOR_WORKERS: ("worker",),
    FOR_RECORDS: ROLES,
    FOR_LINES: ROLES,
}


class Key(msgspec.Struct, frozen=True):
    """Whose key it is, and what it allows. ``public`` is its public half in Z85; without ``services`` it is good for all."""

    role: str
    public: str
    name: str
    services: tuple[str, ...] = ()

    @property
    def fields(self) -> dict[str, str] | None:
        """What a record tells of it; None for anybody's."""
        return {"key": self.name} if self.name else None

    def opens(self, port: str) -> bool:
        """Whether its owner may connect to ``port``."""
        return self.role in ROLES_OF_PORT[port]

    def may_ask(self, service: str) -> bool:
        """Whether its owner may send requests to ``service``. Of the broker's own, only an admin may ask ``cbw.*``, and every
        client may ask ``mmi.*`` (RFC 8), which tells it of services that it may ask.
        """
        if service.startswith(CONTROL):
            return self.role == "admin"
        return not self.services or service in self.services or service.startswith(MANAGEMENT)

    def may_serve(self, service: str) -> bool:
        """Whether its owner may register ``service``."""
        return not self.services or service in self.services


ANYBODY = Key("admin", "", "")
"""Stands for every peer of a broker without keys."""
OPERATOR = Key("admin", "", "status token")
"""Stands for whoever has shown the token of the status pages."""
