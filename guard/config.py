"""`guard.toml`: what an installation is, validated once. pydantic is imported here and nowhere hot.

The environment comes last: `GUARD_AUDIT__DIRECTORY=/var/log/guard` sets `directory` in `[audit]`.
An unknown key is an error with a suggestion; there is no mode that allows everything.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .audit.log import Durability
from .audit.sequence import CHECKPOINT_INTERVAL_MS
from .durability import Durabilities
from .errors import ConfigError
from .plain import Bounds
from .request import Point, ToolDeclaration

__all__ = ["Config", "ToolsFile", "load_config", "load_tools"]

ENVIRONMENT_PREFIX: Final = "GUARD_"
# Words by which people ask for a switched-off guard, refused by name.
_OPEN: Final = frozenset(
    ("allow_all", "fail_open", "default_allow", "disable", "disabled", "enabled", "enforce", "mode")
)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PolicyConfig(_Strict):
    """`[policy]`: directories of policies; `builtin` is the set that comes with guard."""

    directories: tuple[str, ...] = ("builtin",)
    # Laid over `data.settings` of the bundles: `[policy.settings.payment_limit] amount_max = 900`.
    settings: dict[str, Any] = {}


class DurabilityConfig(_Strict):
    """`[audit.durability]`: how durable an entry is before its effect; see docs/audit-log.md."""

    default: Durability = "relaxed"
    side_effects: Durability = "group"  # intents of tools that do more than read
    points: dict[Point, Durability] = {}


class _AnchorConfig(_Strict):
    name: str | None = None
    interval_s: float | None = Field(None, ge=0, le=86_400)


class _RemoteConfig(_AnchorConfig):
    url: str
    timeout_s: float = Field(5, gt=0, le=60)
    ca_file: str | None = None


class DirectoryAnchorConfig(_AnchorConfig):
    """A second directory or a WORM mount."""

    kind: Literal["directory"]
    directory: str


class WebhookAnchorConfig(_RemoteConfig):
    """A web service that gets each checkpoint, signed as Standard Webhooks."""

    kind: Literal["webhook"]
    secret_file: str


class ObjectStoreAnchorConfig(_RemoteConfig):
    """A bucket with object lock of an S3-compatible store."""

    kind: Literal["object_store"]
    bucket: str
    retention_days: int = Field(ge=1, le=36_500)
    prefix: str = "checkpoints/"
    region: str | None = None


class WitnessAnchorConfig(_RemoteConfig):
    """A C2SP witness that signs too; `key` is its public key."""

    kind: Literal["witness"]
    key: str


AnchorConfig = Annotated[
    DirectoryAnchorConfig | WebhookAnchorConfig | ObjectStoreAnchorConfig | WitnessAnchorConfig,
    Field(discriminator="kind"),
]


class SubjectsConfig(_Strict):
    """`[audit.subjects]`: `keys` name fields that hold ids of data subjects, such as `customer_id`;
    `keep` names fields, or JSON pointers, whose values are kept sealed for them."""

    keys: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()


class RetentionConfig(_Strict):
    """`[audit.retention]`: days, at least six months (AI Act, art. 19), by class."""

    default_days: int = Field(365, ge=183, le=36_500)
    classes: dict[str, Annotated[int, Field(ge=183, le=36_500)]] = {}


class ReadersConfig(_Strict):
    """`[audit.readers]`: roles that may open sealed values; each opening is recorded."""

    open: tuple[str, ...] = ()


class AuditConfig(_Strict):
    """`[audit]`: where the log is, how durable, and what happens when it cannot be written.

    `database` is the DSN of a PostgreSQL server, or `env:NAME` of the variable that holds it: then
    the log is there, and `directory` is where `guard audit pull` writes it to be read.
    `durability` is a table, or one word for all entries. With `sequencer = "process"` this process
    only hands entries over, and `guard audit sequence` runs beside it.
    """

    directory: str = ".guard/audit"
    database: str | None = None
    origin: str = ""
    durability: DurabilityConfig | Durability = DurabilityConfig()
    sequencer: Literal["thread", "process"] = "thread"
    on_failure: Literal["deny", "buffer", "allow"] = "deny"
    checkpoint_interval_ms: int = Field(CHECKPOINT_INTERVAL_MS, ge=10, le=60_000)
    segment_bytes_max: int = Field(64 * 1024 * 1024, ge=4_096, le=1 << 32)
    segment_age_s_max: int = Field(3_600, ge=1, le=31_536_000)
    encrypt_to: tuple[str, ...] = ()
    anchors: tuple[AnchorConfig, ...] = ()
    subjects: SubjectsConfig = SubjectsConfig()
    retention: RetentionConfig = RetentionConfig()  # type: ignore[call-arg]
    readers: ReadersConfig = ReadersConfig()

    def durabilities(self) -> Durabilities:
        """The same for the interceptor."""
        chosen = self.durability
        if isinstance(chosen, str):
            return Durabilities(chosen, chosen)
        points = {point.value: wait for point, wait in chosen.points.items()}
        return Durabilities(chosen.default, chosen.side_effects, points)


class KeysConfig(_Strict):
    """`[keys]`: directory of the signing key and the HMAC key; out of reach of governed tools."""

    directory: str = ".guard/keys"


class LimitsConfig(_Strict):
    """`[limits]`: the bounds of one snapshot, see guard.plain."""

    depth_max: int = Field(64, ge=1, le=256)
    nodes_max: int = Field(100_000, ge=1, le=1_000_000)
    payload_bytes_max: int = Field(4 * 1024 * 1024, ge=1, le=64 * 1024 * 1024)

    def bounds(self) -> Bounds:
        """The same for the freezer."""
        return Bounds(
            depth_max=self.depth_max,
            nodes_max=self.nodes_max,
            payload_bytes_max=self.payload_bytes_max,
        )


class Config(_Strict):
    """The whole of `guard.toml`. Relative paths are relative to the file."""

    on_deny: Literal["raise", "return"] = "raise"
    tools_file: str | None = None
    fleet_file: str | None = None
    policy: PolicyConfig = PolicyConfig()
    audit: AuditConfig = AuditConfig()  # type: ignore[call-arg]
    keys: KeysConfig = KeysConfig()
    limits: LimitsConfig = LimitsConfig()  # type: ignore[call-arg]
    base: Path = Path()  # the directory of the file; not a key of it

    def path(self, name: str) -> Path:
        """`name` below the directory of the configuration file, unless it is absolute."""
        return self.base / name


class _Tool(_Strict):
    effects: tuple[
        Literal["read", "write", "pay", "send", "delete", "publish", "execute", "admin"], ...
    ]
    destinations: tuple[str, ...] = ()
    payloads: tuple[str, ...] = ()
    returns: Literal["trusted", "untrusted"] = "untrusted"
    confidentiality: Literal["public", "internal", "confidential", "secret"] = "internal"


class ToolsFile(_Strict):
    """`tools.toml`: one table a tool, `[tools.send_email] effects = ["send"]`."""

    tools: dict[str, _Tool] = {}


def load_config(
    path: Path | None = None, *, environment: Mapping[str, str] | None = None
) -> Config:
    """Configuration of `path`, or of `guard.toml` here if there is one, under the environment.

    Raises ConfigError that names the file, the key and what was expected.
    """
    env = os.environ if environment is None else environment
    if path is None:
        here = Path("guard.toml")
        path = here if here.is_file() else None
    values = _read_toml(path) if path is not None else {}
    where = str(path) if path is not None else "the environment"
    variables = _overlay(values, env)
    config: Config = _validated(Config, values, where, variables)
    return config.model_copy(update={"base": path.parent if path is not None else Path()})


def load_tools(path: Path) -> dict[str, ToolDeclaration]:
    """Declarations of `tools.toml` by name; raises ConfigError."""
    file: ToolsFile = _validated(ToolsFile, _read_toml(path), str(path))
    return {
        name: ToolDeclaration(
            name=name,
            effects=tool.effects,
            destinations=tool.destinations,
            payloads=tool.payloads,
            returns=tool.returns,
            confidentiality=tool.confidentiality,
        )
        for name, tool in file.tools.items()
    }


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _overlay(values: dict[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Lay the variables over the file's values; returns which key came from which variable."""
    variables: dict[str, str] = {}
    for name, text in env.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        *tables, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split("__")
        table = values
        for part in tables:
            table = table.setdefault(part, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{name}: `{part}` is a value, not a table")
        # A list is written as in TOML and JSON: GUARD_POLICY__DIRECTORIES='["builtin", "mine"]'.
        table[key] = _list(name, text) if text.startswith("[") else text
        variables[".".join((*tables, key))] = name
    return variables


def _list(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError(f'{name}: expected a list such as ["a", "b"]') from None


def _validated(
    model: type[Any], values: dict[str, Any], where: str, variables: Mapping[str, str] | None = None
) -> Any:
    if "base" in values and model is Config:
        raise ConfigError(f"{where}: unknown key `base`")
    for key in values:
        if key in _OPEN and key not in model.model_fields:
            raise ConfigError(
                f"{where}: `{key}` is refused: guard has no mode that allows everything; the "
                'nearest safe setting is on_deny = "return", or a rule that permits what you need'
            )
    try:
        return model.model_validate(values)
    except ValidationError as error:
        key, complaint = _first(error, model)
        where = (variables or {}).get(key, where)
        raise ConfigError(f"{where}: {complaint}") from None


def _first(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The key that is wrong, and what to say about it."""
    errors = error.errors(include_url=False, include_input=False)
    # A misspelt key is usually also the reason why another one is missing.
    first = next((e for e in errors if e["type"] == "extra_forbidden"), errors[0])
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields(model, first["loc"][:-1])
        near = difflib.get_close_matches(str(first["loc"][-1]), known, 1)
        hint = f"did you mean `{near[0]}`" if near else f"expected one of {', '.join(known)}"
        return key, f"unknown key `{key}`: {hint}"
    return key, f"`{key}`: {first['msg'][0].lower()}{first['msg'][1:]}"


def _fields(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place of the file."""
    for part in location:
        field = model.model_fields.get(str(part))
        inner = field.annotation if field is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return sorted(_Tool.model_fields)  # the only tables with free names are tools
        model = inner
    return sorted(set(model.model_fields) - {"base"})
