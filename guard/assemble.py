"""From a configuration to an interceptor: the costly choices are made here, once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from .audit import AuditLog
from .config import Config, load_config, load_tools
from .fleet import Fleet
from .interceptor import Interceptor
from .keys import Mac, Signer
from .policy import Bundle, EmbeddedEngine, builtin_directory, load_bundle

__all__ = ["assemble", "bundle_of"]


def assemble(
    config: Config | Path | str | None = None, *, models: Mapping[str, Any] | None = None
) -> Interceptor:
    """An interceptor as `guard.toml` (or the given file) says; raises ConfigError, PolicyLoadError,
    FleetFault or AuditFault with what to mend.

    `models` are the objects that ROUTE may call, by their id in the fleet.
    """
    if not isinstance(config, Config):
        config = load_config(Path(config) if config is not None else None)
    fleet = Fleet.load(config.path(config.fleet_file)) if config.fleet_file else Fleet.empty()
    tools = load_tools(config.path(config.tools_file)) if config.tools_file else {}
    bundle = bundle_of(config, fleet)
    keys = config.path(config.keys.directory)
    mac = Mac.load_or_create(keys / "commitment.key")
    log = AuditLog.open(
        config.path(config.audit.directory),
        signer=Signer.load_or_create(keys / "log.key", name="guard/audit"),
        mac=mac,
        durability=config.audit.durability,
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
    )


def bundle_of(config: Config, fleet: Fleet) -> Bundle:
    """The policies that `config` names, with its settings and the fleet as data."""
    directories = [
        builtin_directory() if name == "builtin" else config.path(name)
        for name in config.policy.directories
    ]
    data = {"settings": config.policy.settings, "fleet": msgspec.to_builtins(fleet.as_data())}
    return load_bundle(directories, data=data)
