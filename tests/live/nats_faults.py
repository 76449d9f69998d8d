"""``python -m tests.live.nats_faults [NAME...]``: what faults of NATS servers, of brokers and of the ways between them cost.

Prints a table: for each fault how long no answer came, and when the standby served. Exit code 1: something was lost, or answered
twice.
"""

from __future__ import annotations

import io
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .conftest import programs
from .nats_system import ELSEWHERE, Outcome, System
from .program import PATIENCE_S

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
PUBLISH = b"cbw.journal.faults.batches"
"""Stands in every append of batches."""
OWNERSHIP = b"cbw.journal.faults.owner"
"""Stands in every append that says whose the journal is."""
CUT_S = 1.0
"""Too short for a standby to take the journal, which it does after 2 s."""
FAR_S = 0.25
"""On each way: an append takes half a second."""


# --- servers


def kill_the_leader(system: System) -> None:
    leader = system.leader()
    leader.stop()
    time.sleep(1.0)
    leader.start()


def freeze_the_leader(system: System) -> None:
    leader = system.leader()
    leader.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    leader.send_signal(signal.SIGCONT)


def take_two_of_three(system: System) -> None:
    for server in system.cluster.servers[:2]:
        server.stop()
    time.sleep(2.0)
    for server in system.cluster.servers[:2]:
        server.start()


def restart_one_by_one(system: System) -> None:
    for server in system.cluster.servers:
        server.stop(signal.SIGTERM)
        server.start()
        time.sleep(1.0)


# --- brokers


def kill_the_owner(system: System) -> None:
    system.owner.kill()
    system.wait_for_takeover()


def kill_the_owner_and_the_leader(system: System) -> None:
    leader = system.leader()
    leader.stop()
    system.owner.kill()
    leader.start()
    system.wait_for_takeover()


def kill_the_adopter(system: System) -> None:
    """The standby dies when it has made the journal its own, and before it has read it. A third broker goes on."""
    for relay in system.standby_relays:
        relay.cut_behind(OWNERSHIP)
    system.owner.kill()
    assert any_cut(system), "it takes the journal"
    system.standby.kill()
    for relay in system.standby_relays:
        relay.mend()
    system.wait_for_takeover(system.broker(ELSEWHERE, system.standby_relays))


# --- the ways between them


def cut_the_owner_off(system: System) -> None:
    """Its clients and workers reach it, the servers do not."""
    for relay in system.owner_relays:
        relay.cut()
    system.wait_for_takeover()
    for relay in system.owner_relays:
        relay.mend()
    assert system.owner.exit_code() == 6


def cut_the_owner_off_for_good(system: System) -> None:
    """It ends by itself when an append has stayed without an answer for half a minute."""
    for relay in system.owner_relays:
        relay.cut()
    system.wait_for_takeover()
    assert system.owner.exit_code() == 5


def cut_the_owner_off_behind_an_append(system: System) -> None:
    """What it has sent last is stored, and it is told so a second later."""
    for relay in system.owner_relays:
        relay.cut_behind(PUBLISH)
    assert any_cut(system), "it appends"
    time.sleep(CUT_S)
    for relay in system.owner_relays:
        relay.mend()


def lose_the_owner_behind_an_append(system: System) -> None:
    """What it has sent last is stored, and it never learns that."""
    for relay in system.owner_relays:
        relay.cut_behind(PUBLISH)
    assert any_cut(system), "it appends"
    system.owner.kill()
    system.wait_for_takeover()


def make_the_servers_slow(system: System) -> None:
    """Each append takes half a second."""
    for relay in system.owner_relays:
        relay.delay_s = FAR_S
    system.load.wait_for_more()
    for relay in system.owner_relays:
        relay.delay_s = 0.0


def any_cut(system: System) -> bool:
    """Wait until one of the relays is cut; which one a broker uses only that broker knows."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for relay in (*system.owner_relays, *system.standby_relays):
            if relay.wait_for_the_cut(0.01):
                return True
    return False


@dataclass(frozen=True)
class Fault:
    """``harm`` is done to a system whose brokers have these variables."""

    harm: Callable[[System], None]
    owner: Mapping[str, Any] = field(default_factory=dict)
    standby: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.harm.__name__.replace("_", " ")

    def outcome(self, system: System) -> Outcome:
        """Run ``system``, harm it, and see what became of its requests."""
        with system:
            system.run(self.owner, self.standby)
            self.harm(system)
            return system.outcome()


FAULTS = tuple(
    map(
        Fault,
        (
            kill_the_leader,
            freeze_the_leader,
            take_two_of_three,
            restart_one_by_one,
            kill_the_owner,
            kill_the_owner_and_the_leader,
            kill_the_adopter,
            cut_the_owner_off,
            cut_the_owner_off_behind_an_append,
            lose_the_owner_behind_an_append,
            make_the_servers_slow,
        ),
    )
)
SLOW_FAULTS = (Fault(cut_the_owner_off_for_good),)
"""Not for every run of the tests."""


def main(names: list[str]) -> int:
    print("| fault | requests | lost | answered twice | run again | no answer for | standby serves after |")
    print("|---|---|---|---|---|---|---|", flush=True)
    is_kept = True
    for fault in (*FAULTS, *SLOW_FAULTS):
        if names and fault.name.replace(" ", "_") not in names:
            continue
        with tempfile.TemporaryDirectory(prefix="cbw-nats-") as folder, redirect_stdout(io.StringIO()):
            with programs() as start:
                found = fault.outcome(System(Path(folder), start))
        is_kept &= not found.lost and not found.twice
        takeover = "-" if found.takeover_s is None else f"{found.takeover_s:.1f} s"
        row = (fault.name, found.answered, len(found.lost), found.twice, found.executed_again, f"{found.stall_s:.1f} s", takeover)
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
