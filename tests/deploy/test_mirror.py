"""``debian-mirror`` says where this machine's apt gets Debian from. Here apt has sources and a repository of the test's own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .engine import DEPLOY

PROGRAM = DEPLOY / "offline-base" / "debian-mirror"
LIST = "# deb http://nowhere.invalid/debian bookworm main\ndeb [ trusted=yes ] {uri}/ bookworm main  # with a comment\n"
PACKAGES = b"Package: nothing\nVersion: 1\nArchitecture: amd64\nFilename: nothing.deb\nSize: 0\n"
DEB822 = "Types: deb\nURIs: {uri}\nSuites: bookworm\nComponents: main\nTrusted: yes\n"


@pytest.fixture
def apt(tmp_path: Path) -> Path:
    """A folder with all that apt needs, and a small repository of bookworm in ``repository``."""
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    for name in ("lists/partial", "cache/archives/partial", "sources.d", "repository/dists/bookworm/main/binary-amd64"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "status").touch()
    (tmp_path / "repository/dists/bookworm/main/binary-amd64/Packages").write_bytes(PACKAGES)
    index = f"{hashlib.sha256(PACKAGES).hexdigest()} {len(PACKAGES)}"
    (tmp_path / "repository/dists/bookworm/Release").write_text(
        "Date: Sat, 17 May 2025 08:00:00 UTC\nCodename: bookworm\nSuite: oldstable\nArchitectures: amd64\nComponents: main\n"
        f"SHA256:\n {index} main/binary-amd64/Packages\n"
    )
    (tmp_path / "apt.conf").write_text(
        f'Dir::State::lists "{tmp_path}/lists"; Dir::State::status "{tmp_path}/status"; Dir::Cache "{tmp_path}/cache";\n'
        f'Dir::Etc::sourcelist "{tmp_path}/sources.list"; Dir::Etc::sourceparts "{tmp_path}/sources.d";\n'
        'APT::Architecture "amd64"; APT::Architectures "amd64"; APT::Sandbox::User ""; APT::Update::Post-Invoke "";\n'
        "#clear APT::Update::Post-Invoke;\n#clear APT::Update::Post-Invoke-Success;\n"
    )
    return tmp_path


def ask(apt: Path, codename: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    return subprocess.run([PROGRAM, codename], env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("file", "text"), [("sources.list", LIST), ("sources.d/debian.sources", DEB822)])
def test_the_mirror_is_that_of_the_sources(file: str, text: str, apt: Path) -> None:
    uri = f"file:{apt}/repository"
    (apt / file).write_text(text.format(uri=uri))
    for _ in range(2):  # on a new machine, and with the lists downloaded
        done = ask(apt, "bookworm")
        assert (done.returncode, done.stdout) == (0, f"{uri}\n"), done.stderr


def test_a_release_that_no_source_has_is_told(apt: Path) -> None:
    (apt / "sources.list").write_text(LIST.format(uri=f"file:{apt}/repository"))
    done = ask(apt, "sid")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no source of apt on this machine has Debian sid" in done.stderr
