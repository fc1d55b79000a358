"""Bundles: the policies of one or more directories, checked whole, with one revision.

A directory holds `main.rego`, `data.json`, `lib/<name>/<name>.rego` and
`rules/<rule>/<rule>.rego` beside `<rule>_test.rego`. A bundle is immutable: a reload builds a new
one, and only one that loads replaces the old one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import regorus

from ..errors import PolicyLoadError
from ..evidence import Evidence
from ..plain import Json, freeze
from ..request import TARGET_KEY, ModelRef, Point, Principal, Request, ToolDeclaration
from .input import build_input, encode_input
from .link import link
from .lint import lint_library, lint_rule
from .metadata import Metadata, read_metadata
from .reads import reads_of, united
from .recursion import refuse_recursion
from .settings import check_settings
from .syntax import Module, parse, reason_of

__all__ = ["Bundle", "Rule", "Scope", "builtin_directory", "load_bundle"]

RULES_MAX: Final = 20_000
DATA_BYTES_MAX: Final = 16 * 1024 * 1024


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule: where it concerns a call, its text, and its text as linked."""

    name: str
    file: str
    metadata: Metadata
    source: str
    linked: str
    gives_verdicts: bool
    gives_facts: bool
    reads: Any  # Reads: what of the input can change its answer


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The rules that can concern a call; calls with the same rules share one scope."""

    rules: tuple[str, ...]
    reads: Any  # Reads, of all its rules
    gives_verdicts: bool
    gives_facts: bool


class Bundle(msgspec.Struct, frozen=True, kw_only=True):
    """A checked set of policies. `revision` is the sha256 over every file and all data."""

    revision: str
    rules: dict[str, Rule]
    libraries: dict[str, str]  # file -> source
    main: str
    tests: dict[str, str]  # file -> source
    data: dict[str, Any]
    scopes: dict[tuple[str, str | None], Scope]

    def scope(self, point: Point, tool: str | None) -> Scope:
        """The rules for `point` and `tool`; a name no rule asks for gets those for every tool."""
        found = self.scopes.get((point, tool))
        return found if found is not None else self.scopes[point, None]

    def scope_table(self) -> dict[str, dict[str, list[str]]]:
        """The same as data for `main.rego`: `{point: {"*": [rule], tool: [rule]}}`."""
        table: dict[str, dict[str, list[str]]] = {}
        for rule in self.rules.values():
            for point in rule.metadata.points:
                row = table.setdefault(point, {"*": []})
                for tool in rule.metadata.tools or ("*",):
                    row.setdefault(tool, []).append(rule.name)
        return table

    def documents(self) -> dict[str, Any]:
        """All data that the policies read, as `data.*`."""
        return {**self.data, "guard_scope": self.scope_table()}


def builtin_directory() -> Path:
    """The policies that come with guard: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_policies" / "guard"
    return installed if installed.is_dir() else package.parent / "policies" / "guard"


def load_bundle(directories: Iterable[Path], *, data: Mapping[str, Json] | None = None) -> Bundle:
    """Read, check and link; `data` (such as the fleet) is laid over the bundles' own data.

    Raises PolicyLoadError with file, line and the mend for the first thing that is wrong.
    """
    modules: dict[str, Module] = {}
    libraries: dict[str, Module] = {}
    tests: dict[str, str] = {}
    main = _read(builtin_directory() / "main.rego")
    documents: dict[str, Any] = {}
    for directory in directories:
        if not directory.is_dir():
            raise PolicyLoadError(f"{directory}: expected a directory of policies, found none")
        for path in sorted(directory.rglob("*.rego")):
            name = path.relative_to(directory).as_posix()
            source = _read(path)
            if name == "main.rego":
                if source != main:
                    raise PolicyLoadError(
                        f"{path}: main.rego is guard's own, so that every engine walks the rules "
                        "alike: remove it"
                    )
            elif name.endswith("_test.rego"):
                tests[f"{directory.name}/{name}"] = source
            elif name.startswith("lib/"):
                if name in libraries:
                    raise PolicyLoadError(f"{name}: is already in another bundle: rename one")
                libraries[name] = parse(name, source)
            elif name.startswith("rules/"):
                rule = _rule_name(name)
                if rule in modules:
                    raise PolicyLoadError(
                        f"{name}: rule `{rule}` is already in another bundle: rename one"
                    )
                modules[rule] = parse(name, source)
            else:
                raise PolicyLoadError(f"{name}: expected main.rego, lib/... or rules/...")
        _merge(documents, _data(directory / "data.json"), "")
    over = dict(data or {})
    check_settings(documents.get("settings", {}), over.get("settings", {}))
    _merge(documents, over, "")
    if len(modules) > RULES_MAX:
        raise PolicyLoadError(f"{len(modules)} rules are more than the {RULES_MAX} of one bundle")
    if not modules:
        raise PolicyLoadError("the bundle has no rule below rules/: nothing could be permitted")
    by_package = {module.package: module for module in libraries.values()}
    rules = {name: _rule(name, module, documents, by_package) for name, module in modules.items()}
    for module in libraries.values():
        lint_library(module)
    refuse_recursion([*libraries.values(), *modules.values()])
    sources = {name: module.source for name, module in libraries.items()}
    bundle = Bundle(
        revision=_revision(rules, sources, main, documents),
        rules=rules,
        libraries=sources,
        main=main,
        tests=tests,
        data=documents,
        scopes=_scopes(rules.values()),
    )
    _trial(bundle)
    return bundle


def _rule_name(file: str) -> str:
    parts = file.split("/")
    if len(parts) != 3 or parts[2] != f"{parts[1]}.rego":
        raise PolicyLoadError(f"{file}: expected one rule a folder, rules/<rule>/<rule>.rego")
    return parts[1]


def _rule(
    rule: str, module: Module, data: Mapping[str, Any], libraries: Mapping[str, Module]
) -> Rule:
    metadata = read_metadata(module.name, module.source)
    lint_rule(module, rule, metadata)
    names = {head.name for head in module.heads}
    return Rule(
        name=rule,
        file=module.name,
        metadata=metadata,
        source=module.source,
        linked=link(module, rule, data),
        gives_verdicts="verdicts" in names,
        gives_facts="facts" in names,
        reads=reads_of(module, libraries),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyLoadError(f"{path}: cannot read it as UTF-8 text: {error}") from None


def _data(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    text = _read(path)
    if len(text) > DATA_BYTES_MAX:
        raise PolicyLoadError(f"{path}: data.json is larger than {DATA_BYTES_MAX} bytes")
    try:
        value = json.loads(text)
    except ValueError as error:
        raise PolicyLoadError(f"{path}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise PolicyLoadError(f"{path}: expected an object at the top")
    for reserved in ("guard", "guard_scope"):
        if reserved in value:
            raise PolicyLoadError(f"{path}: the key `{reserved}` is guard's own: use another")
    return value


def _merge(base: dict[str, Any], over: dict[str, Any], where: str) -> None:
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(base.get(key), dict):
            _merge(base[key], value, f"{where}/{key}")
        else:
            base[key] = freeze(value)


def _scopes(rules: Iterable[Rule]) -> dict[tuple[str, str | None], Scope]:
    everywhere: dict[str, list[Rule]] = {point.value: [] for point in Point}
    by_tool: dict[tuple[str, str], list[Rule]] = {}
    for rule in rules:
        for point in rule.metadata.points:
            if rule.metadata.tools is None:
                everywhere[point].append(rule)
            for tool in rule.metadata.tools or ():
                by_tool.setdefault((point, tool), []).append(rule)
    shared: dict[tuple[str, ...], Scope] = {}

    def scope(members: list[Rule]) -> Scope:
        names = tuple(sorted({rule.name for rule in members}))
        return shared.setdefault(
            names,
            Scope(
                rules=names,
                reads=united(rule.reads for rule in members),
                gives_verdicts=any(rule.gives_verdicts for rule in members),
                gives_facts=any(rule.gives_facts for rule in members),
            ),
        )

    scopes: dict[tuple[str, str | None], Scope] = {
        (point, None): scope(members) for point, members in everywhere.items()
    }
    for (point, tool), members in by_tool.items():
        scopes[point, tool] = scope([*everywhere[point], *members])
    return scopes


def _revision(
    rules: Mapping[str, Rule], libraries: Mapping[str, str], main: str, data: Mapping[str, Any]
) -> str:
    files = {rule.file: rule.source for rule in rules.values()} | dict(libraries)
    files["main.rego"] = main
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0{hashlib.sha256(files[name].encode()).hexdigest()}\n".encode())
    digest.update(msgspec.json.encode(data, order="deterministic"))
    return digest.hexdigest()


def _trial(bundle: Bundle) -> None:
    """Compile everything together and evaluate each rule once: what only shows then shows now."""
    engine = regorus.Engine()
    try:
        for name, source in bundle.libraries.items():
            engine.add_policy(name, source)
        for rule in bundle.rules.values():
            engine.add_policy(rule.file, rule.source)
        engine.add_data_json(json.dumps(bundle.documents()))
    except RuntimeError as error:
        raise PolicyLoadError(reason_of(error, "bundle")) from None
    for rule in bundle.rules.values():
        for point in rule.metadata.points:
            engine.set_input_json(_sample(point))
            try:
                for name in ("verdicts", "facts"):
                    if rule.gives_verdicts if name == "verdicts" else rule.gives_facts:
                        engine.eval_rule_as_json(f"data.guard.rules.{rule.name}.{name}")
            except RuntimeError as error:
                raise PolicyLoadError(reason_of(error, rule.file)) from None


_TARGETS: Final = {"args": {}, "messages": [], "result": ""}


def _sample(point: str) -> str:
    """An input of the right shape in which nothing happens."""
    asked = Request(
        point=Point(point),
        target=_TARGETS[TARGET_KEY[Point(point)]],
        principal=Principal(id="did:web:trial"),
        tool=ToolDeclaration(name="trial", effects=("read",)) if "tool" in point else None,
        model=ModelRef(id="trial", provider="trial") if "model" in point else None,
        now_ns=1,
    )
    return encode_input(build_input(asked, Evidence(), asked.target))
