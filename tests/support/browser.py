"""Chromium without a window, driven by its own protocol (https://chromedevtools.github.io/devtools-protocol/)."""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

_SECONDS = 60


class Tab:
    """One page. What it says on its console, and what it asks of whom, is kept."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number = socket, 0
        self.console: list[str] = []
        self.asked: list[str] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the protocol."""
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = json.loads((await self._socket.receive(timeout=_SECONDS)).data)
            self._note(message)
            if message.get("id") == self._number:
                assert "error" not in message, message
                return dict(message["result"])

    def _note(self, message: dict[str, Any]) -> None:
        own = message.get("params", {})
        if message.get("method") == "Network.requestWillBeSent":
            self.asked.append(own["request"]["url"])
        if message.get("method") in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"):
            self.console.append(json.dumps(own)[:500])

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited."""
        result = await self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def until(self, script: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + _SECONDS
        while not await self.run(script):
            assert time.monotonic() < end, script

    async def screen(self, width: int, height: int, dark: bool) -> None:
        """The size in pixels, and the colours that the reader prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
        )
        value = "dark" if dark else "light"
        await self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    async def screenshot(self) -> bytes:
        """The whole page as a PNG."""
        return base64.b64decode((await self.call("Page.captureScreenshot", captureBeyondViewport=True))["data"])


async def browse(chromium: str, profile: Path, address: str, visit: Callable[[Tab], Awaitable[None]]) -> None:
    """Open ``address`` and let ``visit`` do what it wants with it."""
    command = [
        chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        f"--user-data-dir={profile}", "--disable-background-networking", "--disable-component-update",
        "--remote-debugging-port=0", "about:blank",
    ]  # fmt: skip
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        port = profile / "DevToolsActivePort"
        end = time.monotonic() + _SECONDS
        while not (port.exists() and port.read_text().strip()):
            assert time.monotonic() < end, "the browser did not start"
            assert browser.poll() is None
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port.read_text().split()[0]}/json") as reply:
                (page,) = [one for one in await reply.json() if one["type"] == "page"]
            async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                for domain in ("Network", "Runtime", "Log", "Page"):
                    await tab.call(f"{domain}.enable")
                await tab.call("Page.navigate", url=address)
                await tab.until(f"location.href == {json.dumps(address)} && document.readyState == 'complete'")
                await visit(tab)
    finally:
        browser.kill()
        browser.wait()
