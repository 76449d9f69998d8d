"""A client that no key lets in: it learns that from its own side, without a connection, and is over."""

from __future__ import annotations

import pytest

from cbw.core.client.standing import Standing
from cbw.core.messages import KEY_REFUSALS, Refusal, Refused, Status

from .test_core import DrivenClient


@pytest.mark.parametrize("reason", KEY_REFUSALS)
def test_without_a_connection(reason: Refusal) -> None:
    client = DrivenClient()
    client.submit(b"", now=0.0)
    ended = client.received(Refused(reason, "no"), now=0.1)
    assert [end.answer.status for end in ended] == [Status.FAILED] and ended[0].refused == Refused(reason, "no")
    assert client.core.standing is Standing.REFUSED
    assert client.received(Refused(reason, "again"), now=0.2) == []


@pytest.mark.parametrize("reason", sorted(set(Refusal) - set(KEY_REFUSALS)))
def test_any_other_refusal_is_of_the_connection_that_was_lost(reason: Refusal) -> None:
    client = DrivenClient()
    client.submit(b"", now=0.0)
    assert client.received(Refused(reason, "no"), now=0.1) == []
    assert client.core.standing is Standing.DISCONNECTED
