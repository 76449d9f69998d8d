"""A real Chromium, steered over WebDriver (W3C), which is JSON over HTTP: no other library is needed."""

from __future__ import annotations

import base64
import json
import subprocess
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.live.program import wait_until
from tests.ports import free_port

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
TIMEOUT_S = 60
_OPTIONS = {
    "browserName": "chrome",
    "goog:loggingPrefs": {"browser": "ALL"},
    "goog:chromeOptions": {
        "binary": CHROMIUM,
        "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--lang=en"],
        "prefs": {"intl.accept_languages": "en"},
    },
}


class BrowserError(Exception):
    """What the driver says is wrong."""


class Browser:
    """One window of a headless Chromium."""

    def __init__(self) -> None:
        port = free_port()
        self._driver = subprocess.Popen(
            [DRIVER, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._url = f"http://127.0.0.1:{port}"
        try:
            wait_until(self._is_ready, "chromedriver")
            made = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": _OPTIONS}})
            self._url += f"/session/{made['sessionId']}"
        except BaseException:
            self._driver.kill()
            raise

    def _is_ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise BrowserError(json.load(error)["value"]["message"]) from None

    def open(self, url: str) -> None:
        """Go there, and wait for the whole page: to open the same page again returns before it is read, now and then."""
        self._ask("POST", "/url", {"url": url})
        wait_until(lambda: self.run("return document.readyState") == "complete", f"all of {url}")

    def run(self, script: str, *arguments: Any) -> Any:
        """What the body of a JavaScript function returns."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def run_async(self, script: str, *arguments: Any) -> Any:
        """What a script gives to the function that is its last argument."""
        return self._ask("POST", "/execute/async", {"script": script, "args": list(arguments)})

    def text(self, selector: str) -> str:
        """The text of the first element that matches."""
        return str(self.run("return (document.querySelector(arguments[0]) || {}).innerText || ''", selector))

    def wait_for(self, selector: str, text: str) -> None:
        """Wait until that element has this in its text."""
        wait_until(lambda: text in self.text(selector), f"{text!r} in {selector}: {self.text(selector)!r}")

    def keys(self, text: str) -> None:
        """Type, into what has the focus."""
        strokes = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._ask("POST", "/actions", {"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]})

    def size(self, width: int, height: int, *, is_dark: bool) -> None:
        """A screen of that size, with the colours that a person has chosen."""
        self._command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        features = [{"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}]
        self._command("Emulation.setEmulatedMedia", media="", features=features)

    def paper(self) -> None:
        """Show pages as they are printed, until :meth:`size` is called."""
        self._command("Emulation.setEmulatedMedia", media="print")

    def _command(self, name: str, **parameters: Any) -> Any:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": name, "params": parameters})

    def picture(self, file: Path) -> None:
        """Save a picture of the whole page as PNG."""
        shot = self._command("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shot["data"]))

    def complaints(self) -> list[str]:
        """What the console has said since the last look: errors and warnings."""
        return [
            entry["message"] for entry in self._ask("POST", "/se/log", {"type": "browser"}) if entry["level"] != "INFO"
        ]

    def close(self) -> None:
        """End it."""
        try:
            self._ask("DELETE", "")
        finally:
            self._driver.terminate()
            self._driver.wait(TIMEOUT_S)
