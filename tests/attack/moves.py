"""What a stranger may do to a port: each move is a connection, drawn at random, with bytes that are wrong in one more way."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable
from random import Random

import msgspec

from .peer import COMMAND, LONG, MORE, RawPeer, command, frame, greeting, message, ready

KINDS = (
    b"DEALER",
    b"REQ",
    b"ROUTER",
    b"REP",
    b"PUSH",
    b"PULL",
    b"PUB",
    b"SUB",
    b"XPUB",
    b"XSUB",
    b"PAIR",
    b"STREAM",
    b"?",
    b"",
)
MECHANISMS = (b"NULL", b"PLAIN", b"CURVE", b"GSSAPI", b"", b"null", b"\xff" * 20)
COMMANDS = (
    b"PING",
    b"PONG",
    b"READY",
    b"ERROR",
    b"SUBSCRIBE",
    b"CANCEL",
    b"HELLO",
    b"WELCOME",
    b"INITIATE",
    b"JOIN",
    b"LEAVE",
)
LENGTHS = (
    0,
    1,
    254,
    255,
    256,
    65535,
    1 << 20,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
OLDER = (b"\x01\0", b"\x05\0DEAL", b"\xff" + bytes(7) + b"\x01\x7f\x01\x05\0\0", b"\xff" + bytes(8) + b"\x7f\0")
"""How peers of ZMTP 1.0 and 2.0 begin."""

Move = Callable[[Random, RawPeer], None]


def noise(random: Random, longest: int = 300) -> bytes:
    """Any bytes."""
    return random.randbytes(random.randrange(longest))


def any_identity(random: Random) -> bytes:
    """What a peer may call itself: somebody else, what only a ROUTER makes up, or too much."""
    choice = random.randrange(6)
    if choice == 0:
        return b"\0" + random.randbytes(4)
    if choice == 1:
        return b"\0" + struct.pack(">I", (0x6B8B4567 + random.randrange(100)) % (1 << 32))
    if choice == 2:
        return random.choice((b"\0", b"\0" * 5, b"x" * 255, b"x" * 256, b"x" * 70_000, b"CBW1", b"MDPW01", b"named"))
    return b"" if choice < 5 else noise(random, 20)


def any_batch(random: Random) -> bytes:
    """A batch of CBW/1 whose messages have wrong fields, or none. Nobody registers for a service of the live system."""
    fields: tuple[object, ...] = (
        0,
        1,
        -1,
        1 << 63,
        "",
        "x",
        "x" * 300,
        b"",
        b"y" * 16,
        None,
        1.5,
        float("nan"),
        [],
        [1, 2],
        {},
        True,
    )
    tags = (0, 1, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 31, 32, 40, 41, 42, 50, 51, 60, 61, -1)
    batch = [[random.choice(tags), *random.choices(fields, k=random.randrange(8))] for _ in range(random.randrange(6))]
    hello = random.choice(([], [[10, noise(random, 9).hex() or "x", "b"]], [[20, "x", "b", ["other"], 1, 5]]))
    return msgspec.msgpack.encode([*hello, *batch])


def any_message(random: Random) -> bytes:
    """A message of one of the dialects, more or less."""
    dialects: tuple[tuple[bytes, ...], ...] = (
        (b"CBW1", any_batch(random)),
        (b"CBW1", any_batch(random), noise(random)),
        (b"CBW2", noise(random)),
        (b"", b"MDPC01", b"other", noise(random)),
        (b"", b"MDPW01", random.choice((b"\x01", b"\x03", b"\x04", b"\x05", b"\x09")), b"other"),
        (b"MDPW02", random.choice((b"\x01", b"\x04", b"\x05", b"\x06")), b"other", b"", b"x"),
        (b"CBWL1", any_batch(random), b"{}\n"),
        (b"line of text", noise(random)),
        tuple(noise(random, 20) for _ in range(random.randrange(1, 9))),
        tuple(b"x" for _ in range(random.choice((5,) * 20 + (100, 2048, 2100)))),
    )
    return message(*random.choice(dialects))


def conversation(random: Random) -> bytes:
    """What an honest peer might say from its first byte on."""
    said = greeting() + ready(random.choice(KINDS[:5]), any_identity(random))
    for _ in range(random.randrange(1, 20)):
        said += any_message(random) if random.random() < 0.8 else any_command(random)
    return said


def any_command(random: Random) -> bytes:
    """A command that should not come, or one with wrong contents."""
    name = random.choice(COMMANDS)
    if name == b"PING" and random.random() < 0.5:
        return command(name, struct.pack(">H", random.choice((0, 1, 30, 65535))) + noise(random, 40))
    if random.random() < 0.2:  # the name is longer than what follows
        return frame(bytes([random.randrange(256)]) + name, COMMAND)
    return frame(bytes([len(name)]) + name + noise(random, 40), COMMAND | random.choice((0, 0, MORE, LONG)))


# --- moves


def greet_wrongly(random: Random, peer: RawPeer) -> None:
    """A greeting that is none, or breaks off, or is of another version."""
    version = random.choice(((3, 0), (3, 1), (3, 255), (0, 0), (1, 0), (2, 0), (4, 0), (255, 255)))
    said = random.choice(
        (noise(random), greeting(random.choice(MECHANISMS), version), random.choice(OLDER) + noise(random))
    )
    peer.say(said[: random.randrange(len(said) + 1)] if random.random() < 0.4 else said)
    peer.say(noise(random))


def shake_hands_wrongly(random: Random, peer: RawPeer) -> None:
    """A READY with a strange type, identity or properties, or something else in its place."""
    peer.say(greeting(version=(3, random.randrange(2))))
    lie = struct.pack(">I", random.choice(LENGTHS) % (1 << 32))
    many = [(noise(random, 60), noise(random)) for _ in range(random.randrange(30))]
    peer.say(
        random.choice(
            (
                ready(random.choice(KINDS), any_identity(random), many),
                command(b"READY", b"\x0bSocket-Type" + lie + b"DEALER"),
                command(b"READY", noise(random)),
                command(b"READY"),
                any_command(random),
                any_message(random),
            )
        )
    )
    peer.say(any_message(random))


def command_wrongly(random: Random, peer: RawPeer) -> None:
    """A handshake, and then commands between messages."""
    peer.say(greeting() + ready(random.choice(KINDS[:5]), any_identity(random)))
    for _ in range(random.randrange(1, 60)):
        peer.say(any_command(random) if random.random() < 0.7 else any_message(random))


def frame_wrongly(random: Random, peer: RawPeer) -> None:
    """A handshake, and then frames that lie about their length, have unknown flags, or never end their message."""
    peer.say(greeting() + ready(random.choice((b"DEALER", b"REQ", b"PUSH")), any_identity(random)))
    for _ in range(random.randrange(1, 30)):
        length = struct.pack(">Q", random.choice(LENGTHS))
        peer.say(
            random.choice(
                (
                    bytes([random.randrange(256)]) + noise(random),
                    bytes([LONG | random.choice((0, MORE))]) + length + noise(random),
                    frame(noise(random), MORE) * random.randrange(1, 50),
                    frame(b"", random.choice((0, MORE))) * random.randrange(1, 50),
                    frame(random.randbytes(random.choice((255, 256, 8191, 8192, 8193, 100_000)))),
                    any_message(random),
                )
            )
        )


def speak_nonsense(random: Random, peer: RawPeer) -> None:
    """A handshake, and then messages that are almost those of a dialect."""
    peer.say(greeting() + ready(random.choice((b"DEALER", b"REQ", b"PUSH")), any_identity(random)))
    peer.say(b"".join(any_message(random) for _ in range(random.randrange(1, 100))))


def mutate(random: Random, peer: RawPeer) -> None:
    """A whole conversation with some bytes changed, lost or said twice."""
    said = bytearray(conversation(random))
    for _ in range(random.randrange(1, 6)):
        at, size = random.randrange(len(said)), random.randrange(1, 12)
        kind = random.randrange(3)
        if kind == 0:
            said[at : at + size] = random.randbytes(size)
        elif kind == 1:
            del said[at : at + size]
        else:
            said[at:at] = said[at : at + size * 20]
        said = said or bytearray(b"\0")
    peer.say(bytes(said))


def dribble(random: Random, peer: RawPeer) -> None:
    """A conversation in small pieces, which breaks off."""
    said = conversation(random)
    for start in range(0, min(len(said), 600), 7):
        peer.say(said[start : start + 7])
        time.sleep(0.001)


def ask_and_vanish(random: Random, peer: RawPeer) -> None:
    """Requests for a service that nobody serves, of a client that never reads, and may end in the middle of a body."""
    hello = msgspec.msgpack.encode(
        [[10, f"vanishing-{random.randrange(50)}", noise(random, 9).hex() or "b", b"p" * 16]]
    )
    peer.say(greeting() + ready(b"DEALER") + message(b"CBW1", hello))
    for number in range(random.randrange(1, 50)):
        batch = msgspec.msgpack.encode([[11, number, "nobody", random.randbytes(random.choice((0, 10, 1000))), 0.5]])
        peer.say(message(b"CBW1", batch))
    peer.say(frame(b"CBW1", MORE) + bytes([LONG]) + struct.pack(">Q", 1 << 20) + bytes(random.randrange(1 << 16)))


MOVES: tuple[Move, ...] = (
    greet_wrongly,
    shake_hands_wrongly,
    command_wrongly,
    frame_wrongly,
    speak_nonsense,
    mutate,
    dribble,
    ask_and_vanish,
)


def attack(random: Random, port: int) -> str:
    """Make one move against ``port``; its name. The connection is then reset, or closed in order, perhaps after a while."""
    move = random.choice(MOVES)
    with contextlib.suppress(OSError):  # the other side has had enough
        peer = RawPeer(port)
        try:
            peer.socket.settimeout(1.0)
            move(random, peer)
            if random.random() < 0.2:
                time.sleep(random.uniform(0, 0.05))
        finally:
            if random.random() < 0.7:
                peer.reset()
            else:
                peer.socket.close()
    return move.__name__
