"""The memory limit of a role, and the defaults that stay below it.

Docker, Compose and Kubernetes limit the memory of a container by a cgroup, and the kernel kills a process that exceeds the
limit. ``ulimit -v`` limits what a process may map, and libzmq hangs up on peers whose messages it has no memory for. A role must
refuse work before that happens, so the defaults of its memory bounds shrink to fit the limit.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from cbw.errors import NotReady
from cbw.settings import Setting

UNLIMITED_BYTES = 1 << 60
"""A limit of this size or more is none. cgroup v1 writes 9223372036854771712 where no limit is set."""

OWN_SPACE_BYTES = 256 << 20
"""What a role maps without any work, mostly for the stacks and the heaps of its threads; measured: up to 255 MB."""
SPACE_SHARE_MIN = 8
"""However little may be mapped, one part in so many is for work."""


def limit_bytes(root: Path = Path("/")) -> int | None:
    """The smallest memory limit of the cgroups that this process belongs to, or what ``ulimit -v`` leaves if that is less; in
    bytes, None if there is no limit.

    ``root`` is the root of the file system; tests give one of their own.
    """
    return min((*_limits(root), *_space()), default=None)


def default_within(setting: Setting, limit: int | None) -> Any:
    """The default of ``setting`` for a process whose memory is limited to ``limit`` bytes; None is no limit."""
    if limit is None or not setting.memory_fraction:
        return setting.default
    return max(int(setting.minimum or 1), min(setting.default, int(limit * setting.memory_fraction)))


def defaults_of(table: tuple[Setting, ...], limit: int | None) -> dict[str, Any]:
    """The defaults of those settings of ``table`` that bound memory, by their names."""
    return {setting.name: default_within(setting, limit) for setting in table if setting.memory_fraction}


def check_space() -> None:
    """To be called before a role starts threads: Python and libzmq end it, each in its own way, when they cannot start one.

    Raises:
        NotReady: the process may map too little for them.
    """
    allowed = _mapped_max()
    if allowed is not None and allowed < OWN_SPACE_BYTES:
        raise NotReady(
            f"this process may map {allowed >> 20} MiB, and takes up to {OWN_SPACE_BYTES >> 20} MiB without any work",
            advice="Allow more: ulimit -v 524288, or ulimit -v unlimited.",
        )


def _mapped_max() -> int | None:
    """How much may be mapped in all, in bytes, as ``ulimit -v`` says; None: it says nothing."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if allowed == resource.RLIM_INFINITY else allowed


def _space() -> Iterator[int]:
    """What may be mapped for work, if there is a limit to what may be mapped in all."""
    if (allowed := _mapped_max()) is not None:
        yield max(allowed - OWN_SPACE_BYTES, allowed // SPACE_SHARE_MIN)


def _limits(root: Path) -> Iterator[int]:
    """Every limit that is set for a cgroup of this process or for one of its ancestors."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:  # no Linux, or no /proc
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:  # cgroup v2
            folder, file = root / "sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):  # cgroup v1
            folder, file = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        # Inside a container the path may be that of the host, where only the container's own cgroup is mounted, as the
        # root. So every ancestor is tried, up to the root; those that are not mounted are passed over.
        names = [name for name in PurePosixPath(path).parts if name not in ("/", "..")]
        for depth in range(len(names), -1, -1):
            limit = _read(folder.joinpath(*names[:depth], file))
            if limit is not None:
                yield limit


def _read(path: Path) -> int | None:
    try:
        limit = int(path.read_text())
    except (OSError, ValueError):  # it is not mounted, or says "max"
        return None
    return limit if limit < UNLIMITED_BYTES else None
