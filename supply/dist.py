"""``python -m supply.dist``: makes the wheel and the source archive of the last commit in ``dist/``, and tries them out.

They are built twice, in folders of different names, with the time of the commit in place of the clock (SOURCE_DATE_EPOCH,
https://reproducible-builds.org/specs/source-date-epoch/), and must be the same byte for byte. Then the source archive must
build the same wheel, twine checks what an index would show, and the wheel is installed beside the locked dependencies into an
environment where nothing else is. There ``cbw up`` has to get every answer. Exit code 1: something of this is not so.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
DIST = ROOT / "dist"
IMAGE = ROOT / "deploy" / "image"
DEMONSTRATION = (
    *("up", "--until-done", "--scale", "cli=1", "--scale", "wor=2", "--requests", "4", "--work-time", "0.1"),
    *("--client-port", "0", "--worker-port", "0", "--log-port", "0", "--status-port", "0", "--log-file", "logs"),
)


class NotSoError(Exception):
    """What was built is not as it has to be."""


def main() -> int:
    argparse.ArgumentParser(prog="python -m supply.dist", description=__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="cbw-dist-") as folder:
        try:
            _make(Path(folder))
        except NotSoError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _make(folder: Path) -> None:
    if _git("status", "--porcelain"):
        print("dist: what is not committed is not in it")
    epoch = _git("log", "-1", "--format=%ct")
    builder = _environment(folder / "builder", IMAGE / "build-requirements.txt")
    first = _built(builder, _checkout(folder / "first"), epoch)
    second = _built(builder, _checkout(folder / "a second time"), epoch)
    need_same(first, second, "built twice")
    (archive,) = (path for path in first if path.name.endswith(".tar.gz"))
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "unpacked", filter="data")
    (source,) = (folder / "unpacked").iterdir()
    wheels = [path for path in first if path.suffix == ".whl"]
    need_same(wheels, _built(builder, source, epoch, "wheel"), "built from the source archive")
    _run([sys.executable, "-m", "twine", "check", "--strict", *map(str, first)])
    _demonstrate(folder, wheels[0])
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir()
    for path in first:
        shutil.copy2(path, DIST)
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  dist/{path.name}")


def need_same(wanted: list[Path], got: list[Path], how: str) -> None:
    """
    Raises:
        NotSoError: ``got`` are not the files of ``wanted``, by their names and their bytes.
    """
    if [path.name for path in wanted] != [path.name for path in got]:
        raise NotSoError(f"{how}: {[path.name for path in got]} instead of {[path.name for path in wanted]}")
    for one, other in zip(wanted, got, strict=True):
        if one.read_bytes() != other.read_bytes():
            raise NotSoError(f"{how}: {one.name} has other bytes; compare {one} and {other} with diffoscope")


def _checkout(folder: Path) -> Path:
    """The last commit, without what lies beside it in the work tree."""
    folder.mkdir()
    packed = folder.with_suffix(".tar")
    _git("archive", "--output", str(packed), "HEAD")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _built(builder: Path, source: Path, epoch: str, *targets: str) -> list[Path]:
    """What hatchling makes of ``source``: both, or only the ``targets``."""
    output = source / "dist"
    options = [part for target in targets for part in ("-t", target)]
    _run([str(builder), "-m", "hatchling", "build", "-d", str(output), *options], source, SOURCE_DATE_EPOCH=epoch)
    return sorted(path for path in output.iterdir() if path.suffix in (".whl", ".gz"))


def _environment(folder: Path, lock: Path) -> Path:
    """The Python of a new environment with what ``lock`` names, each file checked by its hash, and nothing else."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    python = folder / "bin" / "python"
    _install(python, "--require-hashes", "--only-binary", ":all:", "-r", str(lock))
    return python


def _install(python: Path, *what: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--disable-pip-version-check"]
    _run([*pip, *what])


def _demonstrate(folder: Path, wheel: Path) -> None:
    python = _environment(folder / "clean", IMAGE / "requirements.txt")
    _install(python, "--no-deps", "--no-index", str(wheel))
    cbw = str(python.with_name("cbw"))
    for command in ([cbw, "--version"], [cbw, *DEMONSTRATION]):
        print(_run(command, folder).strip())


def _git(*words: str) -> str:
    return _run(["git", "-C", str(ROOT), *words]).strip()


def _run(command: list[str], folder: Path = ROOT, **more: str) -> str:
    """What it prints.

    Raises:
        NotSoError: it fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | more
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise NotSoError(f"{' '.join(command)} fails ({done.returncode}):\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
