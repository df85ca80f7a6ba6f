"""A headless Chromium for tests, spoken to over a pipe by the DevTools protocol: no driver, no port, no package."""

import base64
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

BINARY = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE_S = 60  # of a machine that does much else
FLAGS = (
    *("--headless", "--no-first-run", "--disable-extensions", "--disable-background-networking"),
    "--remote-debugging-pipe",  # reads commands from descriptor 3, answers on 4
    "--host-resolver-rules=MAP * ~NOTFOUND",  # nothing leaves
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader"),  # WebGL without a graphics card
    "--hide-scrollbars",
)


class Chromium:
    """One page. `events` are what the browser reported, as `(method, params)`, from the first page on."""

    def __init__(self, profile: Path):
        to_read, commands = os.pipe()
        answers, to_write = os.pipe()
        # The shell puts the two ends at 3 and 4, wherever Python's pipes lie.
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
        command = [BINARY, *FLAGS, *sandbox, f"--user-data-dir={profile}", "about:blank"]
        script = f'exec 3<&{to_read} 4>&{to_write}; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *command], pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL
        )
        os.close(to_read)
        os.close(to_write)
        self.commands, self.answers = commands, answers
        self.events, self.session, self.number, self.rest = [], None, 0, b""
        target = self.call("Target.getTargets")["targetInfos"][0]["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def close(self):
        self.call("Browser.close")
        self.process.wait(PATIENCE_S)
        os.close(self.commands)
        os.close(self.answers)

    def call(self, method, **params):
        """Send a command and wait for its result."""
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        text = json.dumps(message).encode() + b"\0"
        while text:
            text = text[os.write(self.commands, text) :]
        while True:
            answer = self._message()
            if answer.get("id") == self.number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def _message(self):
        while b"\0" not in self.rest:
            assert select.select([self.answers], [], [], PATIENCE_S)[0], "the browser doesn't answer"
            block = os.read(self.answers, 1 << 20)
            assert block, "the browser went away"
            self.rest += block
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append((message["method"], message["params"]))
        return message

    def open(self, file: Path, width=1280, height=900, mobile=False):
        """Open a file and wait until it has loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)
        seen = len(self.events)
        self.call("Page.navigate", url=file.as_uri())
        while not any(method == "Page.loadEventFired" for method, _ in self.events[seen:]):
            self._message()

    def run(self, expression):
        """The value of a JavaScript expression; promises are awaited."""
        answer = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait_for(self, expression):
        """Ask until the expression is true."""
        end = time.monotonic() + PATIENCE_S
        while not (value := self.run(expression)):
            assert time.monotonic() < end, f"never true: {expression}"
            time.sleep(0.1)
        return value

    def mouse(self, x, y, *kinds):
        """Mouse events, such as `mouseMoved`, at a point of the window."""
        for kind in kinds:
            button = {} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **button)

    def picture(self, **options):
        """A PNG of the window."""
        return base64.b64decode(self.call("Page.captureScreenshot", **options)["data"])

    def pdf(self):
        return base64.b64decode(self.call("Page.printToPDF", printBackground=True)["data"])
