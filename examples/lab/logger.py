"""The lab's logger: ``python logger.py PORT FILE``. It writes every text that it is sent into FILE, one line each."""

from __future__ import annotations

import sys
from pathlib import Path

import zmq


def main() -> None:
    """Bind the port, and write for ever. What is in the file already stays there."""
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    port, file = sys.argv[1:]
    senders = zmq.Context().socket(zmq.PULL)
    senders.bind(f"tcp://*:{port}")
    print(f"logger: port {port}, file {file}", flush=True)
    with Path(file).open("a") as log:
        while True:
            log.write(senders.recv_string() + "\n")
            log.flush()


if __name__ == "__main__":
    main()
