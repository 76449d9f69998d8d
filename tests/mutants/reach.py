"""Which functions of the cores a test calls, so that a mutant is shown only to the tests that can notice it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

from .mutation import module_of

CORE = Path(__file__).parents[2] / "src" / "cbw" / "core"


@contextmanager
def calls_recorded(called: dict[tuple[str, str], None]) -> Iterator[None]:
    """Note the module and the qualified name of every function of a core that is called meanwhile."""
    seen: set[CodeType] = set()
    top = str(CORE)

    def note(frame: FrameType, event: str, argument: object) -> None:
        code = frame.f_code
        if event == "call" and code not in seen:
            seen.add(code)
            if code.co_filename.startswith(top):
                name = code.co_qualname.partition(".<locals>")[0]
                called[module_of(Path(code.co_filename)), name] = None

    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(None)
