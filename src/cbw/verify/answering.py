"""At which of its addresses each broker of a deployment answers, and which ones only stand by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from docker.models.containers import Container

MEET_S = 30.0
"""Time for all brokers together, and for all workers, to give their first answer; as much for one broker that is only slow."""
STANDS_BY = ("stands by:", "está en reserva:")
"""A broker that another one keeps from its journal prints this, in each language in which a role speaks."""
LINES = 100
"""Of the lines that a broker has printed, so many of the last ones are read: a standby prints few."""


def answering_of(
    brokers: Sequence[tuple[Container, Sequence[str]]], is_broker_at: Callable[[str, float], bool]
) -> list[str]:
    """The first address at which each of ``brokers``, with its addresses, answers; empty: it does not.

    When one answers, the silent ones that do not say that they stand by are asked again: on a busy machine they are only slow.
    """
    tried = sum(len(addresses) for _, addresses in brokers)
    answering = [_first(addresses, is_broker_at, MEET_S / max(1, tried)) for _, addresses in brokers]
    if any(answering):
        for number, (broker, addresses) in enumerate(brokers):
            if addresses and not answering[number] and not _stands_by(broker):
                answering[number] = _first(addresses, is_broker_at, MEET_S / len(addresses))
    return answering


def _first(addresses: Sequence[str], is_broker_at: Callable[[str, float], bool], patience_s: float) -> str:
    return next((address for address in addresses if is_broker_at(address, patience_s)), "")


def _stands_by(broker: Container) -> bool:
    printed = broker.logs(tail=LINES).decode(errors="replace")
    return any(words in printed for words in STANDS_BY)
