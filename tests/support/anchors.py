"""A log of leaves with its checkpoints, and real servers on localhost, honest and hostile."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer
from typing import Any

from guard.audit.anchors import WitnessKey, WitnessSigner
from guard.audit.anchors.server import WitnessServer
from guard.audit.anchors.witness import Witness
from guard.audit.checkpoint import Checkpoint, sign
from guard.audit.merkle import Tree, consistency_proof, leaf_hash
from guard.keys import Signer
from guard.testing import FakeClock

ORIGIN = "guard/audit"
LOG = Signer(ORIGIN, bytes([1]) * 32)
WITNESS = WitnessSigner("witness.example/w1", bytes([2]) * 32)
WITNESS_KEY = WitnessKey.from_text(WITNESS.vkey)


class History:
    """A log as its leaves; `fork` at an index gives another one that agrees up to there."""

    def __init__(self, *, fork_at: int | None = None) -> None:
        self.leaves = [
            leaf_hash(b"%d%s" % (i, b"!" if fork_at is not None and i >= fork_at else b""))
            for i in range(300)
        ]

    def checkpoint(self, size: int) -> Checkpoint:
        """What the log says of its first `size` entries."""
        tree = Tree()
        for leaf in self.leaves[:size]:
            tree.append(leaf)
        return Checkpoint(ORIGIN, size, tree.root())

    def note(self, size: int) -> bytes:
        """The same, signed by the log."""
        return sign(self.checkpoint(size), LOG)

    def at(self, size: int) -> tuple[bytes, Checkpoint]:
        """What a publisher is given."""
        return self.note(size), self.checkpoint(size)

    def consistency(self, old_size: int, size: int) -> list[bytes]:
        """The proof that a witness asks for."""
        return consistency_proof(self.leaves[:size], old_size)


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    """Serve on a thread, and close all at the end."""
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def witness_at(
    directory: Path, *, signer: WitnessSigner = WITNESS, port: int = 0
) -> Iterator[WitnessServer]:
    """A real witness that knows LOG."""
    witness = Witness(signer, logs=[(ORIGIN, LOG.verifier)], directory=directory, clock=FakeClock())
    try:
        server = WitnessServer(witness, ("127.0.0.1", port))
        with serving(server):
            yield server
    finally:
        witness.close()


@contextmanager
def answering(
    answer: Callable[[BaseHTTPRequestHandler], None],
) -> Iterator[tuple[str, list[tuple[Any, bytes]]]]:
    """An HTTP server that does to each POST whatever `answer` does; its URL, and what it got."""
    received: list[tuple[Any, bytes]] = []

    class Connection(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.headers, body))
            answer(self)

        def log_message(self, *args: object) -> None:
            """Silence."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            """The client has had enough: that is what is tested."""

    server = Server(("127.0.0.1", 0), Connection)
    with serving(server):
        yield f"http://127.0.0.1:{server.server_address[1]}", received


def says(status: int, body: bytes = b"", **headers: str) -> Callable[[Any], None]:
    """An answer for `answering`; `content_type` becomes Content-Type."""

    def answer(connection: BaseHTTPRequestHandler) -> None:
        connection.send_response(status)
        for name, value in headers.items():
            connection.send_header(name.replace("_", "-"), value)
        connection.send_header("Content-Length", str(len(body)))
        connection.end_headers()
        connection.wfile.write(body)

    return answer


def free_port() -> int:
    """A port where nobody listens at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
