"""``python -m benchmarks``: all figures of the README as a Markdown table."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator

from benchmarks import deploy, dispatch, durable, failover, latency, logger, memory, throughput, tracing
from benchmarks.figure import Row, print_rows

MEASURED = (throughput, durable, latency, dispatch, memory, failover, tracing, logger, deploy)
"""In the order of the README."""


def rows() -> Iterator[Row]:
    """The rows of all modules, each as soon as it is measured."""
    for module in MEASURED:
        if module is deploy and shutil.which("docker") is None:
            sys.stderr.write("docker is not installed: the figures of deployments are left out\n")
            continue
        yield from module.rows()


if __name__ == "__main__":
    print_rows(rows())
