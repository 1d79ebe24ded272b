"""A server on this machine for judges from outside: a test says how it answers."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class LocalServer(ThreadingHTTPServer):
    """Listens on a free port; `url` is the address of its API."""

    daemon_threads = True
    block_on_close = False  # a slow reply must not hold up the end of a test

    def __init__(self, handler: type[BaseHTTPRequestHandler]):
        super().__init__(("127.0.0.1", 0), handler)
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class LocalHandler(BaseHTTPRequestHandler):
    """Sends what it is told to, and logs nothing."""

    def log_message(self, *_):
        pass

    def send(self, status: int, content: bytes = b"{}", headers=()) -> None:
        self.send_response(status)
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@contextmanager
def running(server: LocalServer) -> Iterator[LocalServer]:
    """The server, answering in a thread of its own until the block ends."""
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
