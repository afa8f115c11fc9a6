"""A file server for the page, on this machine only."""

from __future__ import annotations

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from dpt_deploy.core.errors import ResourceError

HOST = "127.0.0.1"


class PageHandler(SimpleHTTPRequestHandler):
    """Files with the types and headers that modules, WebAssembly and its threads need."""

    extensions_map = {  # noqa: RUF012  the base class declares it so
        **SimpleHTTPRequestHandler.extensions_map,
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-cache")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class's name
        """Print nothing."""


def make_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """A server of ``folder`` on 127.0.0.1; port 0 takes a free one.

    Raises:
        ResourceError: the port is taken or not allowed.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(PageHandler, directory=str(folder)))
    except OSError as exc:
        raise ResourceError(f"port {port} cannot be used: {exc.strerror}", hint="give another one with --port") from exc
