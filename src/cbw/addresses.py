"""Hosts and ports as people write them, on the command line and in the environment."""

from __future__ import annotations

import ipaddress
import os
import re

from cbw import service_links, settings
from cbw.errors import UsageError
from cbw.settings import BROKER_HOST, BROKER_PORT, Setting

Address = tuple[str, int]
"""Host, without the brackets of IPv6, and port."""


def addresses(text: str | None, role: str) -> list[Address]:
    """The addresses of all brokers in ``text``, separated by commas; each is read as :func:`address` does.

    Raises:
        UsageError: one of them is not valid.
    """
    if text is None:
        text = os.environ.get(BROKER_HOST.environment) or None
    parts = text.split(",") if isinstance(text, str) else [text]
    return list(dict.fromkeys(address(part.strip() if isinstance(part, str) else part, role) for part in parts))


def address(text: str | None, role: str) -> tuple[str, int]:
    """``(host, port)`` of the broker from ``"host:port"``, ``"[::1]:9998"``, ``"host"`` or None.

    What is missing comes from ``BROKER_HOST`` and ``BROKER_PORT``, else from the defaults for ``role``, which is ``client`` or
    ``worker``.

    Raises:
        UsageError: the text is not a valid address.
    """
    if text == "" or not isinstance(text, str | None):
        raise _no_host(text, BROKER_HOST)
    host, port = host_and_port(text or "")
    host = host or os.environ.get(BROKER_HOST.environment) or BROKER_HOST.default
    port = (
        port
        or service_links.ignored(BROKER_PORT.environment)
        or str(settings.CLIENT_PORT if role == "client" else settings.WORKER_PORT)
    )
    return checked_host(host, BROKER_HOST), checked_port(port, BROKER_PORT)


def host_and_port(text: str) -> tuple[str, str]:
    """The two parts of ``"host:port"``; what is not there is empty."""
    host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
    if ":" in host and not _is_ipv6(host):  # the last colon belongs to the IPv6 address
        return text, ""
    return host, port


def checked_host(text: str, setting: Setting) -> str:
    """``text`` if it is a valid host name or IP address; an IPv6 address is returned without its brackets.

    Raises:
        UsageError: the text is not valid. The advice names the environment variable of ``setting``.
    """
    if _is_ipv6(text):
        return text.strip("[]")
    if re.fullmatch(r"\w[\w.-]*", text):
        return text
    raise _no_host(text, setting)


def checked_port(port: int | str, setting: Setting) -> int:
    """``port`` as a number, if it is within the bounds of ``setting``.

    Raises:
        UsageError: it is not. The advice names the environment variable of ``setting``.
    """
    low, high = int(setting.minimum or 0), int(setting.maximum or 65535)
    text = str(port)
    if text.isascii() and text.isdigit() and len(text) <= len(str(high)) and low <= int(text) <= high:
        return int(text)
    raise UsageError(f"{port!r} is no port", advice=f"Give one from {low} to {high}, or check {setting.environment}.")


def _is_ipv6(host: str) -> bool:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        ipaddress.IPv6Address(bare)
    except ValueError:
        return False
    return True


def _no_host(text: object, setting: Setting) -> UsageError:
    advice = f"Give a name or an IP address, or check {setting.environment}."
    return UsageError(f"{text!r} is no host", advice=advice)
