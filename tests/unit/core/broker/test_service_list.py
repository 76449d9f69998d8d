"""What the broker tells of services, and how much it keeps of what workers say of them."""

from __future__ import annotations

import msgspec

from cbw.core import messages
from cbw.core.broker.service_list import (
    SERVICES,
    SIGNATURE_CHARS_MAX,
    SIGNATURES_CHARS_MAX,
    ListedService,
    kept_signatures,
)
from cbw.core.messages import Status
from tests.unit.core.broker.system import CoreSystem, worker_said


def listed(system: CoreSystem) -> list[ListedService]:
    system.client("C1")
    system.ask(99, service=SERVICES)
    (answer,) = [message for message in system.take("C1") if type(message) is messages.Answer]
    assert answer.status is Status.OK
    return msgspec.json.decode(answer.body, type=list[ListedService])


def test_services_are_listed_by_name_with_what_the_first_worker_has_said() -> None:
    system = CoreSystem()
    assert listed(system) == []
    hello = messages.WorkerHello("W1", "b", ["b", "a"], 1, 1, signatures={"a": "one", "other": "no"})
    system.tell(worker_said(b"W1", [hello]))
    system.worker("W2", services=("a",))
    system.ask(1, service="c")
    assert listed(system) == [
        ListedService("a", 2, 0, "one"),
        ListedService("b", 1, 0),
        ListedService("c", 0, 1),
    ]


def test_signatures_are_bounded() -> None:
    assert kept_signatures(None, ["a"]) is None
    long = "x" * SIGNATURE_CHARS_MAX
    assert kept_signatures({"a": long, "b": f"{long}x"}, ["a", "b"]) == {"a": long}
    names = [str(number) for number in range(1000)]
    kept = kept_signatures(dict.fromkeys(names, long), names)
    assert kept is not None
    assert sum(map(len, kept.values())) <= SIGNATURES_CHARS_MAX < sum(map(len, kept.values())) + len(long)


def test_a_hello_of_an_earlier_version_has_none() -> None:
    old = msgspec.msgpack.encode([20, "W1", "b", ["a"], 1, 1, [], b""])
    hello = msgspec.msgpack.decode(old, type=messages.WorkerHello)
    assert (hello.wants_names, hello.signatures) == (False, None)
