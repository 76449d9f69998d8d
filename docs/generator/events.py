"""The page of every event of the trace."""

from __future__ import annotations

from cbw.core.catalogue import EVENTS

from .markdown import cell, code, page, table


def events_page() -> str:
    """The page of every event of the trace."""
    rows = [
        [code(event), ", ".join(meaning.roles), meaning.level, cell(meaning.text)] for event, meaning in EVENTS.items()
    ]
    fields = (
        "Every record has the fields `at` (seconds since 1970), `event`, `role` and `sender` (the id of the role that made the "
        "record). It also has those of the fields `request`, `client`, `service`, `worker`, `task`, `attempt`, `text` and "
        "`count` that apply. The logger adds the `boot` of the sender and the number `seq` of the record. "
    )
    return page(
        "Events",
        fields
        + "Events of single requests are recorded only with `--verbose`, for a `--trace` file, or for a logger that receives "
        "the level `debug`; `--log-sample` selects a fraction of the requests. `attempt_failed` and `gave_up` are always "
        "recorded. [Read the log](../howto/read-the-log.md) shows how to find events.",
        table(["event", "recorded by", "level", "meaning"], rows),
    )
