"""A web server for tests, on a free port: whole answers, cut ones, and slow ones."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[[BaseHTTPRequestHandler], None]


def whole(content: bytes) -> Answer:
    """Sends `content`."""
    return cut(content, len(content))


def cut(content: bytes, sent: int) -> Answer:
    """Promises `content`, sends its first `sent` bytes, and hangs up."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content[:sent])

    return answer


def held(content: bytes, sent: int, release: threading.Event) -> Answer:
    """Promises `content`, sends its first `sent` bytes, and waits."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        cut(content, sent)(handler)
        handler.wfile.flush()
        release.wait(30)

    return answer


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: object, client_address: object) -> None:
        """Ignores a client that closed the connection: tests do so."""


@contextlib.contextmanager
def serve(answers: dict[str, Answer]) -> Iterator[tuple[str, list[str]]]:
    """Serves paths such as `/w.pt`; gives the server's URL, and the list of paths asked for so far."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            if self.path in answers:
                answers[self.path](self)
            else:
                self.send_error(404)

        def log_message(self, *args: object) -> None:
            """Says nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
