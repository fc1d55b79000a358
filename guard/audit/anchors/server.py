"""The witness on HTTP: `POST /add-checkpoint`, and `GET /<hex>/checkpoint` for whoever checks.

Connections are bounded in number, life and bytes. It speaks plain HTTP: what goes over the wire
is signed. Behind a proxy that speaks TLS it is as good as any.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from .post import Answer, cut_off
from .witness import ADD_CHECKPOINT, REQUEST_BYTES_MAX, Witness

__all__ = ["WitnessServer"]

CONNECTIONS_MAX: Final = 64
# For one operation on a socket, and for all that happens on it.
IDLE_S_MAX: Final = 10
CONNECTION_S_MAX: Final = 60


class WitnessServer(ThreadingHTTPServer):
    """Serves a witness until `shutdown`; `on_answer` is told each status, from any thread."""

    daemon_threads = True
    request_queue_size = CONNECTIONS_MAX

    def __init__(
        self,
        witness: Witness,
        address: tuple[str, int],
        *,
        on_answer: Callable[[int, str], None] | None = None,
    ) -> None:
        self.witness = witness
        self.on_answer = on_answer
        self._free = threading.BoundedSemaphore(CONNECTIONS_MAX)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Connection)

    @property
    def url(self) -> str:
        """Where it listens."""
        host, port = self.server_address[:2]
        name = host if isinstance(host, str) else bytes(host).decode()
        return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection on a thread of its own, or close it when there are too many."""
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve it to its end, which comes after CONNECTION_S_MAX at the latest."""
        try:
            with cut_off(request, CONNECTION_S_MAX):
                super().process_request_thread(request, client_address)
        except TimeoutError:
            return  # Closed already, and the client may come again.
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no event."""
        if self.on_answer is not None:
            self.on_answer(0, "the connection broke")


class _Connection(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "guard-witness"
    sys_version = ""
    timeout = IDLE_S_MAX

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        is_plain = "Transfer-Encoding" not in self.headers and length.isascii() and length.isdigit()
        if not is_plain or len(length) > 6 or int(length) > REQUEST_BYTES_MAX:
            self.close_connection = True  # What follows is unread: it must not become a request.
            message = f"expected Content-Length, and at most {REQUEST_BYTES_MAX} bytes"
            self._answer(_plain(413 if is_plain else 400, message))
            return
        body = self.rfile.read(int(length))
        if self.path != ADD_CHECKPOINT or len(body) != int(length):
            self._answer(_plain(404, "expected POST /add-checkpoint"))
            return
        self._answer(self.server.witness.add_checkpoint(body))

    def do_GET(self) -> None:
        self.close_connection = True  # Its body, if there is one, is unread.
        note = self.server.witness.latest(self.path)
        if note is None:
            self._answer(_plain(404, "nothing was cosigned for this"))
            return
        self._answer(Answer(200, "text/plain; charset=utf-8", note))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 the name it has
        """Nothing: a client chooses what would be written there."""

    def _answer(self, answer: Answer) -> None:
        if self.server.on_answer is not None:
            shown = "" if answer.status == 200 else answer.body.decode().strip()
            self.server.on_answer(answer.status, shown)
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer.body)


def _plain(status: int, message: str) -> Answer:
    return Answer(status, "text/plain; charset=utf-8", f"{message}\n".encode())
