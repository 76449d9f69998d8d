"""What listens at an address where no broker answers: found out with plain TCP, and no message is sent.

A ZeroMQ socket says what it is before any message passes: both sides send a greeting of 64 bytes (ZMTP 3.1, RFC 37), and
then, if no keys are wanted, a command READY with the type of the socket. Of another server we hear what it says by itself,
or to a request of HTTP.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time

import msgspec

from cbw.visible import visible

CONNECT_S = 3.0
"""Time to connect: a host that runs needs far less, a firewall that drops packets never answers."""
LISTEN_S = 1.0
"""Time for the first words of what listens: a program that runs has said them after milliseconds."""
_SIGNATURE = b"\xff" + 8 * b"\0" + b"\x7f"
_GREETING = _SIGNATURE + b"\x03\x00" + b"NULL".ljust(20, b"\0") + 32 * b"\0"
_BEGINNING = 12
"""Bytes of the greeting up to its version. libzmq waits for these, and hangs up at the rest if it wants keys and we have none:
so the rest is sent when its own greeting is here."""
_HTTP_REQUEST = b"HEAD / HTTP/1.0\r\n\r\n"
_SOCKET_TYPE = b"Socket-Type"
_SAID_MAX = 1024
_QUOTED_MAX = 40


class Listener(msgspec.Struct, frozen=True):
    """What listens at an address.

    ``kind`` is ``nothing``, ``unreached`` (packets are dropped on the way), ``silent``, ``http``, ``other``, or the type of a
    ZeroMQ socket in capitals, as ``ROUTER``; ``ZMQ`` if its type is not known, ``CURVE`` if it wants keys. ``text`` completes
    "at this address ...".
    """

    kind: str
    text: str

    @property
    def is_there(self) -> bool:
        """Whether anything listens."""
        return self.kind not in ("nothing", "unreached")

    @property
    def speaks_zeromq(self) -> bool:
        """Whether it is a socket of ZeroMQ."""
        return self.kind.isupper()


def what_listens(host: str, port: int) -> Listener:
    """Ask what listens there. Takes up to 3 s to connect, and up to 1 s to hear something, twice.

    It never raises: a host that does not resolve is ``nothing``.
    """
    try:
        heard = _heard(host, port, _GREETING[:_BEGINNING], _GREETING[_BEGINNING:])
    except ConnectionRefusedError:
        return Listener("nothing", "nothing listens")
    except (OSError, UnicodeError) as error:
        if isinstance(error, TimeoutError) or getattr(error, "errno", None) == errno.ETIMEDOUT:
            return Listener(
                "unreached",
                f"nobody answers within {CONNECT_S:g} s: a firewall, or the host is off",
            )
        why = error.strerror if isinstance(error, OSError) and error.strerror else "not a host name"
        return Listener("nothing", f"nothing can be reached: {why}")
    if heard[:1] == _SIGNATURE[:1]:
        return _zeromq(heard)
    try:
        answer = heard if heard.startswith(b"HTTP/") else _heard(host, port, _HTTP_REQUEST) or heard
    except OSError:
        answer = heard
    if answer.startswith(b"HTTP/"):
        server = _server_of(answer)
        return Listener("http", f"a web server listens ({f'HTTP: {server}' if server else 'HTTP'})")
    if answer:
        first = answer.splitlines()[0][:_QUOTED_MAX]
        return Listener("other", f"a program listens that does not speak ZeroMQ; it says {_quoted(first)}")
    return Listener("silent", "something listens that says nothing")


def _heard(host: str, port: int, words: bytes, rest: bytes = b"") -> bytes:
    """What is said to ``words``, and to ``rest`` once a greeting has come, until nothing more comes."""
    heard = b""
    with socket.create_connection((host, port), CONNECT_S) as peer:
        until = time.monotonic() + LISTEN_S
        with contextlib.suppress(OSError):  # it hangs up on us, or says no more
            peer.sendall(words)
            while len(heard) < _SAID_MAX and (left := until - time.monotonic()) > 0:
                peer.settimeout(left)
                part = peer.recv(_SAID_MAX)
                heard += part
                if not part or _is_told(heard):
                    break
                if rest and heard[:1] == _SIGNATURE[:1] and len(heard) >= len(_GREETING):
                    peer.sendall(rest)
                    rest = b""
    return heard


def _mechanism_of(greeting: bytes) -> bytes:
    return greeting[12:32].rstrip(b"\0")


def _is_told(heard: bytes) -> bool:
    """Whether this is all that we want to know."""
    if heard[:1] != _SIGNATURE[:1]:
        return heard.startswith(b"HTTP/") and b"\r\n\r\n" in heard
    ready = heard[len(_GREETING) :]
    is_ready = len(ready) > 1 and len(ready) >= 2 + ready[1]
    return len(heard) >= len(_GREETING) and (_mechanism_of(heard) != b"NULL" or is_ready)


def _zeromq(greeting: bytes) -> Listener:
    if _mechanism_of(greeting) == b"CURVE":
        return Listener("CURVE", "a socket of ZeroMQ listens that wants keys")
    _, _, value = greeting[len(_GREETING) :].partition(_SOCKET_TYPE)
    kind = (
        value[4 : 4 + value[3]] if len(value) > 4 else b""
    )  # its length is four bytes, of which only the last is used
    name = kind.decode() if kind.isalpha() and kind.isupper() else "ZMQ"
    match name:
        case "ROUTER":
            text = (
                "a ROUTER socket of ZeroMQ listens that does not answer in CBW/1: a broker of another kind, perhaps one of the "
                "lab, which serves only programs of the lab"
            )
        case "PULL":
            text = "a PULL socket of ZeroMQ listens, which only takes in: a logger, perhaps"
        case "ZMQ":
            text = "a socket of ZeroMQ listens"
        case _:
            text = f"a {name} socket of ZeroMQ listens, which is no broker"
    return Listener(name, text)


def _server_of(answer: bytes) -> str:
    for line in answer.splitlines()[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"server":
            return visible(value.strip()[:_QUOTED_MAX].decode(errors="replace"))
    return ""


def _quoted(words: bytes) -> str:
    return f"{visible(words.decode(errors='backslashreplace'))!r}"
