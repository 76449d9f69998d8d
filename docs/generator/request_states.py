"""The states of a request as a diagram and as a table."""

from __future__ import annotations

from cbw.core.broker import states

from .markdown import cell, commented, table


def state_diagram() -> str:
    """The transition table as a mermaid diagram. Events with the same states share one arrow."""
    arrows: dict[tuple[states.RequestState, states.RequestState], list[str]] = {}
    for event, state_list in states.TRANSITIONS.items():
        for before, after in state_list.items():
            arrows.setdefault((before, after), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {states.ACCEPTED.name}: accepted"]
    for (before, after), event_list in arrows.items():
        lines.append(f"    {before.name} --> {after.name}: {', '.join(event_list)}")
    return "\n".join([*lines, f"    {states.RequestState.ENDED.name} --> [*]", "```"])


def state_table() -> str:
    """The table of states and events. A dash means that the event cannot happen in that state."""
    rows = [
        [
            f"**{state.name}**",
            *(_after(state_list.get(state)) for state_list in states.TRANSITIONS.values()),
            cell(comment),
        ]
        for state, comment in commented(states.RequestState)
        if state is not states.RequestState.ENDED
    ]
    return table(["state", *states.TRANSITIONS, "meaning"], rows)


def _after(state: states.RequestState | None) -> str:
    return "-" if state is None else state.name
