"""What may stand in cbw.toml, what overrides what, and what is said of mistakes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cbw.cli import config_file
from cbw.cli.config_file import SECTIONS, key_of, read_settings_file, take_settings_file, taken, where_from
from cbw.errors import UsageError


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    for name in list(os.environ):
        if name.startswith(("CBW_", "BROKER_", "LOGGER_")):
            del os.environ[name]
    yield tmp_path
    os.environ.clear()
    os.environ.update(before)
    taken.clear()


def write(text: str, name: str = "cbw.toml") -> None:
    Path(name).write_text(text)


def test_a_file_sets_what_the_environment_does_not() -> None:
    write(
        'broker-host = "a,b"\n[worker]\nconcurrency = 4\nretries = 0\napp = ["x:y", "z"]\n[logger]\ncompress = false\n'
    )
    os.environ["CBW_WORKER_RETRIES"] = "7"
    take_settings_file("worker")
    assert os.environ["BROKER_HOST"] == "a,b"
    assert os.environ["CBW_WORKER_CONCURRENCY"] == "4"
    assert os.environ["CBW_WORKER_RETRIES"] == "7"
    assert os.environ["CBW_WORKER_APP"] == "x:y z"
    assert os.environ["CBW_LOGGER_COMPRESS"] == "0"
    assert where_from("check BROKER_HOST") == "BROKER_HOST is set by cbw.toml:1."
    assert where_from("check CBW_WORKER_RETRIES") == where_from("check MY_BROKER_HOST") == ""


def test_a_variable_for_all_ports_overrides_the_file_too() -> None:
    """The images set CBW_LISTEN: a file must not take that back."""
    write('[broker]\nlisten = "127.0.0.1"\n')
    os.environ["CBW_LISTEN"] = "0.0.0.0"
    take_settings_file("broker")
    assert "CBW_BROKER_LISTEN" not in os.environ


def test_a_setting_of_all_in_a_section_is_for_that_role_alone() -> None:
    write("status-port = 1000\n[broker]\nstatus-port = 2000\n[worker]\nstatus-port = 3000\n")
    take_settings_file("broker")
    assert os.environ["CBW_STATUS_PORT"] == "2000"
    del os.environ["CBW_STATUS_PORT"]
    taken.clear()
    take_settings_file("call")
    assert os.environ["CBW_STATUS_PORT"] == "1000"


def test_the_file_of_a_project_is_read_if_there_is_no_other() -> None:
    write("[project]\nname = 'x'\n[tool.cbw]\nverbose = true\n[tool.cbw.client]\ntimeout = 3\n", "pyproject.toml")
    assert [(entry.setting.environment, entry.text, entry.place) for entry in read_settings_file()] == [
        ("CBW_VERBOSE", "1", "pyproject.toml:4"),
        ("CBW_CLIENT_TIMEOUT_S", "3", "pyproject.toml:6"),
    ]
    write("", "cbw.toml")
    assert read_settings_file() == []
    Path("cbw.toml").unlink()
    write("[project]\nname = 'x'\n", "pyproject.toml")
    assert read_settings_file() == []


@pytest.mark.parametrize(
    ("text", "error", "advice"),
    [
        ("[worker]\nconcurency = 3", "cbw.toml:2: there is no setting 'concurency' here", "Did you mean concurrency?"),
        ("[broker]\nliveness_s = 3", "cbw.toml:2: there is no setting 'liveness_s' here", "Did you mean liveness?"),
        (
            "concurrency = 3",
            "cbw.toml:1: there is no setting 'concurrency' here",
            "It belongs into the section [worker].",
        ),
        ("worker = 3", "cbw.toml:1: there is no setting 'worker' here", "Write [worker]: it is a section."),
        ("zzz = 3", "cbw.toml:1: there is no setting 'zzz' here", "cbw config lists the settings."),
        ("\n[wroker]", "cbw.toml:2: there is no section 'wroker'", "Did you mean [worker]?"),
        ("[x]", "cbw.toml:1: there is no section 'x'", "The sections are broker, worker, client, logger."),
        ('[worker]\n"concurrency" = "3"', "cbw.toml:2: concurrency is '3'; it must be a whole number", ""),
        ("[worker]\nconcurrency = true", "cbw.toml:2: concurrency is True; it must be a whole number", ""),
        ("[worker]\nconcurrency = 0", "cbw.toml:2: concurrency: 0 is not in the range x>=1.", ""),
        ("[broker]\nliveness = nan", "cbw.toml:2: liveness: nan is not a valid number.", ""),
        ("log-level = 'loud'", "cbw.toml:1: log-level: 'loud' is not one of", ""),
        ("verbose = 1", "cbw.toml:1: verbose is 1; it must be true or false", ""),
        ("[worker]\napp = [1]", "cbw.toml:2: app is [1]; it must be a list of texts without blanks", ""),
        ("a = 1\nb = [", "cbw.toml is no TOML", "Correct the file, or move it away."),
        ("a = 1\na = 2\n", "cbw.toml:2 is no TOML: Cannot overwrite a value", "Correct the file, or move it away."),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, error: str, advice: str) -> None:
    write(text)
    with pytest.raises(UsageError) as found:
        take_settings_file("worker")
    assert str(found.value).startswith(error) and found.value.advice == advice


def test_a_file_that_cannot_be_read_is_an_error(folder: Path) -> None:
    (folder / "cbw.toml").write_bytes(b"\xff")
    with pytest.raises(UsageError, match=r"cbw.toml cannot be read: it is not UTF-8"):
        read_settings_file()
    (folder / "cbw.toml").unlink()
    (folder / "cbw.toml").mkdir()
    with pytest.raises(UsageError, match=r"cbw.toml cannot be read: Is a directory"):
        read_settings_file()


def test_a_tool_that_is_no_table_is_an_error() -> None:
    write("[tool]\ncbw = 3\n", "pyproject.toml")
    with pytest.raises(UsageError, match=r"pyproject.toml: tool.cbw is no table"):
        read_settings_file()


def test_no_key_means_two_things() -> None:
    for section, rows in SECTIONS.items():
        keys = [key_of(one) for one in (*rows, *(config_file.OF_ALL_ROLES if section else ()))]
        assert len(keys) == len(set(keys)), section
