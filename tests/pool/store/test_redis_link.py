"""The link to a Redis server: commands go out together, and its failures are told at once."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random

import pytest

from pool.errors import StoreUnavailable
from pool.store.redis_link import RedisLink
from pool.store.redis_url import Address, Login
from pool.store.redis_wire import pack
from tests.support import sweep_cancel
from tests.support.resp_server import Answer, RespServer, bulk, echo, resp_server

pytestmark = pytest.mark.real_time

TIMEOUT_S = 0.3


@asynccontextmanager
async def linked(
    answer: Answer = echo, *, login: Login | None = None, waiting_max: int = 1_000
) -> AsyncIterator[tuple[RedisLink, RespServer]]:
    """A link to a server that answers so."""
    async with resp_server(answer) as server:
        link = RedisLink(
            Address("127.0.0.1", server.port),
            login or Login(),
            timeout_s=TIMEOUT_S,
            random=Random(0),
            waiting_max=waiting_max,
        )
        try:
            yield link, server
        finally:
            await link.close()


async def _echoed(link: RedisLink, *words: str) -> list[object]:
    return list(await asyncio.gather(*(link.call(pack(("ECHO", word))) for word in words)))


def _silent(words: Sequence[bytes]) -> None:
    return None


def _after(count: int, then: Answer) -> Answer:
    """Echoes so many commands."""
    left = [count]

    def answer(words: Sequence[bytes]) -> bytes | None:
        left[0] -= 1
        return echo(words) if left[0] >= 0 else then(words)

    return answer


# --- together


async def test_commands_of_one_tick_go_out_in_one_write() -> None:
    """A hundred callers, one write, and each gets the answer to its own command."""
    async with linked() as (link, server):
        await link.connect()
        server.reads.clear()
        words = [str(number) for number in range(100)]
        assert await _echoed(link, *words) == [word.encode() for word in words]
        assert server.reads == [100]
        assert await _echoed(link, "x", "y") == [b"x", b"y"]
        assert server.reads == [100, 2]


async def test_callers_share_one_connection() -> None:
    """Those who come while it is made wait for it."""
    async with linked() as (link, server):
        assert await _echoed(link, "a", "b") == [b"a", b"b"]
        assert server.connections == 1
        assert repr(link) == f"<RedisLink 127.0.0.1:{server.port} up>"


async def test_a_connection_begins_with_the_login() -> None:
    """User and password, then the database; then the time is asked for."""
    async with linked(login=Login("ann", "secret", 3)) as (link, server):
        await _echoed(link, "x")
        assert server.commands[:3] == [
            [b"AUTH", b"ann", b"secret"],
            [b"SELECT", b"3"],
            [b"TIME"],
        ]
        assert link.since == 1_700_000_000_000


async def test_an_error_reply_is_an_answer() -> None:
    """It is given to whoever asked, and the next answer to the next."""
    async with linked(_errors) as (link, _):
        found = await _echoed(link, "bad", "good")
        assert (str(found[0]), found[1]) == ("ERR no", b"good")


def _errors(words: Sequence[bytes]) -> bytes:
    return b"-ERR no\r\n" if words[-1] == b"bad" else echo(words)


# --- cancellation


async def test_a_cancelled_caller_takes_nobodys_answer() -> None:
    """Wherever a caller is cancelled, those after it get the answers to their own commands."""
    async with linked() as (link, _):

        async def check() -> None:
            assert await _echoed(link, "1", "2", "3") == [b"1", b"2", b"3"]

        assert await sweep_cancel(lambda: link.call(pack(("ECHO", "x"))), check) >= 1


async def test_who_is_cancelled_while_it_connects_stops_nobody_else() -> None:
    """The connection is made for the others."""
    async with linked() as (link, _):
        first = asyncio.create_task(link.call(pack(("ECHO", "1"))))
        second = asyncio.create_task(link.call(pack(("ECHO", "2"))))
        await asyncio.sleep(0)
        first.cancel()
        assert await second == b"2"
        assert first.cancelled()


# --- failures


async def test_a_silent_server_fails_all_who_wait_in_time() -> None:
    """Also those who came later; the connection is given up."""
    async with linked(_after(1, _silent)) as (link, server):
        await _echoed(link, "x")
        began = time.monotonic()
        waiting = [asyncio.create_task(link.call(pack(("ECHO", str(n))))) for n in range(5)]
        done, _ = await asyncio.wait(waiting)
        assert TIMEOUT_S * 0.9 <= time.monotonic() - began <= TIMEOUT_S * 1.7
        for task in done:
            assert isinstance(task.exception(), StoreUnavailable)
        assert not link.up
        server.answer = echo
        assert await _echoed(link, "again") == [b"again"]


async def test_a_server_that_never_answers_is_no_server() -> None:
    """A connection on which not even the time is told fails in time."""
    async with resp_server() as server:
        server._answer_all = lambda parser, writer: None  # type: ignore[method-assign]
        link = RedisLink(
            Address("127.0.0.1", server.port), Login(), timeout_s=TIMEOUT_S, random=Random(0)
        )
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await link.call(pack(("PING",)))
        assert time.monotonic() - began < TIMEOUT_S * 1.7
        await link.close()


async def test_a_slow_server_that_talks_has_not_hung() -> None:
    """As long as answers come those behind them are waited for, longer than the timeout."""
    async with linked(_silent) as (link, server):
        waiting = [asyncio.create_task(link.call(pack(("ECHO", str(n))))) for n in range(5)]
        for number in range(5):
            await asyncio.sleep(TIMEOUT_S * 0.6)
            server.say(bulk(b"%d" % number))
        assert await asyncio.gather(*waiting) == [b"0", b"1", b"2", b"3", b"4"]


async def test_a_loop_that_stood_still_does_not_blame_the_server() -> None:
    """An agent blocks the loop for longer than the timeout: the answer that came is taken."""
    async with linked() as (link, _):
        await _echoed(link, "x")
        task = asyncio.create_task(link.call(pack(("ECHO", "y"))))
        for _ in range(3):
            await asyncio.sleep(0)
        time.sleep(TIMEOUT_S * 2)  # noqa: ASYNC251 - this is what is tested
        assert await task == b"y"


@pytest.mark.parametrize(
    "garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"$-7\r\n", b"*9999999999999999999\r\n"]
)
async def test_what_is_not_the_protocol_ends_the_connection(garbage: bytes) -> None:
    """All who wait are told, and the next call gets a new connection."""
    async with linked(_after(1, lambda words: garbage)) as (link, server):
        await _echoed(link, "x")
        with pytest.raises(StoreUnavailable):
            await _echoed(link, "a", "b")
        server.answer = echo
        assert await _echoed(link, "again") == [b"again"]
        assert server.connections == 2


async def test_an_answer_to_nothing_ends_the_connection() -> None:
    """From then on no answer could be trusted to be the right one."""
    async with linked() as (link, server):
        await _echoed(link, "x")
        wire = await link.connect()
        server.say(b"+stray\r\n")
        await wire.closed
        assert await _echoed(link, "y") == [b"y"]
        assert server.connections == 2


@pytest.mark.parametrize("part", [b"", b"$5\r\nhel"])
async def test_a_lost_connection_fails_all_who_wait(part: bytes) -> None:
    """Also in the middle of an answer. Nothing is sent again."""
    async with linked(_after(1, _silent)) as (link, server):
        await _echoed(link, "x")
        waiting = [asyncio.create_task(link.call(pack(("ECHO", "y")))) for _ in range(3)]
        await server.got(5)
        server.say(part)
        server.cut()
        done, _ = await asyncio.wait(waiting)
        assert all(isinstance(task.exception(), StoreUnavailable) for task in done)
        assert [words for words in server.commands if words[-1] == b"y"] == [[b"ECHO", b"y"]] * 3


async def test_where_nobody_listens_is_told_at_once_and_tried_again_later() -> None:
    """The next try is a little later; until then calls fail without one."""
    async with resp_server() as server:
        address = Address("127.0.0.1", server.port)
    link = RedisLink(address, Login(), timeout_s=TIMEOUT_S, random=Random(0))
    with pytest.raises(StoreUnavailable, match="check that it runs"):
        await link.call(pack(("PING",)))
    with pytest.raises(StoreUnavailable, match="just now") as caught:
        await link.call(pack(("PING",)))
    assert caught.value.retry_after_s is not None
    assert 0 < caught.value.retry_after_s <= 0.05
    await link.close()


async def test_a_server_without_tls_is_explained() -> None:
    """It was asked for and there is none: not a matter of the network."""
    async with linked(login=Login(tls=ssl.create_default_context())) as (link, server):
        server.answer_raw(b"-ERR what?\r\n")
        with pytest.raises(StoreUnavailable, match="speaks TLS"):
            await link.call(pack(("PING",)))


async def test_only_so_many_may_wait() -> None:
    """One more is refused at once; the others are served."""
    async with linked(waiting_max=3) as (link, _):
        await link.connect()
        calls = [asyncio.create_task(link.call(pack(("ECHO", str(n))))) for n in range(4)]
        done = await asyncio.gather(*calls, return_exceptions=True)
        assert done[:3] == [b"0", b"1", b"2"]
        assert isinstance(done[3], StoreUnavailable)
        assert await _echoed(link, "x") == [b"x"]


REFUSALS: list[tuple[bytes, str]] = [
    (b"-WRONGPASS invalid username-password pair\r\n", "user or password"),
    (b"-ERR AUTH <password> called without any password configured\r\n", "takes no password"),
    (b"-NOPERM this user has no permissions\r\n", "may not use AUTH"),
    (b"-ODD thing\r\n", "answered AUTH with ODD"),
]


@pytest.mark.parametrize(("reply", "said"), REFUSALS)
async def test_a_refused_login_is_explained_without_the_password(reply: bytes, said: str) -> None:
    """What Redis says is turned into what to do."""
    async with linked(lambda words: reply, login=Login("", "canary-secret")) as (link, _):
        with pytest.raises(StoreUnavailable, match=said) as caught:
            await link.call(pack(("PING",)))
        assert "canary" not in str(caught.value)


async def test_a_closed_link_is_not_opened_again() -> None:
    """Who waits for a connection is told; so is who comes later."""
    async with linked() as (link, _):
        waiting = asyncio.create_task(link.call(pack(("PING",))))
        await asyncio.sleep(0)
        await link.close()
        for call in (waiting, link.call(pack(("PING",)))):
            with pytest.raises(StoreUnavailable):
                await call


async def test_a_new_connection_is_later_than_all_epochs() -> None:
    """Whatever was given before it began is before its `since`, also if the clock went back."""
    async with linked() as (link, server):
        await _echoed(link, "x")
        link.newest_epoch = 1_800_000_000_000
        wire = await link.connect()
        server.cut()
        await wire.closed
        await _echoed(link, "y")
        assert link.since == 1_800_000_000_001
