"""The copy in a bucket of a real S3-compatible server: whole at every moment, never overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from minio import Minio
from minio.commonconfig import COMPLIANCE
from minio.credentials.providers import StaticProvider
from moto.server import ThreadedMotoServer
from support.anchors import free_port
from support.entries import SIGNER, entry, open_log

from guard.audit import standalone_verify
from guard.audit.away.bucket import Bucket
from guard.audit.away.ship import fetch, ship
from guard.audit.checkpoint import Checkpoint
from guard.audit.files import segments_of
from guard.audit.sequence import Rolling
from guard.audit.verify import verify
from guard.cli.away import fetch as fetch_command
from guard.cli.away import ship as ship_command
from guard.clock import SYSTEM_CLOCK
from guard.errors import AuditFault, ConfigError, LogCorrupt
from guard.keys import Signer

CREDENTIALS = StaticProvider("access", "secret-key")
ROLLING = Rolling(segment_bytes_max=50_000)
BUCKET = "copy"


class Store:
    """The server and a client of its own."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.client = Minio(
            endpoint=url.removeprefix("http://"), credentials=CREDENTIALS, secure=False
        )

    def bucket(self, prefix: str, name: str = BUCKET, **options: Any) -> Bucket:
        """What the product uses."""
        return Bucket(
            f"s3://{name}/{prefix}", endpoint=self.url, region="us-east-1",
            credentials=CREDENTIALS, clock=SYSTEM_CLOCK, **options,
        )  # fmt: skip

    def names(self, prefix: str) -> list[str]:
        """Objects there."""
        found = self.client.list_objects(bucket_name=BUCKET, prefix=f"{prefix}/", recursive=True)
        return sorted(str(item.object_name).removeprefix(f"{prefix}/") for item in found)

    def put(self, name: str, data: bytes) -> None:
        """What an attacker puts there."""
        self.client.put_object(
            bucket_name=BUCKET, object_name=name, data=BytesIO(data), length=len(data)
        )


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    made = Store("http://{}:{}".format(*server.get_host_and_port()))
    made.client.make_bucket(bucket_name=BUCKET, location="us-east-1", object_lock=False)
    made.client.make_bucket(bucket_name="locked", location="us-east-1", object_lock=True)
    yield made
    server.stop()


def _grow(log: Path, *, first: int, count: int, sealed: int = 0, **options: Any) -> Path:
    """Append entries, a checkpoint every 100, and wait until so many segments are sealed."""
    with open_log(log, rolling=ROLLING, **options) as writer:
        for number in range(first, first + count):
            writer.append(entry(number))
            if number % 100 == 99:
                writer.checkpoint()
        _until(lambda: sum(one.path == one.sealed for one in segments_of(log)) >= sealed)
    return log


def _until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _whole(store: Store, prefix: str, target: Path) -> Checkpoint:
    """Fetch what is there; both verifiers must call it whole, under the key kept elsewhere."""
    checkpoint = fetch(store.bucket(prefix), target)
    report = verify(target, vkey=SIGNER.verifier)
    assert report.damages == ()
    assert report.signed == report.entries == checkpoint.size
    assert standalone_verify.check(target, key=SIGNER.vkey, checkpoints=[]) == []
    return checkpoint


def test_a_shipped_log_is_whole_for_both_verifiers(tmp_path: Path, store: Store) -> None:
    log = _grow(tmp_path / "log", first=0, count=1_000, sealed=4)
    checkpoint = ship(log, store.bucket("whole"))
    assert checkpoint is not None
    assert checkpoint.size == segments_of(log)[-1].first
    assert _whole(store, "whole", tmp_path / "fetched") == checkpoint
    names = store.names("whole")
    assert sum(name.endswith(".jsonl.gz") for name in names) >= 3
    # The last one is there as its lines: the entry that names its digest is behind it.
    assert f"{segments_of(log)[-2].live.name}" in names


def test_a_second_round_puts_nothing_and_a_longer_log_only_what_is_new(
    tmp_path: Path, store: Store
) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    puts: list[str] = []
    before = ship(log, store.bucket("again"))
    assert ship(log, store.bucket("again"), on_put=puts.append) == before
    assert puts == []
    old = set(store.names("again"))
    _grow(log, first=500, count=500, sealed=5)
    after = ship(log, store.bucket("again"), on_put=puts.append)
    assert _whole(store, "again", tmp_path / "fetched") == after
    grown = {"checkpoint", "checkpoints"}
    assert {name for name in puts if name in old} - grown <= {
        name for name in old if name.endswith(".jsonl")
    }
    now = set(store.names("again"))
    superseded = {name for name in now if f"{name}.gz" in now}
    assert (superseded, segments_of(log)[-2].live.name in now) == (set(), True)


def test_a_ship_that_dies_at_any_object_leaves_a_whole_copy_and_goes_on(
    tmp_path: Path, store: Store
) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    before = ship(log, store.bucket("crash"))
    _grow(log, first=500, count=600, sealed=5)
    sizes = []
    for _ in range(100):
        try:
            ship(log, store.bucket("crash"), on_put=_dies)
            break
        except _DiedError:
            sizes.append(_whole(store, "crash", tmp_path / f"fetched-{len(sizes)}").size)
    print(f"died {len(sizes)} times")
    assert before is not None
    assert sizes == sorted(sizes)
    assert sizes[0] == before.size
    assert len(sizes) > 8
    assert _whole(store, "crash", tmp_path / "fetched").size == segments_of(log)[-1].first


class _DiedError(Exception):
    """Stands for kill -9 behind a request."""


def _dies(_name: str) -> None:
    raise _DiedError


def test_nothing_is_there_before_the_first_checkpoint(tmp_path: Path, store: Store) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    with pytest.raises(_DiedError):
        ship(log, store.bucket("first"), on_put=_dies)
    with pytest.raises(AuditFault, match="no checkpoint was shipped"):
        fetch(store.bucket("first"), tmp_path / "fetched")
    assert not (tmp_path / "fetched").exists()


def test_a_log_without_a_closed_segment_has_nothing_to_ship(tmp_path: Path, store: Store) -> None:
    with open_log(tmp_path / "log") as log:
        log.append(entry(0))
    assert ship(tmp_path / "log", store.bucket("young")) is None
    assert store.names("young") == []


def test_a_log_that_changed_its_key_is_whole_in_the_bucket(tmp_path: Path, store: Store) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    ship(log, store.bucket("key"))
    second = Signer("guard/audit", bytes([9]) * 32)
    _change_key(log, second)
    assert _whole(store, "key", tmp_path / "one").size < 500
    ship(log, store.bucket("key"))
    assert _whole(store, "key", tmp_path / "two").size < 510
    _grow(log, first=500, count=500, sealed=4, signer=second)
    ship(log, store.bucket("key"))
    assert _whole(store, "key", tmp_path / "three").size == segments_of(log)[-1].first
    assert (tmp_path / "three/log.vkey").read_text() == f"{SIGNER.vkey}\n{second.vkey}\n"


def _change_key(log: Path, signer: Signer) -> None:
    from guard.audit.sequencer import Sequencer

    sequencer = Sequencer(
        log, load_signer=lambda: SIGNER, origin=None, clock=SYSTEM_CLOCK, rolling=Rolling()
    )
    sequence = sequencer.hold()
    assert sequence is not None
    sequence.change_key(signer)
    sequencer.close()


@pytest.mark.parametrize("name", ["records-00000000000000000000.jsonl.gz", "tile/0/000"])
def test_what_differs_in_the_bucket_is_an_alarm_and_stays(
    tmp_path: Path, store: Store, name: str
) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    prefix = f"differs-{name[:4]}"
    ship(log, store.bucket(prefix))
    forged = bytes((log / name).stat().st_size)
    store.put(f"{prefix}/{name}", forged)
    puts: list[str] = []
    with pytest.raises(LogCorrupt, match="is another one than here"):
        ship(log, store.bucket(prefix), on_put=puts.append)
    assert puts == []
    found = store.client.get_object(bucket_name=BUCKET, object_name=f"{prefix}/{name}")
    assert found.data == forged
    found.close()


def test_a_log_is_shipped_while_it_is_written(tmp_path: Path, store: Store) -> None:
    sizes = []
    with open_log(tmp_path / "log", rolling=ROLLING) as log:
        for number in range(8_000):
            log.append(entry(number))
            if number % 100 == 99:
                log.checkpoint()
            if number % 2_000 == 1_999:
                shipped = threading.Thread(
                    target=lambda: sizes.append(ship(tmp_path / "log", store.bucket("busy")))
                )
                shipped.start()
    shipped.join()
    assert len(sizes) == 4
    assert _whole(store, "busy", tmp_path / "fetched").size > 7_000


def test_a_segment_that_expired_here_stays_in_the_copy(tmp_path: Path, store: Store) -> None:
    log = _grow(tmp_path / "log", first=0, count=700, sealed=3)
    ship(log, store.bucket("expired"))
    segments_of(log)[0].sealed.unlink()
    _grow(log, first=700, count=300, sealed=3)
    ship(log, store.bucket("expired"))
    assert _whole(store, "expired", tmp_path / "fetched").size == segments_of(log)[-1].first


def test_another_log_and_one_that_was_cut_back_are_refused(tmp_path: Path, store: Store) -> None:
    ship(_grow(tmp_path / "log", first=0, count=900, sealed=3), store.bucket("other"))
    before = store.names("other")
    short = _grow(tmp_path / "short", first=0, count=500, sealed=1)
    with pytest.raises(LogCorrupt, match="this log was cut back"):
        ship(short, store.bucket("other"))
    anew = _grow(tmp_path / "anew", first=7, count=1_500, sealed=1)
    with pytest.raises(LogCorrupt, match="written anew"):
        ship(anew, store.bucket("other"))
    stranger = Signer("guard/stranger", bytes([8]) * 32)
    with open_log(tmp_path / "strange", signer=stranger, rolling=ROLLING) as log:
        for number in range(500):
            log.append(entry(number))
        log.checkpoint()
    with pytest.raises(LogCorrupt, match="holds another log"):
        ship(tmp_path / "strange", store.bucket("other"))
    assert store.names("other") == before


def test_a_log_with_a_changed_entry_is_not_shipped(tmp_path: Path, store: Store) -> None:
    with open_log(tmp_path / "log", rolling=ROLLING) as log:
        for number in range(500):
            log.append(entry(number))
        log.checkpoint()
    path = segments_of(tmp_path / "log")[0].path
    assert path.suffix == ".jsonl"
    path.write_bytes(path.read_bytes().replace(b"search", b"hidden", 1))
    with pytest.raises(LogCorrupt, match="not as they were signed"):
        ship(tmp_path / "log", store.bucket("changed"))
    assert store.names("changed") == []


def test_objects_are_locked_when_it_is_asked_for(tmp_path: Path, store: Store) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    ship(log, store.bucket("p", "locked", lock_days=30))
    _grow(log, first=500, count=500, sealed=4)
    ship(log, store.bucket("p", "locked", lock_days=30))
    for item in store.client.list_objects(bucket_name="locked", prefix="p/", recursive=True):
        found = store.client.stat_object(bucket_name="locked", object_name=str(item.object_name))
        assert (found.metadata or {})["x-amz-object-lock-mode"] == COMPLIANCE
    with pytest.raises(AuditFault, match="ObjectLockConfigurationNotFoundError"):
        ship(log, store.bucket("unlocked", lock_days=30))
    assert store.names("unlocked") == []


def test_names_that_are_no_files_of_a_log_are_not_fetched(tmp_path: Path, store: Store) -> None:
    ship(_grow(tmp_path / "log", first=0, count=500, sealed=2), store.bucket("hostile"))
    for name in ("evil", "tile/0/000/evil", "spool/x/lock", "state", "records-1.jsonl", "tile/0/1"):
        store.put(f"hostile/{name}", b"evil")
    _whole(store, "hostile", tmp_path / "fetched")
    assert list(tmp_path.rglob("evil")) == []
    copied = {path.name for path in (tmp_path / "fetched").rglob("*")}
    assert copied & {"evil", "lock", "state", "spool", "records-1.jsonl"} == set()
    with pytest.raises(AuditFault, match="is not empty"):
        fetch(store.bucket("hostile"), tmp_path / "fetched")


def test_the_commands_ship_and_fetch_with_credentials_of_the_environment(
    tmp_path: Path, store: Store
) -> None:
    log = _grow(tmp_path / "log", first=0, count=500, sealed=2)
    secret = {
        "AWS_ACCESS_KEY_ID": "access", "AWS_SECRET_ACCESS_KEY": "hidden-secret",
        "AWS_ENDPOINT_URL_S3": store.url, "AWS_REGION": "us-east-1",
    }  # fmt: skip
    place = f"s3://{BUCKET}/command"
    command = ["--dir", str(log), "--to", place]
    done = CliRunner().invoke(ship_command, [*command, "--json"], env=secret)
    size = segments_of(log)[-1].first
    assert (done.exit_code, done.stdout) == (0, f'{{"entries": {size}}}\n')
    target = str(tmp_path / "fetched")
    done = CliRunner().invoke(fetch_command, ["--from", place, "--to", target], env=secret)
    assert (done.exit_code, f"{size} entries" in done.stdout) == (0, True)
    nowhere = ["--dir", str(log), "--to", "s3://nowhere/x"]
    done = CliRunner().invoke(ship_command, nowhere, env=secret)
    assert (done.exit_code, "NoSuchBucket" in done.stderr) == (2, True)
    away = secret | {"AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{free_port()}"}
    done = CliRunner().invoke(ship_command, command, env=away)
    assert (done.exit_code, "the store does not do it" in done.stderr) == (2, True)
    assert "hidden-secret" not in done.output


@pytest.mark.parametrize("place", ["https://bucket/x", "s3://", "s3://b/x?versionId=1"])
def test_a_place_that_is_no_bucket_is_refused(place: str) -> None:
    with pytest.raises(ConfigError, match="expected s3://bucket/prefix"):
        Bucket(place, clock=SYSTEM_CLOCK)
