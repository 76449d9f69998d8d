"""The deployment: time to the first answer, time to stop, size and memory. ``python -m benchmarks.deploy``, with an engine.

Images are built from this checkout under names of this run's own, and removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.figure import Row, median, print_rows

ROOT = Path(__file__).parents[1]
ROUNDS = 3
FIRST_ANSWER_S = 5.0
STOP_S = 1.0
FOLDERS = {"bro": "cbw/broker", "wor": "cbw/worker", "cli": "cbw/client", "log": "cbwl/logger"}
STAYING = ("wor", "bro", "log")
"""The services that do not end by themselves, in the order in which they are stopped."""
FIGURES = (
    "`docker compose up` to the first answer, logger and all",
    "`docker stop` of an idle role, the slowest of worker, broker and logger",
    "image `tsr-zmq`",
    "memory of an idle role's container",
)
Run = Callable[..., str]


def rows() -> Iterator[Row]:
    """Needs Docker with Compose v2; times include what Docker itself takes."""
    mark = secrets.token_hex(3)
    images = _build(mark)
    try:
        with tempfile.TemporaryDirectory() as folder:
            first_s, stop_s, memory = _measure(images, Path(folder), f"cbw-bench-{mark}")
        yield Row(FIGURES[0], f"{first_s:.1f} s", f"limit {FIRST_ANSWER_S:g} s", f"{first_s / FIRST_ANSWER_S:.2f}")
        yield Row(FIGURES[1], f"{stop_s:.2f} s", f"limit {STOP_S:g} s", f"{stop_s / STOP_S:.2f}")
        base, ours = (_size(image) for image in (images["base"], images["tsr-zmq"]))
        yield Row(FIGURES[2], f"{ours / 1e6:.0f} MB", f"its base: {base / 1e6:.0f} MB", f"{ours / base:.2f}")
        yield Row(FIGURES[3], f"{min(memory):.0f} to {max(memory):.0f} MiB")
    finally:
        _run("docker", "image", "rm", "--force", *(image for name, image in images.items() if name != "base"))


def _measure(images: dict[str, str], folder: Path, project: str) -> tuple[float, float, list[float]]:
    """Seconds to the first answer; seconds to stop the slowest role; MiB of each role."""
    override = folder / "images.yml"
    services: dict[str, dict[str, Any]] = {
        name: {"image": image, "pull_policy": "never"} for name, image in images.items() if name in FOLDERS
    }
    services["bro"]["ports"] = "RESET"
    services["wor"]["environment"] = {"CBW_WORKER_WORK_TIME_S": "0"}
    override.write_text(json.dumps({"services": services}).replace('"RESET"', "!reset []"))
    (folder / "log").mkdir()
    files = ("-f", str(ROOT / "deploy/cbwl/docker-compose.yml"), "-f", str(override))
    compose = partial(_run, "docker", "compose", "-p", project, *files, LOG_DIR=str(folder / "log"))
    firsts: list[float] = []
    stops: dict[str, list[float]] = {service: [] for service in STAYING}
    memory: list[float] = []
    try:
        for _ in range(ROUNDS):
            firsts.append(_first_answer_s(compose))
            time.sleep(2)
            containers = {service: compose("ps", "--quiet", service).split()[0] for service in STAYING}
            memory += map(_memory_mib, containers.values())
            for service, container in containers.items():
                began_at = time.monotonic()
                _run("docker", "stop", container)
                stops[service].append(time.monotonic() - began_at)
            compose("down")
    finally:
        compose("down", "--volumes")
    return median(firsts), max(map(median, stops.values())), memory


def _first_answer_s(compose: Run) -> float:
    began_at = time.monotonic()
    compose("up", "--detach", "--scale", "wor=2", "--scale", "cli=1")
    while " -> " not in compose("logs", "cli"):
        time.sleep(0.02)
    return time.monotonic() - began_at


def _memory_mib(container: str) -> float:
    used = _run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container)
    found = re.match(r"([\d.]+)MiB", used)
    assert found, used
    return float(found[1])


def _build(mark: str) -> dict[str, str]:
    base = "cbw-offline-base:bookworm"
    offline = _run("docker", "images", "--quiet", base).strip()
    argument = ["--build-arg", f"BASE={base}"] if offline else []
    tsr = f"tsr-zmq:bench-{mark}"
    _run("docker", "build", "--quiet", "-t", tsr, *argument, str(ROOT))
    images = {"tsr-zmq": tsr, "base": base if offline else "python:3.12-slim-bookworm"}
    for service, folder in FOLDERS.items():
        path = ROOT / "deploy" / folder
        text = re.sub(r"^FROM tsr-zmq$", f"FROM {tsr}", (path / "Dockerfile").read_text(), flags=re.M)
        images[service] = f"cbw-{service}:bench-{mark}"
        _run("docker", "build", "--quiet", "-t", images[service], "-f", "-", str(path), given=text)
    return images


def _size(image: str) -> int:
    return int(_run("docker", "image", "inspect", "--format", "{{.Size}}", image))


def _run(*words: str, given: str | None = None, **environment: str) -> str:
    done = subprocess.run(
        words, input=given, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and words[1:3] != ("image", "rm"):
        raise SystemExit(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    print_rows(rows())
