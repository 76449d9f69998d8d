"""The report of a real verification, in a real browser."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.program import environment

from .browser import Browser

pytestmark = [pytest.mark.timeout(180), pytest.mark.xdist_group("page")]
PICTURES = os.environ.get("CBW_TEST_PICTURES", "")
"""Where to save what the browser shows, for the documentation."""


def verify(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cbw", "verify", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=environment(), check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With the traces of a verification in ``traces``, and both forms of its report."""
    folder = tmp_path_factory.mktemp("report")
    done = verify("--keep", folder / "traces", "--report", folder / "report.html")
    assert done.returncode in (0, 4), done.stderr  # 4: on a busy machine a worker may be free for too long
    traces = sorted((folder / "traces").glob("*.jsonl"))
    assert verify("--trace", *traces, "--report", folder / "report.md").returncode == done.returncode
    return folder


@pytest.mark.parametrize("is_dark", [False, True])
@pytest.mark.parametrize(("width", "height"), [(1280, 900), (390, 844)])
def test_everybody_can_read_it(
    folder: Path, browser: Browser, axe: str, width: int, height: int, is_dark: bool, tmp_path: Path
) -> None:
    browser.size(width, height, is_dark=is_dark)
    browser.open((folder / "report.html").as_uri())
    assert browser.run("return document.documentElement.scrollWidth") <= width, "it scrolls sideways"
    browser.run(axe)
    found = browser.run_async("axe.run().then(arguments[arguments.length - 1])")
    told = [f"{one['id']}: {[node['html'] for node in one['nodes']][:3]}" for one in found["violations"]]
    assert told == [] and len(found["passes"]) > 10
    browser.complaints()  # what axe did
    browser.picture(Path(PICTURES or tmp_path) / f"report-{width}-{'dark' if is_dark else 'light'}.png")


def test_each_harm_has_its_picture(folder: Path, browser: Browser) -> None:
    browser.size(1280, 900, is_dark=False)
    browser.open((folder / "report.html").as_uri())
    titles = browser.run("return [...document.querySelectorAll('figure h3')].map(title => title.innerText)")
    assert [title.split(" while ")[0].split()[-1] for title in titles] == [
        "hurt", "killed", "frozen", "killed", "restarted",
    ]  # fmt: skip
    for kind in ("late", "answered"):
        bars = "return document.querySelectorAll(`figure:nth-of-type(3) rect.${arguments[0]}`).length"
        assert browser.run(bars, kind) == 1, kind
    widths = browser.run("return [...document.querySelectorAll('rect')].map(bar => bar.getBoundingClientRect().width)")
    assert min(widths) > 0
    assert browser.run("return performance.getEntriesByType('resource').length") == 0, "it asks for something"
    assert browser.complaints() == []


def test_it_can_be_printed(folder: Path, browser: Browser, tmp_path: Path) -> None:
    browser.size(794, 1123, is_dark=True)
    browser.open((folder / "report.html").as_uri())
    browser.paper()
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("return document.documentElement.scrollWidth") <= 794, "it is cut off at the right"
    browser.picture(Path(PICTURES or tmp_path) / "report-print.png")


def test_markdown_says_the_same(folder: Path, browser: Browser) -> None:
    browser.open((folder / "report.html").as_uri())
    text = (folder / "report.md").read_text().replace("\\", "")
    for selector in ("h1", "h2", "h3", "figure td:nth-child(2)"):
        for said in browser.run(
            "return [...document.querySelectorAll(arguments[0])].map(one => one.textContent)", selector
        ):
            assert said.replace("&", "&amp;") in text, said


@pytest.mark.parametrize("name", ["report.pdf", "nowhere/report.html", ""])
def test_a_report_that_cannot_be_written(tmp_path: Path, name: str) -> None:
    """It is told before anything is done."""
    done = verify("--report", tmp_path / name)
    assert done.returncode == 2
    assert "--report" in done.stderr and "Traceback" not in done.stderr
