"""Metrics of your own program for Prometheus: of a :class:`cbw.Client`, :class:`cbw.AsyncClient` or :class:`cbw.Worker` in it.

::

    with cbw.Client() as client, cbw.metrics.serve(client, port=9997):
        ...

A program that serves metrics already adds those of cbw to them: ``REGISTRY.register(cbw.metrics.collector(client))``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, Self

from cbw.errors import CannotBind
from cbw.observe.status import StatusServer
from cbw.settings import STATUS, STATUS_PORT, default_of

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

__all__ = ["MetricsServer", "Watched", "collector", "serve"]


class Watched(Protocol):
    """A :class:`cbw.Client`, :class:`cbw.AsyncClient` or :class:`cbw.Worker`."""

    def status(self) -> dict[str, Any] | None:
        """Its state, in the form of ``/status.json``; None: it does not run, or is stuck. Safe from any thread."""


class MetricsServer:
    """Serves the pages of :func:`serve` on ``port`` until :meth:`close`, or until its ``with`` statement ends."""

    def __init__(self, server: StatusServer) -> None:
        self._server = server
        self.port = server.port

    def close(self) -> None:
        """Close the port. It may take half a second, for which nobody waits."""
        self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def serve(
    watched: Watched, *, port: int = STATUS_PORT, host: str = default_of(STATUS, "status_listen"), token: str = ""
) -> MetricsServer:
    """Serve ``/metrics`` of a client or a worker of this program over HTTP, and ``/livez``, ``/readyz`` and ``/status.json`` too.

    ``port`` 0 takes a free one, which the server tells. ``host`` is the address to listen on, by default this machine alone;
    ``"*"`` is every address. With a ``token``, ``/metrics`` and ``/status.json`` are for who shows it (``Authorization: Bearer
    TOKEN``). The pages are served by threads of their own; close the server before what it watches.

    Raises:
        CannotBind: the port is taken, or this user may not use it.
    """
    try:
        return MetricsServer(StatusServer(watched.status, host, port, token))
    except CannotBind as error:
        raise CannotBind(str(error), advice="Give another port, or 0 for a free one.") from None


def collector(watched: Watched) -> Collector:
    """The metrics of a client or a worker of this program, for a registry of ``prometheus_client``: ``registry.register(...)``.

    A registry takes one client and one worker: the metrics of two would have the same names.
    """
    from cbw.observe.metrics import StatusCollector  # here: prometheus_client takes time to import

    return StatusCollector(watched.status)
