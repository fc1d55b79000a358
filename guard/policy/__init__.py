"""Rego policies: bundles of rules, the embedded engine, the policy input and its answer."""

from .bundle import Bundle, Rule, Scope, builtin_directory, load_bundle
from .embedded import Answer, EmbeddedEngine, Engine
from .input import build_input, encode_input

__all__ = [
    "Answer",
    "Bundle",
    "EmbeddedEngine",
    "Engine",
    "Rule",
    "Scope",
    "build_input",
    "builtin_directory",
    "encode_input",
    "load_bundle",
]
