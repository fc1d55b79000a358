"""guard.toml, tools.toml and the environment: strict, with a suggestion."""

from __future__ import annotations

from pathlib import Path

import pytest

from guard.config import Config, load_config, load_tools
from guard.errors import ConfigError


def _load(tmp_path: Path, text: str, **environment: str) -> Config:
    path = tmp_path / "guard.toml"
    path.write_text(text)
    return load_config(path, environment=environment)


def test_without_a_file_the_defaults_are_safe() -> None:
    config = load_config(environment={})
    assert (config.on_deny, config.audit.on_failure, config.policy.directories) == (
        "raise",
        "deny",
        ("builtin",),
    )


def test_the_environment_comes_last(tmp_path: Path) -> None:
    config = _load(
        tmp_path,
        '[audit]\ndirectory = "a"\n',
        GUARD_AUDIT__DIRECTORY="b",
        GUARD_POLICY__DIRECTORIES='["builtin", "mine"]',
        GUARD_LIMITS__DEPTH_MAX="32",
        OTHER="x",
    )
    assert (config.audit.directory, config.limits.depth_max) == ("b", 32)
    assert config.policy.directories == ("builtin", "mine")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("on_dney = 'raise'", r"unknown key `on_dney`: did you mean `on_deny`"),
        ("[audit]\ndirectry = 'x'", r"unknown key `audit\.directry`: did you mean `directory`"),
        ("[audit]\non_failure = 'ignore'", r"`audit\.on_failure`: .*'deny', 'buffer' or 'allow'"),
        ("[limits]\ndepth_max = 100000", r"`limits\.depth_max`"),
        ("on_deny = ", "not TOML"),
        ("base = '/'", "unknown key `base`"),
        ("fail_open = true", "guard has no mode that allows everything; the nearest safe setting"),
        ("mode = 'allow'", "guard has no mode that allows everything"),
    ],
)
def test_a_wrong_configuration_says_what_to_mend(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        _load(tmp_path, text)


def test_a_wrong_variable_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^GUARD_AUDIT__DIR: unknown key `audit\.dir`"):
        _load(tmp_path, "", GUARD_AUDIT__DIR="x")
    with pytest.raises(ConfigError, match="`on_deny` is a value, not a table"):
        _load(tmp_path, "on_deny = 'raise'", GUARD_ON_DENY__X="1")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.toml: cannot be read"):
        load_config(tmp_path / "gone.toml")


def test_tools_are_declared_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tools.toml"
    path.write_text('[tools.wire]\neffects = ["pay"]\ndestinations = ["to"]\n')
    assert load_tools(path)["wire"].destinations == ("to",)
    path.write_text('[tools.wire]\nefects = ["pay"]\n')
    with pytest.raises(ConfigError, match=r"unknown key `tools\.wire\.efects`: did you mean `eff"):
        load_tools(path)
    path.write_text('[tools.wire]\neffects = ["bribe"]\n')
    with pytest.raises(ConfigError, match=r"`tools\.wire\.effects\.0`"):
        load_tools(path)
