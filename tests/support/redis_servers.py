"""Real Redis servers of this machine, in the three ways in which a store may be told of them.

One server; a master with a replica under three sentinels; a cluster of three masters with a replica
each. Every process is started here and ended by its own id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Final, Literal

from tests.support.redis_process import BUS, RedisServer, free_port, until

SLOTS: Final = 16_384
# The name under which sentinels know the master.
SERVICE: Final = "actorpool"

Appendonly = Literal["no", "always", "everysec"]


class Sentinels:
    """A master with a replica, and three sentinels that watch them."""

    def __init__(
        self, master: RedisServer, replica: RedisServer, watchers: Sequence[RedisServer]
    ) -> None:
        self.master = master
        self.replica = replica
        self.watchers = watchers

    @property
    def url(self) -> str:
        """What a store is told: the sentinels, and the name that they know the master by."""
        return f"redis+sentinel://{_addresses(self.watchers)}/{SERVICE}/0"

    @property
    def current(self) -> RedisServer:
        """Who is the master now, in the eyes of the first sentinel."""
        _, port = self.watchers[0].execute("SENTINEL", "get-master-addr-by-name", SERVICE)
        return self.master if int(port) == self.master.port else self.replica


class Cluster:
    """Three masters, and a replica of each: `nodes[i + 3]` is that of `nodes[i]`."""

    def __init__(self, nodes: Sequence[RedisServer]) -> None:
        self.nodes = nodes

    @property
    def url(self) -> str:
        """What a store is told."""
        return f"redis+cluster://{_addresses(self.nodes[:3])}"

    def holder(self, key: str) -> RedisServer:
        """The master that has the key's slot, in the eyes of the first node alive."""
        asked = next(node for node in self.nodes if node.alive)
        slot = asked.execute("CLUSTER", "KEYSLOT", key)
        for first, last, (_, port, *_), *_ in asked.execute("CLUSTER", "SLOTS"):
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise RuntimeError(f"nobody has slot {slot}")


@contextmanager
def redis_server(
    *,
    appendonly: Appendonly = "no",
    port: int | None = None,
    directory: Path | None = None,
    extra: Sequence[str] = (),
) -> Iterator[RedisServer]:
    """One server, until the block is left. `extra`: more arguments, as `--maxmemory`, `10mb`."""
    options = ["--appendonly", "no" if appendonly == "no" else "yes"]
    # a replica is brought in step at once, and tells so soon
    options += ["--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"]
    if appendonly != "no":
        options += ["--appendfsync", appendonly]
    with _started([*options, *extra], port=port, directory=directory) as server:
        yield server


@contextmanager
def sentinels(*, down_after_ms: int = 700, appendonly: Appendonly = "no") -> Iterator[Sentinels]:
    """A master, its replica in step with it, and three sentinels that know each other."""
    with ExitStack() as stack:
        master = stack.enter_context(redis_server(appendonly=appendonly))
        follow = ("--replicaof", "127.0.0.1", str(master.port))
        replica = stack.enter_context(redis_server(appendonly=appendonly, extra=follow))
        watched = (
            f"sentinel monitor {SERVICE} 127.0.0.1 {master.port} 2\n"
            f"sentinel down-after-milliseconds {SERVICE} {down_after_ms}\n"
            f"sentinel failover-timeout {SERVICE} 3000\n"
            f"sentinel known-replica {SERVICE} 127.0.0.1 {replica.port}\n"
        )
        names = {token_hex(20): free_port() for _ in range(3)}
        watchers = [stack.enter_context(_sentinel(name, names, watched)) for name in names]
        until(lambda: _is_in_step(replica), "the replica is in step")
        for watcher in watchers:
            until(partial(_sees_all, watcher), "the sentinels see each other")
        yield Sentinels(master, replica, watchers)


@contextmanager
def cluster(*, timeout_ms: int = 1_000, appendonly: Appendonly = "no") -> Iterator[Cluster]:
    """Three masters with a replica each, all slots served. A node is lost after `timeout_ms`."""
    options = (
        *("--cluster-enabled", "yes", "--cluster-node-timeout", str(timeout_ms)),
        *("--cluster-replica-validity-factor", "0"),
    )
    with ExitStack() as stack:
        ports = [free_port() for _ in range(6)]
        names = [token_hex(20) for _ in ports]
        nodes = []
        for place, port in enumerate(ports):
            home = Path(stack.enter_context(TemporaryDirectory(prefix="actorpool-redis-")))
            (home / "nodes.conf").write_text(_membership(names, ports, place))
            one = redis_server(appendonly=appendonly, port=port, directory=home, extra=options)
            nodes.append(stack.enter_context(one))
        for node in nodes:
            until(partial(_is_complete, node), "the cluster serves every slot")
        yield Cluster(nodes)


@contextmanager
def _started(
    options: Sequence[str],
    *,
    port: int | None = None,
    directory: Path | None = None,
) -> Iterator[RedisServer]:
    with ExitStack() as stack:
        home = directory or Path(stack.enter_context(TemporaryDirectory(prefix="actorpool-redis-")))
        chosen = port or free_port()
        plain = ("--bind", "127.0.0.1", "--save", "", "--daemonize", "no", "--dir", str(home))
        server = RedisServer(chosen, home, ["--port", str(chosen), *plain, *options])
        stack.callback(server.kill)
        server.start()
        yield server


@contextmanager
def _sentinel(name: str, names: Mapping[str, int], watched: str) -> Iterator[RedisServer]:
    """One of the sentinels in `names` (with their ports), told of the others."""
    others = (
        f"sentinel known-sentinel {SERVICE} 127.0.0.1 {port} {other}\n"
        for other, port in names.items()
        if other != name
    )
    with TemporaryDirectory(prefix="actorpool-sentinel-") as home:
        file = Path(home) / "sentinel.conf"
        listen = f"port {names[name]}\nbind 127.0.0.1\ndir {home}\nsentinel myid {name}\n"
        file.write_text(listen + watched + "".join(others))
        server = RedisServer(names[name], Path(home), [str(file), "--sentinel"])
        try:
            server.start()
            yield server
        finally:
            server.kill()


def _sees_all(watcher: RedisServer) -> bool:
    """Whether the master, its replica and the other sentinels answer this one."""
    found = [watcher.execute("SENTINEL", kind, SERVICE) for kind in ("replicas", "sentinels")]
    peers = [dict(zip(each[::2], each[1::2], strict=True)) for each in chain(*found)]
    flags = {peer["flags"] for peer in peers}
    links = {peer.get("master-link-status", "ok") for peer in peers}
    return len(peers) == 3 and flags <= {"slave", "sentinel"} and links == {"ok"}


def _membership(names: Sequence[str], ports: Sequence[int], own: int) -> str:
    """What a node that has been in the cluster for long has in its nodes.conf."""
    lines = []
    for place, (name, port) in enumerate(zip(names, ports, strict=True)):
        me = "myself," if place == own else ""
        address = f"{name} 127.0.0.1:{port}@{port + BUS}"
        if place < 3:
            share = f"{place * SLOTS // 3}-{(place + 1) * SLOTS // 3 - 1}"
            lines.append(f"{address} {me}master - 0 0 {place + 1} connected {share}")
        else:
            lines.append(f"{address} {me}slave {names[place - 3]} 0 0 {place - 2} connected")
    return "\n".join([*lines, "vars currentEpoch 3 lastVoteEpoch 0", ""])


def _is_complete(node: RedisServer) -> bool:
    info = node.execute("CLUSTER", "INFO")
    replica = "role:slave" in node.execute("INFO", "replication")
    served = node.execute("CLUSTER", "SLOTS")
    whole = all(len(holders) == 2 for _, _, *holders in served) and len(served) == 3
    return "cluster_state:ok" in info and whole and (not replica or _is_in_step(node))


def _is_in_step(replica: RedisServer) -> bool:
    return "master_link_status:up" in replica.execute("INFO", "replication")


def _addresses(servers: Sequence[RedisServer]) -> str:
    return ",".join(server.address for server in servers)
