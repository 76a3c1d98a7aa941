"""One page over HTTP, on this machine's loopback alone."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from tuner.ports import HOST

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}


class PageServer:
    """The newest page, and who asked for it. All threads may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page = b""
        self._version = ""
        self._asked_s = 0.0
        self.handed = ""
        """The version that was handed over last."""

    def publish(self, page: str, version: str) -> None:
        """Serves `page` from now on. A browser that has the same `version` is told that nothing changed."""
        with self._lock:
            self._page, self._version = page.encode(), version

    @property
    def version(self) -> str:
        """The version of the page that is served."""
        return self._version

    @property
    def unasked_s(self) -> float:
        """Seconds since a browser asked last; since ever, if none did."""
        return time.monotonic() - self._asked_s

    def answer(self, known: str | None) -> tuple[bytes | None, str]:
        """Returns the page, or None to a browser that has the version `known`; and the page's version."""
        with self._lock:
            self._asked_s, self.handed = time.monotonic(), self._version
            tag = f'"{self._version}"'
            return (None if known == tag else self._page), tag


@contextmanager
def served(page: PageServer) -> Iterator[str]:
    """Serves a page at a free port within the block; gives its address.

    Nothing else is served, and only to requests that name the loopback as their host: a page of another site
    whose name was made to lead here (DNS rebinding) gets nothing.
    """
    with http.server.ThreadingHTTPServer((HOST, 0), _handler_of(page)) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="report", daemon=True)
        thread.start()
        try:
            yield f"http://{HOST}:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def _handler_of(page: PageServer) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """Answers GET and HEAD of `/`."""

        server_version, sys_version = "tuner", ""
        timeout = 30.0  # a connection that says nothing must not hold its thread for ever

        def do_GET(self) -> None:
            """Answers with the page, or that it has not changed."""
            self._answer(with_body=True)

        def do_HEAD(self) -> None:
            """Answers as GET does, without the page."""
            self._answer(with_body=False)

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the terminal has other lines."""

        def _answer(self, *, with_body: bool) -> None:
            assert isinstance(self.server, http.server.HTTPServer)
            port = self.server.server_port
            if self.headers.get("Host", "") not in (f"{HOST}:{port}", f"localhost:{port}"):
                self.send_error(HTTPStatus.FORBIDDEN, "Ask for 127.0.0.1 or localhost")
                return
            if self.path != "/":
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            body, tag = page.answer(self.headers.get("If-None-Match"))
            self.send_response(HTTPStatus.NOT_MODIFIED if body is None else HTTPStatus.OK)
            self.send_header("ETag", tag)
            for name, value in HEADERS.items():
                self.send_header(name, value)
            if body is not None:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if body is not None and with_body:
                self.wfile.write(body)

    return Handler
