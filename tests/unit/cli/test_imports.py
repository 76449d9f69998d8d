"""What ``cbw --help``, ``cbw --version`` and the completion of a command's name need not import, as it takes time."""

from __future__ import annotations

import subprocess
import sys

NOT_NEEDED = ("zmq", "http.server", "ssl", "asyncio", "rich")


def test_the_command_line_alone_imports_neither_sockets_nor_a_web_server() -> None:
    code = f"import sys, cbw.cli.main; print([name for name in {NOT_NEEDED} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
