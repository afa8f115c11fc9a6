"""Headless Chromium, driven over its debugging pipe (no package needed)."""

import json
import os
import shutil
import subprocess
import time
from contextlib import contextmanager

import pytest

_SECONDS = 90


class Page:
    """One page of a running browser."""

    def __init__(self, read, write):
        self._read, self._write, self._number, self._session, self._rest = read, write, 0, None, b""
        self.requests, self.messages = [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Result of one command; events that arrive before it are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._keep(answer)

    def evaluate(self, script):
        """Value of a script of JavaScript, awaited."""
        found = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait_for(self, script):
        """Wait until a script is true."""
        end = time.monotonic() + _SECONDS
        while not self.evaluate(f"!!({script})"):
            assert time.monotonic() < end, (script, self.messages, self.evaluate("document.body.innerText"))
            time.sleep(0.05)

    def give_file(self, selector, path):
        """Choose a file in an ``<input type=file>``."""
        root = self.call("DOM.getDocument")["root"]["nodeId"]
        node = self.call("DOM.querySelector", nodeId=root, selector=selector)["nodeId"]
        self.call("DOM.setFileInputFiles", nodeId=node, files=[str(path)])

    def _next(self):
        while b"\0" not in self._rest:
            part = os.read(self._read, 1 << 16)
            assert part, "Chromium has ended"
            self._rest += part
        text, self._rest = self._rest.split(b"\0", 1)
        return json.loads(text)

    def _keep(self, event):
        if event.get("method") == "Network.requestWillBeSent":
            self.requests.append(event["params"]["request"]["url"])
        elif event.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
            self.messages.append(json.dumps(event["params"]))


@contextmanager
def chromium_page(profile, *flags):
    """A page of a new browser whose profile is the folder ``profile``; skips the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        pytest.skip("Chromium is not installed (Debian: chromium)")
    (read_theirs, write), (read, write_theirs) = os.pipe(), os.pipe()
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    options += flags
    # Chromium reads commands from descriptor 3 and writes answers to 4. The shell moves ours there.
    moved = f'exec "$@" 3<&{read_theirs} 4>&{write_theirs}'
    command = ["bash", "-c", moved, "bash", program, *options, f"--user-data-dir={profile}", "--remote-debugging-pipe"]
    with subprocess.Popen(command, pass_fds=(read_theirs, write_theirs), stderr=subprocess.DEVNULL) as browser:
        os.close(read_theirs)
        os.close(write_theirs)
        try:
            yield Page(read, write)
        finally:
            browser.terminate()
            os.close(read)
            os.close(write)
