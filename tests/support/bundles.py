"""Bundles of one rule, written to a directory."""

from __future__ import annotations

from pathlib import Path

HEAD = """# METADATA
# title: A rule
# description: For a test.
# custom:
#   points: [pre_tool_call]
package guard.rules.r

import rego.v1

"""


def head(rule: str = "r", *, points: str = "pre_tool_call", tools: str = "") -> str:
    """METADATA and package of a rule."""
    tools = f"\n#   tools: [{tools}]" if tools else ""
    text = HEAD.replace("guard.rules.r\n", f"guard.rules.{rule}\n")
    return text.replace("[pre_tool_call]", f"[{points}]{tools}")


def write(directory: Path, source: str, *, rule: str = "r", data: str | None = None) -> Path:
    """The directory, with `source` as its rule `rule`."""
    folder = directory / "rules" / rule
    folder.mkdir(parents=True)
    (folder / f"{rule}.rego").write_text(source)
    if data is not None:
        (directory / "data.json").write_text(data)
    return directory
