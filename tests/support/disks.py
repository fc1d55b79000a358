"""A real file system that is small enough to fill."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB, where this user may mount one."""
    yield from _mounted(tmp_path, "size=256k,mode=0700")


@pytest.fixture
def few_inodes(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB with room for 40 files and directories."""
    yield from _mounted(tmp_path, "size=4m,nr_inodes=40,mode=0700")


def _mounted(tmp_path: Path, options: str) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user cannot mount a tmpfs; the file size limit is tested beside this")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)
