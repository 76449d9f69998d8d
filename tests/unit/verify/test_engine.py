"""What is asked of the Docker engine again."""

from __future__ import annotations

from typing import Any

import pytest
from docker.errors import APIError

from cbw.verify import engine

BUSY = "cannot pause container c: OCI runtime pause failed: unable to freeze: unknown"


class Reluctant:
    """A container whose engine refuses to freeze it, with each of ``refusals`` once."""

    def __init__(self, *refusals: str) -> None:
        self.refusals = list(refusals)
        self.is_frozen = False

    def pause(self) -> None:
        if self.refusals:
            raise APIError(self.refusals.pop(0))
        self.is_frozen = True


@pytest.mark.parametrize(
    ("refusals", "is_frozen"), [([], True), ([BUSY, BUSY], True), (3 * [BUSY], False), (["no such container"], False)]
)
def test_freezing(refusals: list[str], is_frozen: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "FREEZE_AGAIN_S", 0.0)
    container: Any = Reluctant(*refusals)
    if is_frozen:
        engine.freeze(container)
    else:
        with pytest.raises(APIError):
            engine.freeze(container)
    assert container.is_frozen is is_frozen
