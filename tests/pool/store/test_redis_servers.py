"""Which server has a partition: found, found anew, and told by redirections."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from random import Random

import pytest

from pool.errors import StoreUnavailable
from pool.store.redis_servers import FOUND_FRESH_S, RedisServers
from pool.store.redis_url import parse_redis_url
from pool.store.redis_wire import pack
from tests.support.resp_server import Answer, RespServer, bulk, echo, resp_server

pytestmark = pytest.mark.real_time

TIMEOUT_S = 0.4
# slots 15495 and 15891 (of "a") are not in the same half
KEYS = ["{b}", "{a}"]
PING = pack(("ECHO", "x"))


def _number(number: int) -> bytes:
    return b":%d\r\n" % number


def _slots(*ranges: tuple[int, int, RespServer]) -> bytes:
    """The answer to CLUSTER SLOTS."""
    parts = [
        b"*3\r\n%b%b*2\r\n%b%b"
        % (_number(first), _number(last), bulk(b"127.0.0.1"), _number(node.port))
        for first, last, node in ranges
    ]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))


def _first(reply: Callable[[], bytes], times: int = 1) -> Answer:
    """Refuses so many commands so, then echoes."""
    left = [times]

    def answer(words: Sequence[bytes]) -> bytes:
        if words[0] == b"ECHO":
            left[0] -= 1
            if left[0] >= 0:
                return reply()
        return echo(words)

    return answer


def _with_slots(slots: Callable[[], bytes], answer: Answer = echo) -> Answer:
    return lambda words: slots() if words[0] == b"CLUSTER" else answer(words)


@asynccontextmanager
async def serving(url: str) -> AsyncIterator[RedisServers]:
    """The servers behind a URL."""
    servers = RedisServers(parse_redis_url(url), KEYS, timeout_s=TIMEOUT_S, random=Random(0))
    try:
        yield servers
    finally:
        await servers.close()


@asynccontextmanager
async def nodes(count: int) -> AsyncIterator[list[RespServer]]:
    """So many nodes of a cluster whose first has all slots."""
    async with AsyncExitStack() as stack:
        found = [await stack.enter_async_context(resp_server()) for _ in range(count)]
        for node in found:
            node.answer = _with_slots(lambda: _slots((0, 16383, found[0])))
        yield found


def _cluster(found: Sequence[RespServer]) -> str:
    return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in found)


def _echoes(node: RespServer) -> int:
    return sum(words[0] == b"ECHO" for words in node.commands)


async def test_a_cluster_is_found_from_any_of_its_nodes() -> None:
    """Each partition's commands go to the node that has its slot."""
    async with nodes(2) as found, serving(_cluster(found)) as servers:
        for node in found:
            node.answer = _with_slots(
                lambda: _slots((0, 8_000, found[0]), (8_001, 16_383, found[1]))
            )
        assert [await servers.call(number, PING) for number in (0, 1)] == [b"x", b"x"]
        ports = [address.port for address in servers.addresses()]
        assert ports == [found[0].port, found[1].port]
        assert [_echoes(node) for node in found] == [1, 1]


async def test_a_moved_slot_is_followed() -> None:
    """The command goes where it is told, and later ones go there at once."""
    async with nodes(2) as (one, two), serving(_cluster([one])) as servers:
        moved = b"-MOVED 1 127.0.0.1:%d\r\n" % two.port
        one.answer = _with_slots(lambda: _slots((0, 16383, one)), _first(lambda: moved, 99))
        assert await servers.call(0, PING) == b"x"
        assert await servers.call(0, PING) == b"x"
        assert (_echoes(one), _echoes(two)) == (1, 2)
        # what was written at the first may be missing at the second
        servers.given(0, 1_900_000_000_000)
        await servers.call(1, PING)
        assert servers.since(0) > 0


async def test_a_redirection_without_a_host_is_to_the_same_host() -> None:
    """As a node answers that does not know its own name."""
    async with nodes(2) as (one, two), serving(_cluster([one])) as servers:
        moved = b"-MOVED 1 :%d\r\n" % two.port
        one.answer = _with_slots(lambda: _slots((0, 16383, one)), _first(lambda: moved))
        assert await servers.call(0, PING) == b"x"
        assert _echoes(two) == 1


async def test_a_slot_on_its_way_is_asked_for() -> None:
    """The command follows ASKING to the new node, this once."""
    async with nodes(2) as (one, two), serving(_cluster([one])) as servers:
        ask = b"-ASK 1 127.0.0.1:%d\r\n" % two.port
        one.answer = _with_slots(lambda: _slots((0, 16383, one)), _first(lambda: ask))
        assert await servers.call(0, PING) == b"x"
        assert [words[0] for words in two.commands] == [b"TIME", b"ASKING", b"ECHO"]
        assert await servers.call(0, PING) == b"x"
        assert _echoes(one) == 2


@pytest.mark.parametrize("code", ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY"])
@pytest.mark.parametrize(
    "form", ["{}", "ERR Error running script (call to f_1): @user_script:1: -{}"]
)
async def test_what_passes_is_waited_for(code: str, form: str) -> None:
    """A refusal of the moment is tried again within the timeout, also one that a script met."""
    async with nodes(1) as (one,), serving(_cluster([one])) as servers:
        refuse = f"-{form.format(code)} not now\r\n".encode()
        one.answer = _with_slots(lambda: _slots((0, 16383, one)), _first(lambda: refuse, 3))
        assert await servers.call(0, PING) == b"x"


async def test_what_does_not_pass_fails_in_time() -> None:
    """Redis says that it is not ready, again and again."""
    async with nodes(1) as (one,), serving(_cluster([one])) as servers:
        down = b"-CLUSTERDOWN\r\n"
        one.answer = _with_slots(lambda: _slots((0, 16383, one)), _first(lambda: down, 10_000))
        began = time.monotonic()
        with pytest.raises(StoreUnavailable, match="CLUSTERDOWN"):
            await servers.call(0, PING)
        assert time.monotonic() - began < TIMEOUT_S * 2


async def test_a_cluster_that_serves_not_all_is_unavailable() -> None:
    """Also one that is no cluster."""
    async with nodes(1) as (one,), serving(_cluster([one])) as servers:
        for answer, said in (
            (_slots((0, 100, one)), "all slots"),
            (b"*0\r\n", "no part"),
            (b"-ERR This instance has cluster support disabled\r\n", "no part"),
        ):
            one.answer = _with_slots(lambda answer=answer: answer)  # type: ignore[misc]
            with pytest.raises(StoreUnavailable, match=said):
                await servers.reach(0)


async def test_a_node_that_left_is_forgotten() -> None:
    """When the slots are found anew its link is closed."""
    async with nodes(2) as (one, two), serving(_cluster([one, two])) as servers:
        await servers.call(0, PING)
        for node in (one, two):
            node.answer = _with_slots(lambda: _slots((0, 16383, two)))
        wire = await servers.links()[0].connect()
        one.cut()
        await wire.closed
        await asyncio.sleep(FOUND_FRESH_S * 1.1)
        assert await servers.call(0, PING) == b"x"
        assert [link.address.port for link in servers.links()] == [two.port]
        assert str(one.port) not in repr(servers).partition("[")[2]


# --- sentinels


def _sentinel(master: Callable[[], RespServer | None]) -> Answer:
    def answer(words: Sequence[bytes]) -> bytes:
        assert words[:2] == [b"SENTINEL", b"get-master-addr-by-name"]
        found = master()
        if found is None:
            return b"*-1\r\n"
        return b"*2\r\n%b%b" % (bulk(b"127.0.0.1"), bulk(b"%d" % found.port))

    return answer


async def test_sentinels_tell_who_the_master_is() -> None:
    """One that answers is enough; the others may be gone."""
    async with nodes(1) as (one,), resp_server(_sentinel(lambda: one)) as watcher:
        async with resp_server() as gone:
            port = gone.port
        url = f"redis+sentinel://127.0.0.1:{port},127.0.0.1:{watcher.port}/m"
        async with serving(url) as servers:
            assert await servers.call(0, PING) == b"x"
            assert watcher.commands[0] == [b"SENTINEL", b"get-master-addr-by-name", b"m"]


async def test_a_master_that_is_none_any_more_is_left() -> None:
    """It refuses to write: the sentinels are asked again, and the command goes to the new one."""
    async with nodes(2) as (one, two):
        masters = [one]
        one.answer = _first(lambda: b"-READONLY You can't write against a replica.\r\n", 10_000)
        async with (
            resp_server(_sentinel(lambda: masters[-1])) as watcher,
            serving(f"redis+sentinel://127.0.0.1:{watcher.port}/m") as servers,
        ):
            await servers.reach(0)
            servers.given(0, 1_900_000_000_000)
            masters.append(two)
            await asyncio.sleep(FOUND_FRESH_S * 1.1)
            assert await servers.call(0, PING) == b"x"
            assert servers.since(0) == 1_900_000_000_001


async def test_a_name_that_sentinels_do_not_know_is_told() -> None:
    """It is the URL's mistake, or theirs."""
    async with (
        resp_server(_sentinel(lambda: None)) as watcher,
        serving(f"redis+sentinel://127.0.0.1:{watcher.port}/m") as servers,
    ):
        with pytest.raises(StoreUnavailable, match="knows no master"):
            await servers.reach(0)


async def test_closed_servers_are_not_reached() -> None:
    """Who waits for them is told; a doubt that comes late starts nothing."""
    async with nodes(1) as (one,):
        servers = RedisServers(
            parse_redis_url(one.url), KEYS, timeout_s=TIMEOUT_S, random=Random(0)
        )
        waiting = asyncio.create_task(servers.call(0, PING))
        await asyncio.sleep(0)
        await servers.close()
        servers.doubt()
        for call in (waiting, servers.call(0, PING)):
            with pytest.raises(StoreUnavailable):
                await call


async def test_a_doubt_finds_anew() -> None:
    """The heart has seen a server gone: the others are asked without waiting for a caller."""
    async with nodes(2) as (one, two), serving(_cluster([one, two])) as servers:
        await servers.call(0, PING)
        for node in (one, two):
            node.answer = _with_slots(lambda: _slots((0, 16383, two)))
        servers.doubt()
        servers.doubt()
        while [address.port for address in servers.addresses()] != [two.port] * 2:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
