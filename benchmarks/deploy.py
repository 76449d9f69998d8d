"""The deployment: time to the first answer, time to stop, size and memory. ``python -m benchmarks.deploy``, with an engine.

Images are built from this checkout under names of this run's own, and removed.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ROUNDS = 3
FIRST_ANSWER_S = 5.0
STOP_S = 1.0
FOLDERS = {"bro": "cbw/broker", "wor": "cbw/worker", "cli": "cbw/client", "log": "cbwl/logger"}
Row = tuple[str, str, str, str]


def rows() -> Iterator[Row]:
    """Needs Docker with Compose v2; times include what Docker itself takes."""
    mark = secrets.token_hex(3)
    images = _build(mark)
    try:
        with tempfile.TemporaryDirectory() as folder:
            yield from _measure(images, Path(folder), f"cbw-bench-{mark}")
    finally:
        _run("docker", "image", "rm", "--force", *(image for name, image in images.items() if name != "base"))


def _measure(images: dict[str, str], folder: Path, project: str) -> Iterator[Row]:
    override = folder / "images.yml"
    services: dict[str, dict[str, Any]] = {
        name: {"image": image, "pull_policy": "never"} for name, image in images.items() if name in FOLDERS
    }
    services["bro"]["ports"] = "RESET"
    services["wor"]["environment"] = {"CBW_WORKER_WORK_TIME_S": "0"}
    override.write_text(json.dumps({"services": services}).replace('"RESET"', "!reset []"))
    (folder / "log").mkdir()
    compose = [
        "docker",
        "compose",
        "-p",
        project,
        "-f",
        str(ROOT / "deploy/cbwl/docker-compose.yml"),
        "-f",
        str(override),
    ]
    environment = {"LOG_DIR": str(folder / "log")}
    firsts: list[float] = []
    stops: dict[str, list[float]] = {}
    memory: dict[str, str] = {}
    try:
        for _ in range(ROUNDS):
            began_at = time.monotonic()
            _run(*compose, "up", "--detach", "--scale", "wor=2", "--scale", "cli=1", **environment)
            while " -> " not in _run(*compose, "logs", "cli", **environment):
                time.sleep(0.02)
            firsts.append(time.monotonic() - began_at)
            time.sleep(2)
            for service, name in (("wor", "worker"), ("bro", "broker"), ("log", "logger")):
                container = _run(*compose, "ps", "--quiet", service, **environment).split()[0]
                used = _run("docker", "stats", "--no-stream", "--format", "{{.MemUsage}}", container)
                memory[name] = used.partition(" /")[0]
            for service, name in (("wor", "worker"), ("bro", "broker"), ("log", "logger")):
                container = _run(*compose, "ps", "--quiet", service, **environment).split()[0]
                began_at = time.monotonic()
                _run("docker", "stop", container)
                stops.setdefault(name, []).append(time.monotonic() - began_at)
            _run(*compose, "down", **environment)
    finally:
        _run(*compose, "down", "--volumes", **environment)
    first = statistics.median(firsts)
    yield (
        "docker compose up to the first answer, logger and all",
        f"{first:.1f} s",
        "limit 5 s",
        f"{first / FIRST_ANSWER_S:.2f}",
    )
    for name, took in stops.items():
        stop = statistics.median(took)
        yield f"docker stop of an idle {name}", f"{stop:.2f} s", "limit 1 s", f"{stop / STOP_S:.2f}"
    base, ours = (_size(image) for image in (images["base"], images["tsr-zmq"]))
    yield "image tsr-zmq", f"{ours / 1e6:.0f} MB", f"its base: {base / 1e6:.0f} MB", f"{ours / base:.2f}"
    for name, used in memory.items():
        yield f"memory of an idle {name}'s container", used, "-", "-"


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
    for row in rows():
        print(*row, sep=" | ")
