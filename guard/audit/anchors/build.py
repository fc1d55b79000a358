"""Anchors from their configuration: `[[audit.anchors]]` with a `kind` and the keys of that kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from ...clock import SYSTEM_CLOCK, Clock
from ...errors import ConfigError
from ...keys.signing import Mac
from .anchor import Anchor, DirectoryAnchor, WebhookAnchor
from .cosignature import WitnessKey
from .cosigner import Consistency, WitnessAnchor
from .object_store import ObjectStoreAnchor

__all__ = ["anchors_from"]


def anchors_from(
    entries: Iterable[Mapping[str, Any]],
    *,
    consistency: Consistency,
    base: Path = Path(),
    clock: Clock = SYSTEM_CLOCK,
) -> list[Anchor]:
    """One anchor for each entry; paths are below `base`; raises ConfigError naming the entry.

    An entry has `kind` and what the constructor of that kind takes, except that `secret_file`
    (webhook) names the file of a key, made when it is not there, and `key` (witness) is a vkey.
    A value of None is as if it were not there.
    """
    anchors = []
    for number, entry in enumerate(entries):
        values = {key: value for key, value in entry.items() if value is not None}
        kind = values.pop("kind", None)
        for key in ("directory", "secret_file", "ca_file"):
            if key in values:
                values[key] = base / values[key]
        try:
            anchors.append(_MAKERS[kind](values, consistency, clock))
        except KeyError as error:
            raise ConfigError(
                f"audit.anchors[{number}]: `{error.args[0]}` lacks or is unknown: expected kind ="
                f" {', '.join(_MAKERS)}, and the keys of that kind"
            ) from error
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"audit.anchors[{number}]: {error}") from error
    return anchors


def _directory(values: dict[str, Any], _consistency: Consistency, _clock: Clock) -> Anchor:
    return DirectoryAnchor(**values)


def _webhook(values: dict[str, Any], _consistency: Consistency, clock: Clock) -> Anchor:
    secret = Mac.load_or_create(values.pop("secret_file"))
    return WebhookAnchor(secret=secret, clock=clock, **values)


def _object_store(values: dict[str, Any], _consistency: Consistency, clock: Clock) -> Anchor:
    return ObjectStoreAnchor(clock=clock, **values)


def _witness(values: dict[str, Any], consistency: Consistency, _clock: Clock) -> Anchor:
    key = WitnessKey.from_text(values.pop("key"))
    return WitnessAnchor(key=key, consistency=consistency, **values)


_MAKERS: Final[dict[Any, Callable[[dict[str, Any], Consistency, Clock], Anchor]]] = {
    "directory": _directory,
    "webhook": _webhook,
    "object_store": _object_store,
    "witness": _witness,
}
