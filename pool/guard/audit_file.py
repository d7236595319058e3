"""The audit log in a file: one line a record, only ever added to.

The file may be rotated by renaming it: the next batch goes to a new file of the old name, and the
chain goes on in it. Copying and truncating it is what the log is to find out.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal, TypeVar

from pool.errors import ConfigError, StoreUnavailable
from pool.guard.audit_records import Head, Sealed, head_of

T = TypeVar("T")

# `always`: each batch is on the disk before the next is begun; `never`: when the system sees fit.
Fsync = Literal["always", "never"]

# A line is not longer: names and ids in it are bounded.
_TAIL_BYTES: Final = 64 * 1024
_OWNER_ONLY: Final = 0o600
_FLAGS: Final = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
# The pause before a file that another process has is tried again, in seconds.
_AGAIN_S: Final = 0.05


class FileSink:
    """Adds records to a file, in a thread of its own. One process at a time may have it open:
    another one waits for it for `wait_s` seconds when it opens it.
    """

    def __init__(self, path: Path, *, fsync: Fsync = "always", wait_s: float = 0.0) -> None:
        self._path = path
        self._fsync = fsync
        self._wait_s = wait_s
        self._fd = -1
        self._size = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="audit")

    def __repr__(self) -> str:
        return f"<FileSink {self._path}>"

    async def open(self, chain: str) -> Head | None:
        """The head of the chain that the file has, whatever its name; None if it is empty.
        `ConfigError` if it cannot be opened, is something else, or another process has it.
        """
        return await self._in_thread(self._begin)

    async def write(self, records: Sequence[Sealed]) -> None:
        """Add records; `StoreUnavailable`, and nothing is added, if that cannot be done."""
        data = b"".join(record.line + b"\n" for record in records)
        await self._in_thread(lambda: self._add(data))

    async def close(self) -> None:
        """Let go of the file."""
        await self._in_thread(self._end)
        self._thread.shutdown()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    # --- in the thread

    def _begin(self) -> Head | None:
        try:
            self._fd = self._open(self._wait_s)
            return self._head()
        except OSError as error:
            self._end()
            raise _unopened(self._path, error) from None
        except ConfigError:
            self._end()
            raise

    def _open(self, wait_s: float) -> int:
        fd = os.open(self._path, _FLAGS | os.O_CREAT, _OWNER_ONLY)
        try:
            _lock(fd, wait_s)
            self._size = os.fstat(fd).st_size
        except BlockingIOError:
            os.close(fd)
            remedy = "another process writes its audit log there: give each process its own file"
            raise ConfigError("audit.to", str(self._path), remedy) from None
        except OSError:
            os.close(fd)
            raise
        return fd

    def _head(self) -> Head | None:
        tail = _tail(self._fd, self._size)
        head = _last_head(self._path, tail)
        if tail and not tail.endswith(b"\n"):
            # a crash in the middle of a line: what follows is not to be part of it
            self._write(b"\n")
        return head

    def _add(self, data: bytes) -> None:
        try:
            if self._rotated():
                self._reopen()
            self._write(data)
        except OSError as error:
            raise StoreUnavailable(
                f"the audit log cannot be written: {error.strerror or 'no reason is known'}"
            ) from None
        except ConfigError as mistake:
            raise StoreUnavailable("the audit log belongs to another process now") from mistake

    def _rotated(self) -> bool:
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return not os.path.samestat(there, os.fstat(self._fd))

    def _reopen(self) -> None:
        # nobody waits for who has it: a batch is given again
        old, self._fd = self._fd, self._open(0.0)
        os.close(old)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
            if self._fsync == "always":
                os.fsync(self._fd)
        except OSError:
            # it is tried again: what is there of it already must not be there twice
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _end(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def check_file(path: Path) -> None:
    """`ConfigError` if no audit log can be opened there. Nothing is made for that, and another
    process may have the file.
    """
    try:
        _probe(path)
    except OSError as error:
        raise _unopened(path, error) from None


def _probe(path: Path) -> None:
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        # it would be made
        path.parent.stat()
        # as `open` looks at it
        effective = os.access in os.supports_effective_ids
        if not os.access(path.parent, os.W_OK | os.X_OK, effective_ids=effective):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        return
    try:
        _last_head(path, _tail(fd, os.fstat(fd).st_size))
    finally:
        os.close(fd)


def _tail(fd: int, size: int) -> bytes:
    return os.pread(fd, _TAIL_BYTES, max(0, size - _TAIL_BYTES))


def _last_head(path: Path, tail: bytes) -> Head | None:
    """The head of the chain in what a file ends with; `ConfigError` if it is something else."""
    heads = (head_of(line) for line in reversed(tail.splitlines()))
    head = next((head for head in heads if head is not None), None)
    if tail and head is None:
        remedy = "is no audit log: name a file of its own, or move this one away"
        raise ConfigError("audit.to", str(path), remedy)
    return head


def _unopened(path: Path, error: OSError) -> ConfigError:
    remedy = f"the audit log cannot be opened: {error.strerror}"
    return ConfigError("audit.to", str(path), remedy)


def _lock(fd: int, wait_s: float) -> None:
    """Have the file alone; `BlockingIOError` if that cannot be had in time."""
    last = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= last:
                raise
            time.sleep(_AGAIN_S)
        else:
            return
