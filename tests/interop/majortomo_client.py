"""A client made with PyPI's ``majortomo``: ``python majortomo_client.py SERVICES ID N HOST PORT``.

It prints what ``mdp_client.py`` prints.
"""

from __future__ import annotations

import sys

from majortomo import Client


def main() -> None:
    """Ask each of the services ``ID-1`` … ``ID-N``, one after another."""
    services, name, count, host, port = sys.argv[1:]
    with Client(f"tcp://{host}:{port}") as client:
        for service in services.split(","):
            for number in range(1, int(count) + 1):
                client.send(service, f"{name}-{number}".encode())
                *parts, (end,) = client.recv_all(timeout=15)
                for (part,) in parts:
                    print(f"part {service} {part.decode()}", flush=True)
                print(f"reply {service} {end.decode()}", flush=True)


if __name__ == "__main__":
    main()
