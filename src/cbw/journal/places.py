"""Which back end a journal has: a folder of this machine, or a stream of NATS servers, or any of several streams."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from cbw.errors import UsageError
from cbw.journal.file import FILE, FileJournal
from cbw.journal.nats_choice import NatsChoice
from cbw.journal.nats_place import NatsPlace, is_nats

if TYPE_CHECKING:
    from cbw.journal.nats import NatsJournal


def journal_at(
    where: str, owner: str, sync: Literal["full", "normal"] = "full"
) -> FileJournal | NatsJournal | NatsChoice:
    """The journal at ``where``, the value of ``cbw broker --journal``; ``owner`` is who will write it.

    Raises:
        UsageError: ``where`` is neither a folder nor a place in NATS, or nats-py is not installed.
    """
    if is_nats(where):
        nats = require_nats()
        journals: list[NatsJournal] = [nats.NatsJournal(place, owner) for place in NatsPlace.all_of(where)]
        return journals[0] if len(journals) == 1 else NatsChoice(journals)
    return _folder_at(where, sync)


def _folder_at(where: str, sync: Literal["full", "normal"] = "full") -> FileJournal:
    if "://" in where:
        raise UsageError(
            f"there are no journals at {where.partition('://')[0]}://",
            advice="Give a folder, or nats://HOST:PORT/NAME.",
        )
    return FileJournal(Path(where), sync)


def existing_journal_at(where: str) -> FileJournal | NatsJournal:
    """The journal that is to be looked into: none is made. In NATS it is found missing when it is opened.

    Raises:
        UsageError: as :func:`journal_at`, and if there is none.
    """
    if is_nats(where):
        journal: NatsJournal = require_nats().NatsJournal(NatsPlace.of(where), "cbw journal", makes=False)
        return journal
    folder = _folder_at(where)
    if not folder.path.exists():
        raise UsageError(
            f"no journal in {where}: {FILE} is not there", advice="Give what cbw broker --journal was given."
        )
    return folder


def require_nats() -> ModuleType:
    """The module for journals in NATS.

    Raises:
        UsageError: nats-py is not installed.
    """
    try:
        from cbw.journal import nats
    except ImportError:
        raise UsageError("a journal in NATS needs nats-py", advice="Install it: pip install 'cbw[nats]'") from None
    return nats
