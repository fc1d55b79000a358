"""Where checkpoints go: real directories, real HTTP, a real witness, and answers that lie."""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.anchors import (
    LOG,
    WITNESS_KEY,
    History,
    answering,
    says,
    serving,
    witness_at,
)

from guard.audit.anchors import (
    DirectoryAnchor,
    WebhookAnchor,
    WitnessAnchor,
    WitnessSigner,
    anchors_from,
    cosignatures_of,
)
from guard.audit.anchors.cosignature import open_note, with_signatures
from guard.audit.anchors.post import ANSWER_BYTES_MAX
from guard.audit.checkpoint import parse
from guard.errors import AuditFault, ConfigError, LogCorrupt
from guard.keys import Mac
from guard.testing import FakeClock

TRUE = History()
FORK = History(fork_at=150)
SECRET = Mac(bytes(range(32)))


# A directory


def test_a_directory_holds_a_read_only_file_for_each_checkpoint(tmp_path: Path) -> None:
    anchor = DirectoryAnchor(tmp_path)
    for size in (9, 10, 9):
        anchor.publish(*TRUE.at(size))
    files = sorted(tmp_path.iterdir())
    assert [parse(file.read_bytes(), LOG.verifier).size for file in files] == [9, 10]
    assert all(file.stat().st_mode & 0o222 == 0 for file in files)


def test_a_directory_never_overwrites_and_keeps_a_fork_beside_the_truth(tmp_path: Path) -> None:
    anchor = DirectoryAnchor(tmp_path)
    anchor.publish(*TRUE.at(200))
    anchor.publish(*FORK.at(200))
    notes = {file.read_bytes() for file in tmp_path.iterdir()}
    assert notes == {TRUE.note(200), FORK.note(200)}


def test_a_torn_file_of_a_crash_is_left_and_the_checkpoint_goes_beside_it(tmp_path: Path) -> None:
    anchor = DirectoryAnchor(tmp_path)
    torn = Path(anchor.publish(*TRUE.at(9)).where)
    torn.chmod(0o600)
    torn.write_bytes(b"guard/au")
    receipt = anchor.publish(*TRUE.at(9))
    assert receipt.where == f"{torn}.1"
    assert (torn.read_bytes(), Path(receipt.where).read_bytes()) == (b"guard/au", TRUE.note(9))
    assert anchor.publish(*TRUE.at(9)) == receipt


def test_a_mount_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(AuditFault, match="does not take checkpoints: No such file"):
        DirectoryAnchor(tmp_path / "mount").publish(*TRUE.at(9))
    assert list(tmp_path.iterdir()) == []


def test_a_full_mount_is_an_error_and_then_takes_the_checkpoint(small_disk: Path) -> None:
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(bytes(1 << 20))
    with pytest.raises(AuditFault, match="No space"):
        DirectoryAnchor(small_disk).publish(*TRUE.at(9))
    filler.unlink()
    receipt = DirectoryAnchor(small_disk).publish(*TRUE.at(9))
    assert Path(receipt.where).read_bytes() == TRUE.note(9)


# A webhook


def test_a_webhook_gets_the_note_and_a_signature_that_verifies() -> None:
    with answering(says(204)) as (url, received):
        WebhookAnchor(f"{url}/hook?a=b", SECRET, clock=FakeClock()).publish(*TRUE.at(9))
    ((headers, body),) = received
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.digest(SECRET.key, signed, hashlib.sha256)).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    assert int(headers["webhook-timestamp"]) == FakeClock().now_ns() // 10**9
    assert parse(json.loads(body)["data"]["note"].encode(), LOG.verifier) == TRUE.checkpoint(9)


def test_a_webhook_signature_is_what_the_library_of_the_standard_makes() -> None:
    vector = json.loads(
        (Path(__file__).parent.parent / "vectors" / "webhook.json").read_text(encoding="utf-8")
    )
    with answering(says(200)) as (url, received):
        WebhookAnchor(url, SECRET, clock=FakeClock()).publish(*TRUE.at(9))
    ((headers, body),) = received
    assert body.decode() == vector["body"]
    assert {name: headers[name] for name in vector["headers"]} == vector["headers"]


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 401, 500, 503])
def test_a_webhook_that_does_not_answer_2xx_has_failed(status: int) -> None:
    with (
        answering(says(status, Location="http://127.0.0.1:1/")) as (url, received),
        pytest.raises(AuditFault, match=r"redirects|answered \d+: expected 2xx"),
    ):
        WebhookAnchor(url, SECRET).publish(*TRUE.at(9))
    assert len(received) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/hook",
        "ftp://127.0.0.1/",
        "https://user:password@example.com/",
        "https://example.com/a b",
        "https://example.com/\r\nX: y",
        "https://",
        "https://[::1",
        "https://example.com:99999/",
        "//example.com",
    ],
)
def test_urls_that_are_open_or_malformed_are_refused_without_their_path(url: str) -> None:
    with pytest.raises(ConfigError) as refused:
        WebhookAnchor(url, SECRET)
    assert "hook" not in str(refused.value)
    assert "password" not in str(refused.value)


def test_https_is_verified_against_the_configured_authority(tmp_path: Path) -> None:
    certificate, key = _certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    received = []

    class Connection(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            says(200)(self)

        def log_message(self, *args: object) -> None:
            """Silence."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            """A client that does not trust the certificate hangs up."""

    server = Server(("127.0.0.1", 0), Connection)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.server_address[1]}/"
    with serving(server):
        WebhookAnchor(url, SECRET, ca_file=certificate).publish(*TRUE.at(9))
        with pytest.raises(AuditFault, match="cannot be reached"):
            WebhookAnchor(url, SECRET).publish(*TRUE.at(9))
    assert len(received) == 1


def _certificate(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


# A witness


def _anchor(url: str, history: History = TRUE, *, timeout_s: float = 5) -> WitnessAnchor:
    return WitnessAnchor(url, WITNESS_KEY, consistency=history.consistency, timeout_s=timeout_s)


def test_a_witness_cosigns_and_the_cosignature_goes_under_the_note(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        anchor = _anchor(server.url)
        for size in (0, 7, 200, 200, 300):
            note, checkpoint = TRUE.at(size)
            receipt = anchor.publish(note, checkpoint)
            cosigned = with_signatures(note, receipt.cosignatures)
            assert len(cosignatures_of(cosigned, [WITNESS_KEY])) == 1
            assert parse(cosigned, LOG.verifier) == checkpoint


def test_an_anchor_that_forgot_asks_the_witness_for_its_size(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        _anchor(server.url).publish(*TRUE.at(100))
        assert _anchor(server.url).publish(*TRUE.at(200)).cosignatures


def test_a_fork_and_a_log_that_was_cut_back_are_alarms(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        _anchor(server.url).publish(*TRUE.at(200))
        with pytest.raises(LogCorrupt, match="has seen another history of this log up to 200"):
            _anchor(server.url, FORK).publish(*FORK.at(220))
        with pytest.raises(LogCorrupt, match="has seen another history of this log up to 200"):
            _anchor(server.url, FORK).publish(*FORK.at(200))
        with pytest.raises(LogCorrupt, match="has cosigned 200 entries and this log has 100"):
            _anchor(server.url).publish(*TRUE.at(100))


def _line(signer: WitnessSigner, history: History = TRUE) -> bytes:
    text, _ = open_note(history.note(200))
    return signer.cosign(text, 1).encode()


TRICKLED = "did not answer within 0.2 s"


def _trickle(connection: Any) -> None:
    released = threading.Event()
    connection.send_response(200)
    connection.send_header("Content-Length", "5000")
    connection.end_headers()
    while True:  # Until the client hangs up.
        connection.wfile.write(b"x")
        released.wait(0.02)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (says(200, _line(WitnessSigner("other/w", bytes(32)))), "signed with another key"),
        (says(200, _line(WitnessSigner(WITNESS_KEY.name, bytes(32)))), "signed with another key"),
        (says(200, _line(WitnessSigner("witness.example/w1", bytes([2]) * 32), FORK)), "not hold"),
        (says(200, b"\xff\xfe\x00 garbage"), "answered no cosignature"),
        (says(200, b"<html>hello</html>\n"), "answered no cosignature"),
        (says(200, b""), "answered no cosignature"),
        (says(200, LOG.sign(b"")), "answered no cosignature"),
        (says(200, b"x" * (10 << 20)), f"over {ANSWER_BYTES_MAX} bytes"),
        (says(302, Location="http://127.0.0.1:1/"), "redirects"),
        (says(409, b"200\n"), "answered 409"),
        (says(409, b"x\n", content_type="text/x.tlog.size"), "409 without a size"),
        (says(409, b"-1\n", content_type="text/x.tlog.size"), "409 without a size"),
        (says(409, b"9" * 5000, content_type="text/x.tlog.size"), "409 without a size"),
        (says(409, b"100\n", content_type="text/x.tlog.size"), "answered 409"),
        (says(403), "does not trust the key"),
        (says(404), "does not know this log"),
        (says(500), "answered 500"),
        (_trickle, TRICKLED),
    ],
)
def test_a_hostile_witness_is_not_believed(answer: Callable[[Any], None], message: str) -> None:
    with answering(answer) as (url, received):
        timeout_s = 0.2 if message == TRICKLED else 5
        with pytest.raises(AuditFault, match=message) as refused:
            _anchor(url, timeout_s=timeout_s).publish(*TRUE.at(200))
        assert not isinstance(refused.value, LogCorrupt)
    assert len(received) <= 2


# From configuration


def test_anchors_come_from_their_configuration(tmp_path: Path) -> None:
    anchors = anchors_from(
        [
            {"kind": "directory", "directory": "worm", "ca_file": None},
            {"kind": "webhook", "url": "https://example.com/a", "secret_file": "hook.key"},
            {"kind": "object_store", "url": "https://s3.example.com", "bucket": "b",
             "retention_days": 7, "name": "s3"},
            {"kind": "witness", "url": "http://10.0.0.7:7380", "key": str(WITNESS_KEY)},
        ],
        consistency=TRUE.consistency,
        base=tmp_path,
    )  # fmt: skip
    assert [(anchor.name, anchor.interval_s) for anchor in anchors] == [
        ("directory", 60), ("webhook", 10), ("s3", 60), ("witness.example/w1", 0),
    ]  # fmt: skip
    assert (tmp_path / "hook.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "pigeon"}, r"audit.anchors\[0\]: `pigeon` lacks or is unknown: expected kind ="),
        ({}, r"audit.anchors\[0\]: `None` lacks"),
        ({"kind": "webhook", "url": "https://a"}, "`secret_file` lacks"),
        ({"kind": "directory", "directory": "d", "colour": 1}, "unexpected keyword .*colour"),
        ({"kind": "witness", "url": "http://a", "key": LOG.vkey}, "malformed public key"),
    ],
)
def test_a_wrong_entry_is_named(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        anchors_from([entry], consistency=TRUE.consistency)
