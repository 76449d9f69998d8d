"""``python -m tests.live.nats_faults [NAME...]``: what faults of NATS servers, of brokers and of the ways between them cost.

Prints a table: for each fault how long no answer came, and when the standby served. Exit code 1: something was lost, or answered
twice.
"""

from __future__ import annotations

import io
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .conftest import Start, programs
from .nats_system import ELSEWHERE, NatsSystem, Outcome
from .program import PATIENCE_S, wait_until

CLOCK = Path(__file__).parent / "shifted_clock"
"""In the path of a Python program, it makes its clock wrong. Those of the servers are right: they are linked statically."""
HOUR_S = 3600
PUBLISH = b"cbw.journal.faults.batches"
"""Stands in every append of batches."""
OWNERSHIP = b"cbw.journal.faults.owner"
"""Stands in every append that says whose the journal is."""
CUT_S = 1.0
"""Too short for a standby to take the journal, which it does after 2 s."""
FAR_S = 0.25
"""On each way: an append takes half a second."""


# --- servers


def kill_the_leader(system: NatsSystem) -> None:
    leader = system.leader()
    leader.stop()
    time.sleep(1.0)
    leader.start()


def freeze_the_leader(system: NatsSystem) -> None:
    leader = system.leader()
    leader.send_signal(signal.SIGSTOP)
    time.sleep(3.0)
    leader.send_signal(signal.SIGCONT)


def take_two_of_three(system: NatsSystem) -> None:
    for server in system.cluster.servers[:2]:
        server.stop()
    time.sleep(2.0)
    for server in system.cluster.servers[:2]:
        server.start()


def restart_one_by_one(system: NatsSystem) -> None:
    for server in system.cluster.servers:
        server.stop(signal.SIGTERM)
        server.start()
        time.sleep(1.0)


def fill_the_disk_of_the_leader(system: NatsSystem) -> None:
    """It gives JetStream up, the other two go on, and it comes back when it is started again with room."""
    leader = system.leader()
    filler = system.disk_of(leader) / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1 << 16))
    system.load.wait_for_more()
    wait_until(lambda: system.leader() is not leader, "another one leads")
    leader.stop()
    filler.unlink()
    leader.start()


# --- brokers


def kill_the_owner(system: NatsSystem) -> None:
    system.owner.kill()
    system.wait_for_takeover()


def kill_the_owner_and_the_leader(system: NatsSystem) -> None:
    leader = system.leader()
    leader.stop()
    system.owner.kill()
    leader.start()
    system.wait_for_takeover()


def shift_the_clocks(system: NatsSystem) -> None:
    """The owner's clock jumps ahead by an hour. Then it dies, and the clock of its standby is an hour slow."""
    (system.folder / "owner").write_text(f"{HOUR_S}")
    system.load.wait_for_more()
    kill_the_owner(system)


def kill_the_adopter(system: NatsSystem) -> None:
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


def cut_the_owner_off(system: NatsSystem) -> None:
    """Its clients and workers reach it, the servers do not."""
    for relay in system.owner_relays:
        relay.cut()
    system.wait_for_takeover()
    for relay in system.owner_relays:
        relay.mend()
    assert system.owner.exit_code() == 6


def cut_the_owner_off_for_good(system: NatsSystem) -> None:
    """It ends by itself when an append has stayed without an answer for half a minute."""
    for relay in system.owner_relays:
        relay.cut()
    system.wait_for_takeover()
    assert system.owner.exit_code() == 5


def cut_the_owner_off_behind_an_append(system: NatsSystem) -> None:
    """What it has sent last is stored, and it is told so a second later."""
    for relay in system.owner_relays:
        relay.cut_behind(PUBLISH)
    assert any_cut(system), "it appends"
    time.sleep(CUT_S)
    for relay in system.owner_relays:
        relay.mend()


def lose_the_owner_behind_an_append(system: NatsSystem) -> None:
    """What it has sent last is stored, and it never learns that."""
    for relay in system.owner_relays:
        relay.cut_behind(PUBLISH)
    assert any_cut(system), "it appends"
    system.owner.kill()
    system.wait_for_takeover()


def make_the_servers_slow(system: NatsSystem) -> None:
    """Each append takes half a second."""
    for relay in system.owner_relays:
        relay.delay_s = FAR_S
    system.load.wait_for_more()
    for relay in system.owner_relays:
        relay.delay_s = 0.0


def any_cut(system: NatsSystem) -> bool:
    """Wait until one of the relays is cut; which one a broker uses only that broker knows."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        for relay in (*system.owner_relays, *system.standby_relays):
            if relay.wait_for_the_cut(0.01):
                return True
    return False


@dataclass(frozen=True)
class Fault:
    """``harm`` is done to a system, whose brokers may have clocks of their own, and whose servers disks."""

    harm: Callable[[NatsSystem], None]
    has_clocks: bool = False
    has_disks: bool = False

    @staticmethod
    def clock(file: Path, wrong_s: int) -> dict[str, Any]:
        """Options of a broker whose clock is as wrong as ``file`` says, where ``wrong_s`` stands."""
        file.write_text(f"{wrong_s}")
        path = f"{CLOCK}:{os.environ.get('PYTHONPATH', '')}"
        return {"PYTHONPATH": path, "CBW_TEST_CLOCK": str(file), "is_forked": False}

    @property
    def name(self) -> str:
        return self.harm.__name__.replace("_", " ")

    def outcome(self, folder: Path, start: Start) -> Outcome:
        """Run a system, harm it, and see what became of its requests."""
        system = NatsSystem(folder, start, has_disks=self.has_disks)
        clocks = {"owner": 0, "standby": -HOUR_S} if self.has_clocks else {}
        with system:
            system.run({name: self.clock(system.folder / name, wrong_s) for name, wrong_s in clocks.items()})
            self.harm(system)
            return system.outcome()


FAULTS = (
    Fault(kill_the_leader),
    Fault(freeze_the_leader),
    Fault(take_two_of_three),
    Fault(restart_one_by_one),
    Fault(fill_the_disk_of_the_leader, has_disks=True),
    Fault(kill_the_owner),
    Fault(kill_the_owner_and_the_leader),
    Fault(kill_the_adopter),
    Fault(shift_the_clocks, has_clocks=True),
    Fault(cut_the_owner_off),
    Fault(cut_the_owner_off_behind_an_append),
    Fault(lose_the_owner_behind_an_append),
    Fault(make_the_servers_slow),
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
        with (
            tempfile.TemporaryDirectory(prefix="cbw-nats-") as folder,
            redirect_stdout(io.StringIO()),
            programs() as start,
        ):
            found = fault.outcome(Path(folder), start)
        is_kept &= not found.lost and not found.twice
        takeover = "-" if found.takeover_s is None else f"{found.takeover_s:.1f} s"
        row = (
            fault.name,
            found.answered,
            len(found.lost),
            found.twice,
            found.executed_again,
            f"{found.stall_s:.1f} s",
            takeover,
        )
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
