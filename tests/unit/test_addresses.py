"""Addresses as programs give them: what is none is told so, whatever its type."""

from __future__ import annotations

from typing import Any

import pytest

from cbw.addresses import addresses
from cbw.errors import UsageError


@pytest.mark.parametrize("text", [9998, ("localhost", 9998), b"localhost", "", "a,,b", "tcp://a:1"])
def test_what_is_no_address(text: Any) -> None:
    with pytest.raises(UsageError, match=" is no host"):
        addresses(text, "client")


def test_several() -> None:
    assert addresses("a:1, [::1]:2,a:1", "client") == [("a", 1), ("::1", 2)]
