"""What a table of the seconds of the tests is made of."""

from __future__ import annotations

from pathlib import Path

from tests.seconds import seconds_by_kind


def report(path: Path, **times: str) -> Path:
    cases = "".join(
        f'<testcase classname="{name.replace("_of_", ".")}" time="{time}"/>' for name, time in times.items()
    )
    path.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")
    return path


def test_seconds_are_summed_by_folder_over_all_reports(tmp_path: Path) -> None:
    first = report(tmp_path / "1.xml", tests_of_unit_of_core_of_test_x="1.5", tests_of_test_layout="0.5")
    second = report(tmp_path / "2.xml", tests_of_live_of_test_y_of_TestIt="20", tests_of_unit_of_test_z="2")
    found = seconds_by_kind([first, second])
    assert list(found.items()) == [("tests/live/", 20.0), ("tests/unit/", 3.5), ("tests/test_layout.py", 0.5)]
