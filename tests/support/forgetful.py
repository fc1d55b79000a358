"""A disk that forgets what was not synced, and that fails when it is told to.

It stands between the process and the real file system while it is entered: `os.write`, `pwrite`,
`fdatasync`, `fsync`, `rename`, `replace` and `ftruncate` go through it. What a power failure would
leave is then written out with `image`: contents as they were at the last sync of the file, names as
they were at the last sync of the directory. A real disk may keep more, so some of the rest is kept
by chance.
"""

from __future__ import annotations

import errno
import os
import random
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["ForgetfulDisk"]

_CALLS = ("write", "pwrite", "fdatasync", "fsync", "ftruncate", "replace", "rename")


class ForgetfulDisk:
    """Enter it, write below `root`, take `image`s. `fault_rate` is the share of failing calls."""

    def __init__(self, root: Path, *, seed: int, fault_rate: float = 0.0) -> None:
        self.root = root
        self.faults = 0
        self.fault_rate = fault_rate
        self._random = random.Random(seed)
        self._lock = threading.RLock()
        self._contents: dict[int, bytes] = {}  # inode: what is durable
        self._names: dict[int, dict[str, int]] = {}  # inode of a directory: name, inode
        self._real: dict[str, Callable[..., Any]] = {}
        self._held: dict[int, int] = {}  # an inode that is open is not used for another file

    def __enter__(self) -> ForgetfulDisk:
        for name in _CALLS:
            self._real[name] = getattr(os, name)
            setattr(os, name, self._wrapped(name))
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name, call in self._real.items():
            setattr(os, name, call)
        for descriptor in self._held.values():
            os.close(descriptor)

    def image(self, target: Path, *, kept_rate: float = 0.0) -> None:
        """Write out what is left after a power failure now."""
        with self._lock:
            self._copy(self.root, target, kept_rate)

    def _copy(self, source: Path, target: Path, kept_rate: float) -> None:
        target.mkdir(mode=0o700)
        durable = self._names.get(source.stat().st_ino, {})
        now = {path.name: path.stat().st_ino for path in source.iterdir()}
        for name in durable.keys() | now.keys():
            is_kept = self._random.random() < kept_rate
            inode = now.get(name) if is_kept else durable.get(name, now.get(name))
            if name not in durable and not is_kept and not (source / name).is_dir():
                continue
            path = source / name
            if path.is_dir():
                # Directories hold no entries themselves: that they were made is not forgotten.
                self._copy(path, target / name, kept_rate)
            elif inode is not None:
                content = self._contents.get(inode, b"")
                if is_kept and path.exists() and path.stat().st_ino == inode:
                    content = path.read_bytes()
                (target / name).write_bytes(content)
                (target / name).chmod(0o600)

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                if self._random.random() < self.fault_rate and self._is_ours(arguments[0]):
                    self.faults += 1
                    if name in ("write", "pwrite") and self._random.random() < 0.5:
                        short = arguments[1][: self._random.randrange(1, len(arguments[1]) + 1)]
                        return real(arguments[0], short, *arguments[2:])
                    code = self._random.choice((errno.EIO, errno.ENOSPC))
                    raise OSError(code, os.strerror(code))
                result = real(*arguments, **options)
                if name in ("fdatasync", "fsync") and self._is_ours(arguments[0]):
                    self._remember(arguments[0])
                return result

        return call

    def _is_ours(self, target: Any) -> bool:
        try:
            path = os.readlink(f"/proc/self/fd/{target}") if isinstance(target, int) else target
        except OSError:
            return False
        return str(path).startswith(str(self.root))

    def _remember(self, descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {
                entry.name: entry.inode() for entry in os.scandir(descriptor)
            }
        else:
            path = f"/proc/self/fd/{descriptor}"
            if found.st_ino not in self._held:
                self._held[found.st_ino] = os.open(path, os.O_RDONLY)
            self._contents[found.st_ino] = Path(path).read_bytes()
