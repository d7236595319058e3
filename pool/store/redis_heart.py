"""The heartbeat: a thread that keeps owners alive in Redis, whatever the event loop does.

It has connections of its own and waits for nobody. A process that is stopped stops beating with it,
as it must.
"""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from threading import Event, Lock, Thread
from typing import Any, Final

import structlog
from hiredis import ProtocolError, Reader, ReplyError

from pool.store.redis_keys import COMMON, KeySpace
from pool.store.redis_scripts import Scripts
from pool.store.redis_url import Address, Login
from pool.store.redis_wire import pack

_log = structlog.get_logger("pool.store.redis")

BEATS_PER_LEASE: Final = 3
# After a beat that failed the next comes so much sooner.
_SOONER: Final = 4
_CHUNK: Final = 65_536
_MORE: Final = object()


class Heart:
    """The owners that were added, for which it beats in every partition, every third of a
    lease.

    `addresses`: where each partition is, as last seen; `doubted` is called (in the thread) when
    that seems wrong. The thread runs while there are owners. It is daemonic: it keeps no process
    alive.
    """

    def __init__(
        self,
        scripts: Scripts,
        keys: KeySpace,
        login: Login,
        *,
        lease_s: float,
        timeout_s: float,
        addresses: Callable[[], Sequence[Address]],
        doubted: Callable[[], None],
    ) -> None:
        self._scripts = scripts
        self._keys = keys
        self._login = login
        self._every_s = lease_s / BEATS_PER_LEASE
        self._timeout_s = timeout_s
        self._addresses = addresses
        self._doubted = doubted
        self._owners: set[str] = set()
        self._statuses: dict[str, bytes] = {}
        self._lines: dict[Address, _Line] = {}
        # held while it beats
        self._lock = Lock()
        self._stopping = Event()
        self._thread: Thread | None = None
        self._well = True

    def __contains__(self, owner: object) -> bool:
        return owner in self._owners

    def __iter__(self) -> Iterator[str]:
        return iter(self._owners)

    def __len__(self) -> int:
        return len(self._owners)

    def add(self, owner: str) -> None:
        """Keep an owner alive."""
        self._owners.add(owner)
        if self._thread is None:
            self._stopping = Event()
            self._thread = Thread(
                target=self._run, args=(self._stopping,), name="redis-heart", daemon=True
            )
            self._thread.start()

    def remove(self, owner: str) -> None:
        """Keep it alive no more. Waits for a beat that is under way: not for the event loop."""
        with self._lock:
            self._owners.discard(owner)
            self._statuses.pop(owner, None)
        if not self._owners:
            self.stop()

    def announce(self, owner: str, status: bytes) -> None:
        """What others see of an owner from the next beat on; nothing if it was not added."""
        if owner in self._owners:
            self._statuses[owner] = status

    def status_of(self, owner: str) -> bytes:
        """What was announced last."""
        return self._statuses.get(owner, b"")

    def stop(self) -> None:
        """End the thread. Waits for a beat that is under way: not for the event loop."""
        thread, self._thread = self._thread, None
        self._stopping.set()
        if thread is not None:
            thread.join()

    def _run(self, stopping: Event) -> None:
        wait_s = self._every_s
        while not stopping.wait(wait_s):
            wait_s = self._every_s if self.beat() else self._every_s / _SOONER
        for line in self._lines.values():
            line.close()
        self._lines.clear()

    def beat(self) -> bool:
        """Beat once; whether every partition has taken it."""
        with self._lock:
            owners = sorted(self._owners)
            if not owners:
                return True
            failures = [*self._beat_all(owners)]
        if failures:
            self._doubted()
        if bool(failures) == self._well:
            self._well = not failures
            if failures:
                _log.error("heartbeat failed; leases end soon", failures=failures, owners=owners)
            else:
                _log.info("heartbeat is well again", owners=owners)
        return not failures

    def _beat_all(self, owners: Sequence[str]) -> list[str]:
        by_address: defaultdict[Address, list[int]] = defaultdict(list)
        for partition, address in enumerate(self._addresses()):
            by_address[address].append(partition)
        failures = []
        for address, partitions in by_address.items():
            try:
                self._beat_at(address, partitions, owners)
            except Exception as error:
                # whatever it is, the thread lives: it is the leases' only support
                self._lines.pop(address, _Line(address, self._login, self._timeout_s)).close()
                failures.append(f"{address}: {type(error).__name__}")
        return failures

    def _beat_at(self, address: Address, partitions: Sequence[int], owners: Sequence[str]) -> None:
        line = self._lines.get(address)
        if line is None:
            line = self._lines[address] = _Line(address, self._login, self._timeout_s)
        for by_text in (False, True):
            beats = [self._packed(each, owners, by_text=by_text) for each in partitions]
            refusals = [each for each in line.ask(beats) if isinstance(each, ReplyError)]
            if not refusals:
                return
            if not all(str(each).startswith("NOSCRIPT") for each in refusals):
                raise refusals[0]

    def _packed(self, partition: int, owners: Sequence[str], *, by_text: bool) -> bytes:
        if partition == COMMON:
            words = [word for owner in owners for word in (owner, self.status_of(owner))]
            keys = [self._keys.replicas, self._keys.layout]
            return self._scripts.packed("member", keys, words, by_text=by_text)
        key = self._keys.of_partition(partition, "alive")
        return self._scripts.packed("beat", [key], owners, by_text=by_text)


class _Line:
    """A blocking connection to a server, made when first needed."""

    def __init__(self, address: Address, login: Login, timeout_s: float) -> None:
        self._address = address
        self._login = login
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._reader = Reader(notEnoughData=_MORE)

    def ask(self, packed: Sequence[bytes]) -> list[Any]:
        """The replies to several commands, sent together."""
        if self._socket is None:
            self._connect()
        return self._exchange(packed)

    def close(self) -> None:
        """Let go of the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        login = self._login
        self._socket = socket.create_connection(self._address, timeout=self._timeout_s)
        if login.tls is not None:
            self._socket = login.tls.wrap_socket(self._socket, server_hostname=self._address.host)
        for refusal in self._exchange([pack(words) for words in login.greeting()]):
            if isinstance(refusal, ReplyError):
                raise refusal

    def _exchange(self, packed: Sequence[bytes]) -> list[Any]:
        if self._socket is None:
            raise ConnectionError("there is no connection")
        self._socket.sendall(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            reply = self._reader.gets()
            if reply is not _MORE:
                replies.append(reply)
                continue
            data = self._socket.recv(_CHUNK)
            if not data:
                raise ProtocolError("the connection ended within a reply")
            self._reader.feed(data)
        return replies
