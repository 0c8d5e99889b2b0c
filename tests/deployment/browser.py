"""A headless Chromium, driven over a pipe by its DevTools protocol: no package and no open port are needed."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless_shell")
_LAUNCH = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3); os.dup2(int(sys.argv[2]), 4); os.execv(sys.argv[3], sys.argv[3:])"
)
_OPTIONS = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",  # tests may run as root
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--mute-audio",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]


def find_chromium():
    """Path of a Chromium, that of the environment variable KINEMA_CHROMIUM first; None if there is none."""
    named = os.environ.get("KINEMA_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One page of a browser. Times are in seconds and long: the machine of the tests may be busy."""

    def __init__(self, path, folder):
        down, up = os.pipe(), os.pipe()  # to the browser, from it
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (down[0], up[1])]  # not 3 nor 4, where they go
        command = [sys.executable, "-c", _LAUNCH, *map(str, theirs), path, *_OPTIONS, f"--user-data-dir={folder}"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*command, "about:blank"], pass_fds=theirs, **quiet)
        for fd in (*theirs, down[0], up[1]):
            os.close(fd)
        self._to, self._from = down[1], up[0]
        self._last, self._rest, self.events = 0, b"", []
        self._session = None
        (page,) = [each for each in self.ask("Target.getTargets")["targetInfos"] if each["type"] == "page"][:1]
        attached = self.ask("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "DOM", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self._session = None
            self.ask("Browser.close")
        for fd in (self._to, self._from):
            os.close(fd)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def ask(self, method, **parameters):
        """One command of the protocol and its result; what happens meanwhile is kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return answer["result"]
            self.events.append(answer)

    def _read(self, seconds=120):
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._from], [], [], seconds)
            assert ready, f"the browser says nothing for {seconds} s"
            read = os.read(self._from, 1 << 16)
            if not read:
                raise OSError("the browser has ended")
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def value(self, expression):
        """What JavaScript makes of an expression."""
        result = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait_for(self, expression, seconds=120):
        """The value of an expression, as soon as it is true."""
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < end, f"{expression} is not true after {seconds} s"
            time.sleep(0.1)
        return value

    def choose(self, selector, path):
        """Give a file to an input."""
        root = self.ask("DOM.getDocument")["root"]["nodeId"]
        node = self.ask("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.ask("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def screenshot(self, path, *, width=1000, height=520):
        """Write what is seen as a PNG."""
        self.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        Path(path).write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))

    def asked_for(self):
        """Addresses that the page has asked for."""
        return [
            event["params"]["request"]["url"] for event in self.events if event["method"] == "Network.requestWillBeSent"
        ]

    def complaints(self):
        """Errors of scripts, and what the browser refused to load."""
        told = [
            event["params"] for event in self.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")
        ]
        return [each for each in told if "exceptionDetails" in each or each["entry"]["level"] == "error"]
