"""Marks for what a test needs, and a failure instead of a skip where CI must have it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from support.disks import few_inodes, small_disk

__all__ = ["few_inodes", "small_disk"]

NEEDS = {"needs_opa": "opa", "needs_postgres": "postgres", "needs_nats": "nats-server"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine lacks, saying so; TESTS_REQUIRE names what may not be lacking."""
    required = os.environ.get("TESTS_REQUIRE", "").split(",")
    for item in items:
        for mark, program in NEEDS.items():
            if item.get_closest_marker(mark) is None or shutil.which(program):
                continue
            if program in required:
                raise pytest.UsageError(f"{program} is required here and not on PATH")
            item.add_marker(pytest.mark.skip(reason=f"no `{program}` on PATH"))


@pytest.fixture(autouse=True)
def _own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test works in a directory of its own: none reads this checkout's guard.toml or log."""
    monkeypatch.chdir(tmp_path)
