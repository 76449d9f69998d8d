"""The language in which the lab's roles speak to people: English, or Spanish if the environment says so.

``CBW_LANG`` decides, else what decides for other programs: ``LANGUAGE``, ``LC_ALL``, ``LC_MESSAGES``, ``LANG``. The messages are
in ``locale/es/LC_MESSAGES/cbw.po``; after a change of it, ``python -m supply.messages`` makes the file that is read here.

What programs read stays as it is, in every language: the lines that say that a role has started (``serves clients on port``,
``works for``, ``logs to``), the demonstration worker's ``<id> begins <message>``, the client's ``<request> -> <answer>``, the
events of a trace, and JSON.
"""

from __future__ import annotations

import gettext
import os
from functools import cache
from pathlib import Path
from typing import Any

from cbw.settings import LANGUAGE

LOCALE = Path(__file__).with_name("locale")


def said(message: str, **fields: Any) -> str:
    """``message`` in the language of the environment, with ``fields`` in the places that ``{name}`` marks."""
    return _catalogue(os.environ.get(LANGUAGE.environment, "")).gettext(message).format(**fields)


@cache
def _catalogue(language: str) -> gettext.NullTranslations:
    return gettext.translation("cbw", LOCALE, [language] if language else None, fallback=True)
