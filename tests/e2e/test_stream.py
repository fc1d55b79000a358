"""The stream to a real NATS server: each entry once, in order, and provable by who receives it."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from click.testing import CliRunner
from support.entries import entry, open_log, written
from support.nats import NatsServer, nats_server, with_credentials

from guard.audit.away.nats import Nats
from guard.audit.away.stream import form_of
from guard.audit.away.stream import stream as stream_log
from guard.audit.files import lines_of, segments_of
from guard.audit.merkle import is_included, leaf_hash
from guard.audit.query import Signed
from guard.audit.tiles import Tiles
from guard.cli.away import stream
from guard.errors import AuditFault, ConfigError, LogCorrupt

pytestmark = pytest.mark.needs_nats
SUBJECT = "guard.audit"
STREAM = "guard_audit"
WAIT_S_MAX = 60
ENTRIES = 30_000 if os.environ.get("TRIALS") == "long" else 8_000


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "jetstream") as running:
        yield running


def _once(log: Path, server: NatsServer, name: str | None = None, **options: Any) -> int:
    broker = Nats(server.url, SUBJECT, **options)
    return asyncio.run(stream_log(log, broker, form=form_of(name)))


def _lines(log: Path) -> list[bytes]:
    return [line[:-1] for segment in segments_of(log) for line in lines_of(segment.path)]


def _is_whole(log: Path, server: NatsServer) -> bool:
    """Whether the stream is the log up to its checkpoint, each entry once and in order."""
    lines = _lines(log)[: Signed(log).size]
    messages = server.messages(STREAM)
    return [message.data for message in messages] == lines and all(
        message.headers["Guard-Index"] == str(index)
        and message.headers["Guard-Leaf"] == leaf_hash(lines[index]).hex()
        and message.metadata.sequence.stream == index + 1
        for index, message in enumerate(messages)
    )


def _process(log: Path, server: NatsServer, *arguments: str) -> subprocess.Popen[str]:
    program = "import sys; from guard.cli.away import stream; stream(sys.argv[1:])"
    command = [sys.executable, "-c", program, "--dir", str(log), "--to", server.url, *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_all_signed_entries_arrive_once_in_order_with_their_leaf_hashes(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", 1_500, signed_every=200, segment_bytes_max=100_000)
    size = Signed(log).size
    assert len(segments_of(log)) > 3
    assert (_once(log, server), _once(log, server)) == (size, 0)
    assert _is_whole(log, server)


def test_a_consumer_verifies_an_inclusion_proof_with_the_hash_of_a_message(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", 700)
    _once(log, server)
    signed = Signed(log).checkpoint
    for message in server.messages(STREAM)[::97]:
        index = int(message.headers["Guard-Index"])
        proof = Tiles(log).inclusion(index, signed.size)
        leaf = bytes.fromhex(message.headers["Guard-Leaf"])
        assert leaf == leaf_hash(message.data)
        assert is_included(leaf, index, signed.size, proof=proof, root=signed.root)


def test_entries_above_the_checkpoint_are_not_streamed(tmp_path: Path, server: NatsServer) -> None:
    log = written(tmp_path / "log", 10)
    with segments_of(log)[-1].live.open("ab") as file:
        file.write(b'{"v":2,"kind":"intent","decision_id":"not signed"}\n' * 5)
    assert _once(log, server) == 10
    assert len(server.messages(STREAM)) == 10


def test_a_stream_goes_on_where_it_was_when_the_log_grows(
    tmp_path: Path, server: NatsServer
) -> None:
    with open_log(tmp_path / "log") as log:
        for number in range(1_000):
            log.append(entry(number))
            if number in (0, 10, 300, 999):
                log.checkpoint()
                _once(tmp_path / "log", server)
    assert _is_whole(tmp_path / "log", server)


def test_a_streamer_that_is_killed_again_and_again_leaves_no_gap_and_nothing_twice(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", ENTRIES)
    chance = random.Random(7)
    kills = 0
    seen = [0]
    while seen[-1] < ENTRIES:
        process = _process(log, server)
        _until(lambda one=process: one.poll() is not None or _count(server) > seen[-1])
        time.sleep(chance.uniform(0, 0.1))
        kills += process.poll() is None
        process.kill()
        process.communicate()
        seen.append(_count(server))
    _once(log, server)
    print(f"killed {kills} times at {seen}")
    assert kills >= 3
    assert _is_whole(log, server)


def test_a_broker_that_is_killed_is_waited_for_and_gets_the_rest(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", ENTRIES)
    process = _process(log, server, "--follow")
    _until(lambda: _count(server) > 0)
    for _ in range(2):
        server.kill()
        time.sleep(0.2)
        server.start()
        at = _count(server)
        _until(lambda at=at: _count(server) > at or _count(server) == ENTRIES)
    _until(lambda: _count(server) == ENTRIES)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=30)
    assert (process.returncode, "is away" in said) == (0, True)
    assert _is_whole(log, server)


def test_of_two_streamers_one_goes_on_and_the_other_says_why_it_ends(
    tmp_path: Path, server: NatsServer
) -> None:
    with open_log(tmp_path / "log") as log:
        processes = [_process(tmp_path / "log", server, "--follow") for _ in range(2)]
        for number in range(100_000):
            log.append(entry(number))
            if number % 100 == 99:
                log.checkpoint()
                if any(process.poll() is not None for process in processes):
                    break
    ended = [process for process in processes if process.poll() is not None]
    assert [process.returncode for process in ended] == [2]
    assert "another process streams" in ended[0].communicate()[1]
    (left,) = [process for process in processes if process.poll() is None]
    _until(lambda: _count(server) == Signed(tmp_path / "log").size)
    left.terminate()
    left.communicate()
    assert left.returncode == 0
    assert _is_whole(tmp_path / "log", server)


def test_what_two_streamers_publish_at_once_is_there_once(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", 5_000)

    async def both() -> list[Any]:
        brokers = [Nats(server.url, SUBJECT) for _ in range(2)]
        runs = [stream_log(log, broker, form=form_of(None)) for broker in brokers]
        return await asyncio.gather(*runs, return_exceptions=True)

    answers = asyncio.run(both())
    assert sum(isinstance(answer, AuditFault) for answer in answers) <= 1
    assert _is_whole(log, server)


def test_a_pruned_log_begins_at_its_first_entry(tmp_path: Path, server: NatsServer) -> None:
    log = written(tmp_path / "log", 600, signed_every=100, segment_bytes_max=30_000)
    first, second, *_ = segments_of(log)
    first.path.unlink()
    _once(log, server)
    messages = server.messages(STREAM)
    assert messages[0].headers["Guard-Index"] == str(second.first)
    assert messages[0].metadata.sequence.stream == second.first + 1


def test_a_stream_that_dropped_its_messages_goes_on_at_its_number(
    tmp_path: Path, server: NatsServer
) -> None:
    with open_log(tmp_path / "log") as log:
        log.append(entry(0))
        log.checkpoint()
        _once(tmp_path / "log", server)
        asyncio.run(_with_streams(server, lambda streams: streams.purge_stream(STREAM)))
        log.append(entry(1))
        log.checkpoint()
        assert _once(tmp_path / "log", server) == 1
    (message,) = server.messages(STREAM)
    assert message.headers["Guard-Index"] == "1"


def test_a_log_that_was_cut_back_or_written_anew_is_refused(
    tmp_path: Path, server: NatsServer
) -> None:
    _once(written(tmp_path / "log", 20), server)
    with pytest.raises(LogCorrupt, match="has 20 entries and the log signs 10"):
        _once(written(tmp_path / "short", 10), server)
    with open_log(tmp_path / "anew") as log:
        for number in range(30):
            log.append(entry(number, tool="other"))
    with pytest.raises(LogCorrupt, match="entry 19 is another one in the stream"):
        _once(tmp_path / "anew", server)
    with open_log(tmp_path / "other", origin="guard/other") as log:
        log.append(entry(0))
    with pytest.raises(AuditFault, match="is not of this log"):
        _once(tmp_path / "other", server)
    assert len(server.messages(STREAM)) == 20


def test_a_stream_of_somebody_else_is_left_alone(tmp_path: Path, server: NatsServer) -> None:
    async def publish(streams: Any) -> None:
        await streams.add_stream(name=STREAM, subjects=[SUBJECT])
        await streams.publish(SUBJECT, b"hello")

    asyncio.run(_with_streams(server, publish))
    with pytest.raises(AuditFault, match="is not of this log"):
        _once(written(tmp_path / "log", 3), server)
    assert len(server.messages(STREAM)) == 1


def test_an_entry_that_was_changed_does_not_go_out(tmp_path: Path, server: NatsServer) -> None:
    log = written(tmp_path / "log", 600)
    path = segments_of(log)[0].path
    path.write_bytes(path.read_bytes().replace(b'"0000012c"', b'"00000bad"', 1))
    with pytest.raises(LogCorrupt, match="entries from 256 on are not as they were signed"):
        _once(log, server)
    assert len(server.messages(STREAM)) == 256


def test_an_entry_and_its_tile_changed_together_do_not_go_out(
    tmp_path: Path, server: NatsServer
) -> None:
    log = written(tmp_path / "log", 600)
    path = segments_of(log)[0].path
    old = _lines(log)[300]
    new = old.replace(b"search", b"hidden")
    path.write_bytes(path.read_bytes().replace(old, new))
    tile = log / "tile/0/001"
    tile.write_bytes(tile.read_bytes().replace(leaf_hash(old), leaf_hash(new)))
    with pytest.raises(LogCorrupt, match="the proof of entry 256 does not hold"):
        _once(log, server)
    assert len(server.messages(STREAM)) == 256


def test_a_payload_that_the_broker_does_not_take_is_named_and_nothing_after_it_goes(
    tmp_path: Path,
) -> None:
    small = tmp_path / "nats.conf"
    small.write_text("max_payload: 8192\n")
    with nats_server(tmp_path / "jetstream", "--config", str(small)) as server:
        with open_log(tmp_path / "log") as log:
            for number in range(300):
                log.append(entry(number, input={"text": "x" * (20_000 if number == 280 else 10)}))
        with pytest.raises(AuditFault, match=r"entry 280 has 20.* raise `max_payload`"):
            _once(tmp_path / "log", server)
        assert len(server.messages(STREAM)) == 256


def test_a_message_can_be_in_the_words_of_others(tmp_path: Path, server: NatsServer) -> None:
    log = written(tmp_path / "log", 3)
    _once(log, server, "ocsf")
    assert b'"class_uid":6003' in server.messages(STREAM)[2].data
    assert server.messages(STREAM)[2].headers["Guard-Leaf"] == leaf_hash(_lines(log)[2]).hex()


def test_the_command_needs_the_right_password_and_does_not_say_it(tmp_path: Path) -> None:
    log = written(tmp_path / "log", 3)
    with nats_server(tmp_path / "jetstream", "--user", "guard", "--pass", "s3cret") as server:
        command = ["--dir", str(log), "--to", server.url]
        done = CliRunner().invoke(
            stream, command, env={"NATS_USER": "guard", "NATS_PASSWORD": "no"}
        )
        assert (done.exit_code, "does not let us in" in done.stderr) == (2, True)
        secret = {"NATS_USER": "guard", "NATS_PASSWORD": "s3cret"}
        done = CliRunner().invoke(stream, [*command, "--json"], env=secret)
        assert (done.exit_code, done.stdout) == (0, '{"entries": 3}\n')
        assert "s3cret" not in done.output


def test_the_command_takes_a_file_of_credentials_and_refuses_one_that_is_none(
    tmp_path: Path,
) -> None:
    log = written(tmp_path / "log", 3)
    config, creds = with_credentials(tmp_path)
    with nats_server(tmp_path / "jetstream", "--config", config) as server:
        command = ["--dir", str(log), "--to", server.url]
        done = CliRunner().invoke(stream, command, env={"NATS_CREDS": str(creds)})
        assert (done.exit_code, done.stdout) == (0, "3 entries to guard.audit\n")
        done = CliRunner().invoke(stream, command)
        assert (done.exit_code, "does not let us in" in done.stderr) == (2, True)
        creds.write_text(creds.read_text().replace("SEED-----\nSU", "SEED-----\nSX"))
        done = CliRunner().invoke(stream, [*command, "--creds", str(creds)])
        assert (done.exit_code, "no credentials in" in done.stderr) == (2, True)


def test_a_permission_that_lacks_is_named(tmp_path: Path) -> None:
    config = tmp_path / "nats.conf"
    config.write_text(
        "authorization { users = [ { user: guard, password: p, permissions: "
        '{ publish: "elsewhere", subscribe: ">" } } ] }\n'
    )
    with nats_server(tmp_path / "jetstream", "--config", str(config)) as server:
        log = written(tmp_path / "log", 1)
        with pytest.raises(AuditFault, match="it must grant"):
            _once(log, server, user="guard", password="p")


def test_a_broker_that_is_away_or_has_no_jetstream_ends_the_command(tmp_path: Path) -> None:
    log = written(tmp_path / "log", 1)
    with nats_server(tmp_path / "jetstream") as server:
        server.kill()
        done = CliRunner().invoke(stream, ["--dir", str(log), "--to", server.url])
    assert (done.exit_code, "is away" in done.stderr) == (2, True)


def test_a_broker_that_does_not_encrypt_although_it_was_asked_to_gets_nothing(
    tmp_path: Path, server: NatsServer
) -> None:
    broker = Nats(server.url.replace("nats://", "tls://"), SUBJECT)
    with pytest.raises(AuditFault, match="does not encrypt"):
        asyncio.run(stream_log(written(tmp_path / "log", 1), broker, form=form_of(None)))
    assert _count(server) == 0


@pytest.mark.parametrize(
    ("url", "subject", "message"),
    [
        ("nats://nats.example:4222", SUBJECT, "is not encrypted"),
        ("tls://me:secret@nats.example", SUBJECT, "without credentials"),
        ("kafka://127.0.0.1", SUBJECT, "malformed URL"),
        ("nats://[::1", SUBJECT, "malformed URL"),
        ("nats://127.0.0.1:secret", SUBJECT, "malformed URL"),
        ("nats://127.0.0.1", "guard.*", "unusable subject"),
    ],
)
def test_a_place_that_cannot_be_streamed_to_is_refused(
    url: str, subject: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as refused:
        Nats(url, subject)
    assert "secret" not in str(refused.value)


def _count(server: NatsServer) -> int:
    async def count(streams: Any) -> int:
        try:
            return (await streams.stream_info(STREAM)).state.messages
        except nats.js.errors.NotFoundError:
            return 0

    return asyncio.run(_with_streams(server, count))


async def _with_streams(server: NatsServer, ask: Callable[[Any], Awaitable[Any]]) -> Any:
    client = await nats.connect(server.url)
    try:
        return await ask(client.jetstream())
    finally:
        await client.close()
