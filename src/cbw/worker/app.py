"""The services that a program's modules define: ``cbw worker --app``, and ``app.py``, which is found without being named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from cbw.contract.service import Contract, Service
from cbw.errors import UsageError
from cbw.worker.handler import load, load_module

APP = Path("app.py")
"""The file whose services are served if nothing else is named. Flask and others look for it, too."""
_IMPORTS_CBW = re.compile(r"^\s*(import|from) cbw\b", re.MULTILINE)


def services_of(apps: Sequence[str], *, is_alone: bool) -> list[Service]:
    """The services at each of ``apps``, written ``module`` or ``module:name``. If there are none, and ``is_alone``, those of
    :data:`APP`, if that imports cbw: to import another's would do who knows what.

    Raises:
        UsageError: a module does not import, or there is no service.
    """
    if not apps and is_alone and APP.is_file() and _IMPORTS_CBW.search(APP.read_text(errors="replace")):
        return _in_module(APP.stem)
    return [service for app in apps for service in _at(app)]


def _at(app: str) -> list[Service]:
    if ":" in app:
        found = load(app)
        if isinstance(found, Contract):
            module = app.partition(":")[0]
            raise UsageError(
                f"{app} is one task, and no cbw.Service", advice=f"Serve all of its service: --app {module}."
            )
        if not isinstance(found, Service):
            raise UsageError(f"{app} is a {type(found).__name__}, and no cbw.Service", advice=_ADVICE)
        return [found]
    services = _in_module(app)
    if not services:
        raise UsageError(f"{app} has no cbw.Service", advice=_ADVICE)
    return services


def _in_module(name: str) -> list[Service]:
    found = [value for value in vars(load_module(name)).values() if isinstance(value, Service)]
    return list(dict.fromkeys(found))


_ADVICE = 'Define one there: shop = cbw.Service("shop").'
