"""From a configuration to an interceptor: the costly choices are made here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from .audit import AuditLog, Durability
from .audit.log import Commit
from .audit.sequence import Rolling
from .audit.tiles import Tiles
from .config import Config, load_config, load_tools
from .fleet import Fleet
from .interceptor import Interceptor
from .keys import Mac, Signer
from .keys.subjects import SubjectKeys
from .policy import Bundle, EmbeddedEngine, builtin_directory, load_bundle
from .policy.kept import POLICIES, keep_policies
from .privacy import Privacy
from .subjects import Resolver, Subjects

if TYPE_CHECKING:
    from .audit.anchors import Anchor
    from .audit.postgres import PostgresLog

__all__ = ["anchors_of", "assemble", "bundle_of", "open_log", "rolling_of", "signer_of"]


def assemble(
    config: Config | Path | str | None = None,
    *,
    models: Mapping[str, Any] | None = None,
    subject_resolver: Resolver | None = None,
) -> Interceptor:
    """An interceptor as `guard.toml` (or the given file) says; raises ConfigError, PolicyLoadError,
    FleetFault or AuditFault with what to mend.

    `models` are the objects that ROUTE may call, by their id in the fleet; `subject_resolver` names
    the data subjects of a request, where they are not under declared keys.
    """
    if not isinstance(config, Config):
        config = load_config(Path(config) if config is not None else None)
    fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else Fleet.empty()
    tools = load_tools(config.path(config.tools_file)) if config.tools_file else {}
    bundle = bundle_of(config, fleet)
    audit_directory = config.path(config.audit.directory)
    keep_policies(audit_directory / POLICIES, bundle)
    keys = config.path(config.keys.directory)
    mac = Mac.load_or_create(keys / "commitment.key")
    privacy = Privacy(
        SubjectKeys.open(keys),
        subjects=Subjects(keys=config.audit.subjects.keys, resolver=subject_resolver),
        keep=config.audit.subjects.keep,
    )
    log = open_log(
        config,
        mac,
        commit=lambda entry, data: privacy.commit(data, entry.subjects, entry.timestamp_ns),
    )
    return Interceptor(
        engine=EmbeddedEngine(bundle),
        sink=log,
        key=mac.key,
        tools=tools,
        fleet=fleet,
        models=models,
        bounds=config.limits.bounds(),
        on_deny=config.on_deny,
        on_audit_failure=config.audit.on_failure,
        durability=config.audit.durabilities(),
        privacy=privacy,
    )


def open_log(
    config: Config, mac: Mac, *, commit: Commit | None = None, is_sequencer: bool | None = None,
    durability: Durability = "relaxed",
) -> AuditLog | PostgresLog:  # fmt: skip
    """The log in the directory, or in the database, that `config` names."""
    if is_sequencer is None:
        is_sequencer = config.audit.sequencer == "thread"
    directory = config.path(config.audit.directory)
    options: dict[str, Any] = {
        "signer": signer_of(config) if is_sequencer else None,
        "mac": mac,
        "commit": commit,
        "origin": config.audit.origin or None,
        "rolling": rolling_of(config),
        "durability": durability,
    }
    dsn = config.audit.database
    if dsn is None:
        return AuditLog.open(directory, anchors=anchors_of(config), **options)
    from .audit.postgres import PostgresLog, Store

    anchors = anchors_of(config, Store(dsn).tiles())
    return PostgresLog.open(dsn, directory=directory, anchors=anchors, **options)


def signer_of(config: Config) -> Callable[[], Signer]:
    """What loads the key that signs checkpoints, whenever this process begins to sequence."""
    path = config.path(config.keys.directory) / "log.key"
    return lambda: Signer.load_or_create(path, name="guard/audit")


def rolling_of(config: Config) -> Rolling:
    """When checkpoints and segments are due."""
    return Rolling(
        checkpoint_interval_ms=config.audit.checkpoint_interval_ms,
        segment_bytes_max=config.audit.segment_bytes_max,
        segment_age_ms_max=config.audit.segment_age_s_max * 1_000,
        encrypt_to=config.audit.encrypt_to,
    )


def anchors_of(config: Config, tiles: Tiles | None = None) -> list[Anchor]:
    """Where checkpoints go besides the log itself, whose tiles these are."""
    if not config.audit.anchors:
        return []
    from .audit.anchors import anchors_from  # HTTP clients: tens of ms that others do not spend

    tiles = tiles or Tiles(config.path(config.audit.directory))
    return anchors_from(
        [anchor.model_dump() for anchor in config.audit.anchors],
        consistency=tiles.consistency,
        base=config.base,
    )


def bundle_of(config: Config, fleet: Fleet) -> Bundle:
    """The policies that `config` names, with its settings and the fleet as data."""
    directories = [
        builtin_directory() if name == "builtin" else config.path(name)
        for name in config.policy.directories
    ]
    data = {"settings": config.policy.settings, "fleet": msgspec.to_builtins(fleet.as_data())}
    return load_bundle(directories, data=data)
