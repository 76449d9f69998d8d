"""Where a journal in NATS is: ``nats://HOST:PORT,…/NAME?…``, the value of ``cbw broker --journal``."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from cbw.errors import UsageError

SCHEMES = ("nats", "tls")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FILES = ("credentials", "ca", "certificate", "key")
_EXAMPLE = "Write it like nats://n1:4222,n2:4222,n3:4222/NAME?credentials=/run/secrets/nats.creds"


def is_nats(text: str) -> bool:
    """Whether ``text`` names a journal in NATS, and not a folder."""
    return text.partition("://")[0] in SCHEMES and "://" in text


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """The servers of a NATS system and the name of a journal there."""

    servers: tuple[str, ...]
    name: str
    replicas: int = 0
    """Of a stream that is made; 0: 3 in a cluster, else 1."""
    credentials: str = ""
    """File with a user's JWT and seed, as ``nsc`` writes it."""
    ca: str = ""
    """File with the certificates that the servers' are signed by; empty: those that the system trusts."""
    certificate: str = ""
    """File with this side's own certificate, and ``key`` with its key."""
    key: str = ""

    @classmethod
    def of(cls, text: str) -> NatsPlace:
        """Read ``nats://HOST:PORT,HOST:PORT/NAME?replicas=3&credentials=FILE&ca=FILE&certificate=FILE&key=FILE``.

        Raises:
            UsageError: it is not written like that.
        """
        parts = urlsplit(text)
        name = parts.path.strip("/")
        if "@" in parts.netloc:
            raise UsageError(
                f"the address of the journal {name} has a password or a token in it, which every process list shows",
                advice="Put it into a file of credentials, and name that: …/NAME?credentials=FILE",
            )
        if "," in name:
            raise UsageError(
                f"{text!r} names several journals, and this is about one", advice="Name one of them: …/NAME"
            )
        if not parts.netloc or not _NAME.fullmatch(name):
            raise UsageError(
                f"{text!r} is no journal in NATS: it needs servers, and a name of letters, digits, _ and -",
                advice=_EXAMPLE,
            )
        servers = tuple(_server(parts.scheme, host, text) for host in parts.netloc.split(","))
        options: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
        if unknown := sorted(options.keys() - {"replicas", *_FILES}):
            raise UsageError(
                f"a journal in NATS has no option {unknown[0]!r}",
                advice=f"There are: replicas, {', '.join(_FILES)}.",
            )
        if "replicas" in options:
            if options["replicas"] not in ("1", "3", "5"):
                raise UsageError(f"a journal has 1, 3 or 5 replicas, not {options['replicas']}")
            options["replicas"] = int(options["replicas"])
        place = cls(servers, name, **options)
        for option in _FILES:
            if (path := getattr(place, option)) and not Path(path).is_file():
                raise UsageError(f"{option}={path} of the journal is no file that can be read")
        if bool(place.certificate) != bool(place.key):
            raise UsageError("a certificate and its key go together: …?certificate=FILE&key=FILE")
        return place

    @classmethod
    def all_of(cls, text: str) -> list[NatsPlace]:
        """Read the same with one name or several, ``…/NAME,NAME,…?…``: a place for each.

        Raises:
            UsageError: it is not written like that.
        """
        before, mark, options = text.partition("?")
        where, _, listed = before.rstrip("/").rpartition("/")
        names = listed.split(",")
        if len(set(names)) < len(names):
            raise UsageError(f"{text!r} names a journal twice", advice="Name each once: …/NAME,NAME")
        return [cls.of(f"{where}/{name}{mark}{options}") for name in names]

    @property
    def hosts(self) -> str:
        """The servers, for people."""
        return ", ".join(server.partition("://")[2] for server in self.servers)

    def tls(self) -> ssl.SSLContext | None:
        """What is to be trusted and shown if the servers want TLS.

        Raises:
            UsageError: a file is none of certificates.
        """
        if not self.ca and not self.certificate and not self.servers[0].startswith("tls"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.certificate:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"the certificates of the journal cannot be used: {error}") from None
        return context


def _server(scheme: str, host: str, text: str) -> str:
    try:
        port = urlsplit(f"//{host}").port
    except ValueError:
        port = -1
    if not host or port == -1:
        raise UsageError(f"{text!r} has no server {host!r} to connect to", advice=_EXAMPLE)
    return f"{scheme}://{host}" if port else f"{scheme}://{host}:4222"
