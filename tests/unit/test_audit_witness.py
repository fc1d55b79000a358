"""Cosignatures against vectors that Go made; the witness over real HTTP, and over restarts."""

from __future__ import annotations

import base64
import http.client
import json
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.anchors import LOG, ORIGIN, WITNESS, WITNESS_KEY, History, witness_at

from guard.audit.anchors import WitnessKey, WitnessSigner, cosignatures_of
from guard.audit.anchors.cosignature import open_note, with_signatures
from guard.audit.anchors.server import CONNECTIONS_MAX, WitnessServer
from guard.audit.anchors.witness import REQUEST_BYTES_MAX, Witness
from guard.audit.checkpoint import Checkpoint, parse, sign
from guard.errors import ConfigError, LogCorrupt
from guard.keys import Signer, Verifier
from guard.testing import FakeClock

_FOLDER = Path(__file__).parent.parent / "vectors"
VECTORS = json.loads((_FOLDER / "cosignatures.json").read_text(encoding="utf-8"))
REQUESTS = json.loads((_FOLDER / "add_checkpoint.json").read_text(encoding="utf-8"))
NOON_S = FakeClock().now_ns() // 1_000_000_000
TRUE = History()
FORK = History(fork_at=150)


# Cosignatures


def test_cosignatures_that_go_made_are_verified_with_their_times() -> None:
    keys = [WitnessKey.from_text(w["vkey"]) for w in VECTORS["witnesses"]]
    found = cosignatures_of(VECTORS["cosigned"].encode(), keys)
    assert {c.witness: c.timestamp_s for c in found} == VECTORS["times_s"]


def test_we_sign_byte_for_byte_what_go_signs() -> None:
    note = VECTORS["note"].encode()
    text, _ = open_note(note)
    lines = []
    for vector in VECTORS["witnesses"]:
        signer = WitnessSigner(vector["name"], bytes.fromhex(vector["seed_hex"]))
        assert signer.vkey == vector["vkey"]
        lines.append(signer.cosign(text, VECTORS["times_s"][vector["name"]]))
    assert with_signatures(note, lines) == VECTORS["cosigned"].encode()


def test_the_log_key_verifies_a_note_that_go_signed_and_witnesses_cosigned() -> None:
    checkpoint = parse(VECTORS["cosigned"].encode(), Verifier.from_text(VECTORS["log_vkey"]))
    assert (checkpoint.origin, checkpoint.size) == ("log.example/behind-the-sofa", 20852163)


def test_witnesses_that_are_not_trusted_are_passed_over() -> None:
    second = WitnessKey.from_text(VECTORS["witnesses"][1]["vkey"])
    found = cosignatures_of(VECTORS["cosigned"].encode(), [second])
    assert [c.witness for c in found] == ["witness.example/w2"]
    assert cosignatures_of(VECTORS["note"].encode(), [second]) == []


def test_a_changed_time_or_text_breaks_a_cosignature() -> None:
    text, _ = open_note(TRUE.note(5))
    line = WITNESS.cosign(text, NOON_S)
    name, encoded = line[2:].split(" ")
    raw = bytearray(base64.b64decode(encoded))
    raw[11] ^= 1  # the last byte of the time
    later = f"— {name} {base64.b64encode(raw).decode()}\n"
    for note in (with_signatures(TRUE.note(5), [later]), with_signatures(FORK.note(160), [line])):
        with pytest.raises(LogCorrupt, match="its cosignature of `witness"):
            cosignatures_of(note, [WITNESS_KEY])


def test_a_key_of_a_log_is_no_key_of_a_witness_and_the_reverse(tmp_path: Path) -> None:
    WitnessSigner.load_or_create(tmp_path / "w", name="w")
    assert stat.S_IMODE((tmp_path / "w").stat().st_mode) == 0o600
    with pytest.raises(ConfigError, match="is not a private key"):
        Signer.load_or_create(tmp_path / "w")
    with pytest.raises(ConfigError, match="malformed public key"):
        WitnessKey.from_text(LOG.vkey)
    with pytest.raises(ConfigError, match="malformed public key"):
        Verifier.from_text(WITNESS.vkey)
    assert Verifier(WITNESS.name, WITNESS_KEY.public_bytes).key_id != WITNESS_KEY.key_id


# The witness


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WitnessServer]:
    with witness_at(tmp_path / "state") as server:
        yield server


def request(old_size: int, note: bytes, proof: list[bytes]) -> bytes:
    lines = b"".join(base64.b64encode(node) + b"\n" for node in proof)
    return b"old %d\n%s\n%s" % (old_size, lines, note)


def submit(server: WitnessServer, body: bytes, **headers: str) -> tuple[int, str | None, bytes]:
    host, port = server.server_address[:2]
    connection = http.client.HTTPConnection(str(host), port, timeout=5)
    try:
        connection.request("POST", "/add-checkpoint", body, headers)
        response = connection.getresponse()
        return response.status, response.headers["Content-Type"], response.read()
    finally:
        connection.close()


def submit_at(server: WitnessServer, history: History, old_size: int, size: int) -> Any:
    proof = history.consistency(old_size, size) if old_size else []
    return submit(server, request(old_size, history.note(size), proof))


def test_each_checkpoint_that_continues_the_log_is_cosigned(server: WitnessServer) -> None:
    for old_size, size in ((0, 0), (0, 1), (1, 100), (100, 200), (200, 200), (200, 256)):
        status, _, line = submit_at(server, TRUE, old_size, size)
        assert status == 200
        found = cosignatures_of(with_signatures(TRUE.note(size), [line.decode()]), [WITNESS_KEY])
        assert [(c.witness, c.timestamp_s) for c in found] == [(WITNESS.name, NOON_S)]


def test_a_log_that_go_made_is_cosigned_where_it_is_true_and_refused_where_it_is_forked(
    tmp_path: Path,
) -> None:
    key = Verifier.from_text(REQUESTS["log_vkey"])
    witness = Witness(WITNESS, logs=[(key.name, key)], directory=tmp_path, clock=FakeClock())
    answers = [witness.add_checkpoint(step["request"].encode()) for step in REQUESTS["steps"]]
    witness.close()
    assert [a.status for a in answers] == [step["status"] for step in REQUESTS["steps"]]


def test_a_forked_log_is_refused_with_422(server: WitnessServer) -> None:
    submit_at(server, TRUE, 0, 200)
    assert submit_at(server, FORK, 200, 220)[0] == 422
    assert submit_at(server, TRUE, 200, 220)[0] == 200


def test_another_root_at_the_same_size_is_refused_with_409(server: WitnessServer) -> None:
    submit_at(server, TRUE, 0, 200)
    status, content_type, _ = submit(server, request(200, FORK.note(200), []))
    assert (status, content_type) == (409, "text/plain; charset=utf-8")


def test_a_log_that_was_cut_back_is_told_the_size_that_was_cosigned(server: WitnessServer) -> None:
    submit_at(server, TRUE, 0, 200)
    assert submit_at(server, TRUE, 0, 100) == (409, "text/x.tlog.size", b"200\n")
    assert submit_at(server, TRUE, 200, 200)[0] == 200


def test_a_proof_where_none_belongs_is_refused(server: WitnessServer) -> None:
    assert submit(server, request(0, TRUE.note(9), [bytes(32)]))[0] == 422
    submit_at(server, TRUE, 0, 9)
    assert submit(server, request(9, TRUE.note(9), [bytes(32)]))[0] == 422


def test_unknown_logs_and_keys_and_an_old_size_above_the_new_have_their_own_answers(
    server: WitnessServer,
) -> None:
    other_key = Signer(ORIGIN, bytes([9]) * 32)
    changed = TRUE.note(9).replace(b"\n9\n", b"\n8\n")
    unknown = sign(Checkpoint("another/log", 9, bytes(32)), LOG)
    assert submit(server, request(0, sign(TRUE.checkpoint(9), other_key), []))[0] == 403
    assert submit(server, request(0, changed, []))[0] == 403
    assert submit(server, request(0, unknown, []))[0] == 404
    assert submit(server, request(10, TRUE.note(9), []))[0] == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 0\n",
        b"old 00\n\n" + TRUE.note(9),
        b"old -1\n\n" + TRUE.note(9),
        b"old 1_0\n\n" + TRUE.note(9),
        b"old " + b"9" * 5000 + b"\n\n" + TRUE.note(9),
        b"OLD 0\n\n" + TRUE.note(9),
        b"old 0\r\n\r\n" + TRUE.note(9),
        b"old 0\nnot base64\n\n" + TRUE.note(9),
        b"old 0\nAAAA\n\n" + TRUE.note(9),
        b"old 1\n" + (base64.b64encode(bytes(32)) + b"\n") * 64 + b"\n" + TRUE.note(9),
        b"old 0\n\n" + TRUE.note(9)[:-1],
        b"old 0\n\n" + b"\xff" + TRUE.note(9),
        b"old 0\n\nguard/audit\n9\n",
    ],
)
def test_malformed_requests_are_refused_with_400(body: bytes, server: WitnessServer) -> None:
    assert submit(server, body)[0] == 400
    assert submit_at(server, TRUE, 0, 9)[0] == 200


def test_a_checkpoint_that_the_log_signed_and_we_cannot_read_is_refused_with_400(
    server: WitnessServer,
) -> None:
    text = TRUE.checkpoint(9).text() + "an extension line\n"
    signature = base64.b64encode(LOG.verifier.key_id + LOG.sign(text.encode())).decode()
    note = f"{text}\n— {LOG.name} {signature}\n".encode()
    status, _, body = submit(server, request(0, note, []))
    assert (status, b"three lines" in body) == (400, True)


def test_signatures_of_unknown_keys_beside_that_of_the_log_do_no_harm(
    server: WitnessServer,
) -> None:
    text, _ = open_note(TRUE.note(9))
    note = with_signatures(TRUE.note(9), [WitnessSigner("x", bytes(32)).cosign(text, 1)])
    assert submit(server, request(0, note, []))[0] == 200


def test_a_body_that_is_too_long_or_of_unknown_length_is_not_read(server: WitnessServer) -> None:
    assert submit(server, b"x" * (REQUEST_BYTES_MAX + 1))[0] == 413
    host, port = server.server_address[:2]
    for head in (b"Content-Length: -1", b"Content-Length: 1e1", b"Transfer-Encoding: chunked"):
        with socket.create_connection((str(host), port), 5) as raw:
            raw.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n")
            assert raw.makefile("rb").readline().split()[1] == b"400"


def test_more_connections_than_the_bound_are_closed_and_the_rest_served(
    server: WitnessServer,
) -> None:
    host, port = server.server_address[:2]
    held = [socket.create_connection((str(host), port), 5) for _ in range(CONNECTIONS_MAX)]
    try:
        with socket.create_connection((str(host), port), 5) as one_more:
            assert one_more.recv(1) == b""
    finally:
        for connection in held:
            connection.close()


def test_of_two_histories_at_once_only_one_is_cosigned(server: WitnessServer) -> None:
    statuses: list[int] = []

    def submit_one(history: History) -> None:
        statuses.append(submit_at(server, history, 0, 200)[0])

    threads = [threading.Thread(target=submit_one, args=(h,)) for h in (TRUE, FORK) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200] + [409] * 7


def test_what_was_cosigned_is_remembered_over_a_restart(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        submit_at(server, TRUE, 0, 200)
    with witness_at(tmp_path) as server:
        assert submit_at(server, FORK, 200, 220)[0] == 422
        assert submit_at(server, TRUE, 0, 100) == (409, "text/x.tlog.size", b"200\n")
        assert submit_at(server, TRUE, 200, 220)[0] == 200


def test_what_was_cosigned_last_can_be_fetched_and_verified(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        submit_at(server, TRUE, 0, 200)
        (kept,) = tmp_path.glob("*/checkpoint")
        host, port = server.server_address[:2]
        connection = http.client.HTTPConnection(str(host), port, timeout=5)
        for path, status in ((f"/{kept.parent.name}/checkpoint", 200), ("/../lock", 404)):
            connection.request("GET", path)
            response = connection.getresponse()
            note = response.read()
            assert response.status == status
            assert (note == kept.read_bytes()) is (status == 200)
        connection.close()
    assert parse(kept.read_bytes(), LOG.verifier) == TRUE.checkpoint(200)
    assert len(cosignatures_of(kept.read_bytes(), [WITNESS_KEY])) == 1


def test_a_state_that_was_changed_is_not_believed(tmp_path: Path) -> None:
    with witness_at(tmp_path) as server:
        submit_at(server, TRUE, 0, 200)
    (kept,) = tmp_path.glob("*/checkpoint")
    kept.write_bytes(TRUE.note(100))
    with pytest.raises(LogCorrupt, match="is not what this witness cosigned"), witness_at(tmp_path):
        raise AssertionError("it started")


def test_two_witnesses_do_not_share_a_directory(tmp_path: Path) -> None:
    with witness_at(tmp_path), pytest.raises(ConfigError, match="belongs to a witness"):
        Witness(WITNESS, logs=[(ORIGIN, LOG.verifier)], directory=tmp_path)


def test_a_witness_that_cannot_keep_its_state_does_not_cosign(small_disk: Path) -> None:
    with witness_at(small_disk) as server:
        submit_at(server, TRUE, 0, 100)
        filler = small_disk / "filler"
        with pytest.raises(OSError, match="No space"):
            filler.write_bytes(bytes(1 << 20))
        assert submit_at(server, TRUE, 100, 200)[0] == 500
        filler.unlink()
        assert submit_at(server, TRUE, 100, 200)[0] == 200
