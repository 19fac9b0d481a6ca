"""Chromium without a window, spoken to over a pipe by its DevTools protocol.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

Scheme = Literal["light", "dark"]
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
PATIENCE: Final = 300.0  # seconds for a page to show what is waited for


class BrowserError(Exception):
    """There is no browser, or it cannot do what it was asked for."""


class Page:
    """The one tab of a browser."""

    def __init__(self, send: int, receive: int) -> None:
        self._send = send
        self._receive = receive
        self._rest = b""
        self._number = 0
        self._session: str | None = None
        [target] = [
            found["targetId"]
            for found in self.call("Target.getTargets")["targetInfos"]
            if found["type"] == "page"
        ]
        answer = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = answer["sessionId"]

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Calls a method of the protocol, and returns its result.

        Raises:
            BrowserError: it failed, or the browser ended.
        """
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") != self._number:
                continue  # an event, which nobody waits for
            if "error" in answer:
                raise BrowserError(f"{method}: {answer['error']['message']}")
            result: dict[str, Any] = answer["result"]
            return result

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._receive, 1 << 20)
            if not more:
                raise BrowserError("the browser has ended")
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def open(self, url: str, scheme: Scheme, width: int, height: int) -> None:
        """Opens a page of a size in CSS pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.call("Page.navigate", url=url)

    def run(self, script: str) -> Any:
        """Runs JavaScript in the page; returns what it gives."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        if "exceptionDetails" in answer:
            raise BrowserError(answer["exceptionDetails"]["exception"].get("description", script))
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Returns once JavaScript gives true.

        Raises:
            BrowserError: it did not in time.
        """
        deadline = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            if time.monotonic() > deadline:
                raise BrowserError(f"the page did not come to {condition}")
            time.sleep(0.2)

    def picture(self, element: str | None = None) -> bytes:
        """The page as it is seen, or one element of it, as PNG.

        Args:
            element: JavaScript that gives it.
        """
        more: dict[str, Any] = {}
        if element is not None:
            box = self.run(f"(({element}).getBoundingClientRect().toJSON())")
            more["clip"] = {
                **{name: box[name] for name in ("x", "y", "width", "height")},
                "scale": 1,
            }
            more["captureBeyondViewport"] = True
        shot = self.call("Page.captureScreenshot", format="png", **more)
        return base64.b64decode(shot["data"])


@contextmanager
def browser(program: str | None = None) -> Iterator[Page]:
    """Runs a browser with an empty profile for as long as the block runs.

    Raises:
        BrowserError: there is none.
    """
    found = program or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise BrowserError("no Chromium is on the path: install it, or name it with --browser")
    requests, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    with tempfile.TemporaryDirectory() as profile:
        options = [
            "--headless=new", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars",
            "--disable-gpu", "--force-color-profile=srgb", f"--user-data-dir={profile}",
            *(["--no-sandbox"] if os.geteuid() == 0 else []), "about:blank",
        ]  # fmt: skip
        # It reads from 3 and writes to 4.
        command = ["sh", "-c", f'exec "$@" 3<&{requests} 4>&{answers}', "sh", found, *options]
        with (Path(profile) / "log").open("wb") as log:
            process = subprocess.Popen(command, pass_fds=[requests, answers], stderr=log)
        os.close(requests)
        os.close(answers)
        try:
            yield Page(to_browser, from_browser)
        finally:
            process.terminate()
            process.wait()
            os.close(to_browser)
            os.close(from_browser)
