"""What the tests of the broker's core begin with, unless they say otherwise."""

from __future__ import annotations

import pytest

from tests.unit.core.broker.driven import Broker
from tests.unit.core.broker.system import CoreSystem


@pytest.fixture
def system() -> CoreSystem:
    """A broker's core, and one client of CBW/1, C1."""
    system = CoreSystem()
    system.client()
    return system


@pytest.fixture
def broker() -> Broker:
    """A broker's driver between two ports in memory."""
    return Broker()
