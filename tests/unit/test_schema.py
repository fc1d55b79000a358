"""The published schema of the policy input is what the code builds."""

from __future__ import annotations

import json
from pathlib import Path

from guard.policy.schema import input_schema

SCHEMA = Path(__file__).resolve().parents[2] / "policies" / "schema" / "input.json"


def test_the_schema_file_has_not_drifted() -> None:
    assert json.loads(SCHEMA.read_text()) == input_schema()
