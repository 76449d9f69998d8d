"""The memory limit of a role, from the files of the kernel and ``ulimit -v``, and the defaults that fit it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cbw import memory, settings
from cbw.errors import NotReady

MIB = 1 << 20
V1_UNLIMITED = "9223372036854771712\n"


def write(root: Path, files: dict[str, str]) -> Path:
    """A file system with these files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        pytest.param({}, None, id="no /proc"),
        pytest.param({"proc/self/cgroup": "0::/\n"}, None, id="v2, nothing mounted"),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None, id="v2, no limit"),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "268435456\n"}, 256 * MIB, id="v2, a container"
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/system.slice/cbw.service\n",
                "sys/fs/cgroup/system.slice/memory.max": "104857600\n",
                "sys/fs/cgroup/system.slice/cbw.service/memory.max": "max\n",
            },
            100 * MIB,
            id="v2, a limit of an ancestor",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "209715200\n",
                "sys/fs/cgroup/a/b/memory.max": "104857600\n",
            },
            100 * MIB,
            id="v2, the smallest of several",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/../..\n", "sys/fs/cgroup/memory.max": "104857600\n"},
            100 * MIB,
            id="v2, a path outside of the namespace",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:memory:/docker/c0ffee\n3:cpuset:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n",
            },
            128 * MIB,
            id="v1, a container that knows its path on the host",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:cpu,memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n",
            },
            128 * MIB,
            id="v1, several controllers in one hierarchy",
        ),
        pytest.param(
            {
                "proc/self/cgroup": "4:memory:/a\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": V1_UNLIMITED,
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": V1_UNLIMITED,
            },
            None,
            id="v1, no limit",
        ),
        pytest.param(
            {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "\n"}, None, id="a file that says nothing"
        ),
    ],
)
def test_the_limit(files: dict[str, str], limit: int | None, tmp_path: Path) -> None:
    assert memory.limit_bytes(write(tmp_path, files)) == limit


@pytest.mark.parametrize(
    ("allowed", "limit"),
    [(4096 * MIB, 512 * MIB), (512 * MIB, 256 * MIB), (200 * MIB, 25 * MIB), (resource.RLIM_INFINITY, 512 * MIB)],
)
def test_what_may_be_mapped(allowed: int, limit: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ulimit -v`` counts if it leaves less than the container, beside what a role maps without any work."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (allowed, resource.RLIM_INFINITY))
    files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{512 * MIB}\n"}
    assert memory.limit_bytes(write(tmp_path, files)) == limit


def test_too_little_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for allowed in (256 * MIB, resource.RLIM_INFINITY):
        monkeypatch.setattr(resource, "getrlimit", lambda _, allowed=allowed: (allowed, resource.RLIM_INFINITY))
        memory.check_space()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (200 * MIB, resource.RLIM_INFINITY))
    with pytest.raises(NotReady, match="may map 200 MiB"):
        memory.check_space()


ROLES = {"broker": (*settings.BROKER, *settings.LOG), "worker": settings.LOG}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("mib", [64, 128, 256, 1024, 4096, 65536])
def test_all_bounds_together_fit(role: str, mib: int) -> None:
    limit = mib * MIB
    worst = sum(memory.default_within(one, limit) * one.memory_cost for one in ROLES[role] if one.memory_fraction)
    assert worst <= 0.6 * limit, "what is left is for the interpreter and for messages in transit"


@pytest.mark.parametrize("setting", [one for one in (*settings.BROKER, *settings.LOG) if "bytes" in one.name])
def test_every_bound_in_bytes_fits_the_memory(setting: settings.Setting) -> None:
    assert setting.memory_fraction and setting.memory_cost >= 1


def test_without_a_limit_the_defaults_stay() -> None:
    for one in (*settings.BROKER, *settings.LOG):
        assert memory.default_within(one, None) == one.default
        assert memory.default_within(one, 1 << 50) == one.default


def test_a_small_limit_shrinks_what_bounds_memory_and_nothing_else() -> None:
    small = {one.name: memory.default_within(one, 256 * MIB) for one in settings.BROKER}
    changed = {one.name for one in settings.BROKER if small[one.name] != one.default}
    bodies = {"requests_bytes_max", "body_bytes_max", "parked_bytes_max", "dead_bytes_max", "results_bytes_max"}
    assert changed == {"requests_max", "services_max", *bodies}
    assert changed == memory.defaults_of(settings.BROKER, 256 * MIB).keys()
    assert small["body_bytes_max"] <= small["requests_bytes_max"], "the largest body can be accepted"
    assert small["requests_max"] == 16_384


def test_a_default_is_never_below_its_minimum() -> None:
    for one in (*settings.BROKER, *settings.LOG):
        if one.memory_fraction:
            assert memory.default_within(one, 1) == one.minimum
