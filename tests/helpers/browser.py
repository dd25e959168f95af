"""A headless Chromium that does what a person does, by the DevTools protocol over a pipe; no driver, no package."""

import json
import os
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
KEYS = {
    "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36,
    "Tab": 9, " ": 32,
}  # fmt: skip
_PATIENCE = 30.0


def find_browser() -> str | None:
    """Path of the browser: what IQAMETRICS_BROWSER names, else the first that is installed; None without one."""
    given = os.environ.get("IQAMETRICS_BROWSER")
    return given or next((found for found in map(shutil.which, NAMES) if found), None)


class Browser:
    """One page of a browser process.

    Attributes:
        problems: What the page has written to the console as a warning or error, and exceptions that nobody caught.
        asked: Addresses that the page has asked for.
    """

    def __init__(self, width: int = 1280, height: int = 900) -> None:
        program = find_browser()
        assert program, "there is no Chromium"
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.problems: list[str] = []
        self.asked: list[str] = []
        self._number, self._rest = 0, b""
        self._process = self._start(program)
        target = self._call("Target.createTarget", {"url": "about:blank"})["targetId"]
        session = self._call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        self._session: str | None = session
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")
        self.resize(width, height)

    def _start(self, program: str) -> "subprocess.Popen[bytes]":
        self._session = None
        to_browser, self._write = os.pipe()
        self._read, from_browser = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
                   "--no-first-run", "--disable-dev-shm-usage", "--hide-scrollbars",
                   f"--user-data-dir={self._folder.name}/profile", "--remote-debugging-pipe"]  # fmt: skip
        # The protocol's pipes are file descriptors 3 and 4; the shell puts ours there.
        command = f'exec 3<&{to_browser} 4>&{from_browser}; exec "$0" "$@"'
        process = subprocess.Popen(
            ["bash", "-c", command, program, *options], pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_browser)
        os.close(from_browser)
        return process

    def __enter__(self) -> "Browser":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait()
        os.close(self._read)
        os.close(self._write)
        self._folder.cleanup()

    # The protocol.

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the page."""
        return self._call(method, parameters)

    def _call(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                result: dict[str, Any] = answer["result"]
                return result
            self._hear(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], _PATIENCE)
            assert ready, "the browser does not answer"
            piece = os.read(self._read, 1 << 20)
            assert piece, "the browser has ended"
            self._rest += piece
        message, _, self._rest = self._rest.partition(b"\0")
        found: dict[str, Any] = json.loads(message)
        return found

    def _hear(self, event: dict[str, Any]) -> None:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            self.problems.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("warning", "error"):
            self.problems.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("warning", "error", "assert"):
            self.problems.append(str(told["args"]))
        elif method == "Network.requestWillBeSent":
            self.asked.append(told["request"]["url"])

    def version(self) -> str:
        """Name and version of the browser."""
        return str(self.call("Browser.getVersion")["product"])

    # What a person does.

    def open(self, page: Path) -> float:
        """Open a file; gives the seconds until its list is drawn."""
        start = time.perf_counter()
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait("document.readyState === 'complete'")
        return time.perf_counter() - start

    def resize(self, width: int, height: int) -> None:
        """Give the window a size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def look(self, scheme: str) -> None:
        """Ask for light or dark, as a system does."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def js(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        self.until(lambda: self.js(f"Boolean({condition})"), condition)

    @staticmethod
    def until(condition: Callable[[], Any], what: str) -> None:
        """Wait until something is true."""
        end = time.monotonic() + _PATIENCE
        while not condition():
            assert time.monotonic() < end, f"never became true: {what}"
            time.sleep(0.02)

    def text(self, selector: str) -> str:
        """Text of the first element, as it is seen."""
        return str(self.js(f"document.querySelector({json.dumps(selector)}).innerText"))

    def texts(self, selector: str) -> list[str]:
        """Text of all elements."""
        return list(self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map((e) => e.innerText)"))

    def middle(self, selector: str) -> tuple[float, float]:
        """Where the middle of an element is, after it has been scrolled into sight."""
        script = (
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'nearest'});"
            "const b = e.getBoundingClientRect(); return [b.left + b.width / 2, b.top + b.height / 2]; })()"
        )
        x, y = self.js(script)
        return x, y

    def click(self, selector: str) -> None:
        """Click on the middle of an element."""
        x, y = self.middle(selector)
        self.drag((x, y), (x, y))

    def drag(self, start: tuple[float, float], end: tuple[float, float], steps: int = 4) -> None:
        """Press the mouse at one place and let go at another."""
        self._mouse("mouseMoved", start)
        self._mouse("mousePressed", start, button="left", clickCount=1)
        for step in range(1, steps + 1) if start != end else ():
            share = step / steps
            place = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
            self._mouse("mouseMoved", place, button="left", buttons=1)
        self._mouse("mouseReleased", end, button="left", clickCount=1)

    def wheel(self, place: tuple[float, float], down: float) -> None:
        """Turn the wheel."""
        self._mouse("mouseWheel", place, deltaX=0, deltaY=down)

    def pinch(self, middle: tuple[float, float], before: float, after: float) -> None:
        """Put two fingers on the page and draw them apart, or together; distances in pixels."""
        x, y = middle

        def fingers(apart: float) -> list[dict[str, float]]:
            return [{"x": x - apart / 2, "y": y, "id": 0}, {"x": x + apart / 2, "y": y, "id": 1}]

        self.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=fingers(before))
        for step in range(1, 5):
            apart = before + (after - before) * step / 4
            self.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=fingers(apart))
        self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    def _mouse(self, kind: str, place: tuple[float, float], **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], **more)

    def key(self, key: str, *, shift: bool = False) -> None:
        """Press a key."""
        code = KEYS.get(key, ord(key.upper()[0]))
        printed = {"text": "\r" if key == "Enter" else key} if len(key) == 1 or key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            more = printed if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                      modifiers=8 if shift else 0, **more)  # fmt: skip

    def write(self, text: str) -> None:
        """Type a text where the focus is."""
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, value: str) -> None:
        """Choose an option of a list."""
        self.js(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.value = {json.dumps(value)};"
            "e.dispatchEvent(new Event('change', {bubbles: true})); })()"
        )

    def downloads(self, folder: Path) -> None:
        """Save what is downloaded in a folder."""
        self.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))

    def picture(self, path: Path, *, whole: bool = False) -> None:
        """Save what is seen as PNG; whole for the page beyond the window."""
        import base64

        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))


@contextmanager
def opened(page: Path, **size: int) -> Iterator[Browser]:
    """Open a page in a browser of its own."""
    with Browser(**size) as browser:
        browser.open(page)
        yield browser
