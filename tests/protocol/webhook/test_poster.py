from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp.web import Response
from standardwebhooks import Webhook as Standard
from standardwebhooks import WebhookVerificationError

from pool.errors import ConfigError, InvalidRequest
from pool.store.base import SessionKey
from pool.turn import State, Turn, TurnRequest, Webhook
from pool.webhooks import NotDelivered
from protocol import encode
from protocol.webhook.config import WebhookConfig
from protocol.webhook.poster import Poster
from tests.contract.steps import finish, make_turn
from tests.support.names import Names
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.real_time

SECRET = "whsec_" + "A" * 32
OPEN = WebhookConfig(secret=SECRET, allow_private=True, allow_http=True)
# Lets HTTP go to public addresses only.
PUBLIC = WebhookConfig(secret=SECRET, allow_http=True)


def turn_for(url: str, state: State = "completed") -> Turn:
    """A turn that ended and has a webhook."""
    turn = finish(make_turn(key=SessionKey("acme", "s")), state, output="d\u00e9j\u00e0 vu")
    turn.request = TurnRequest(input="hi", webhook=Webhook(url), metadata={"n": 1})
    return turn


async def failure_of(poster: Poster, url: str) -> NotDelivered:
    """Why nothing is delivered there."""
    with pytest.raises(NotDelivered) as raised:
        await poster.deliver(turn_for(url))
    return raised.value


@asynccontextmanager
async def deaf() -> AsyncIterator[str]:
    """The URL of a server that accepts connections and never says anything."""
    silent = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        silent.set()


async def test_the_turn_is_posted_and_signed() -> None:
    """The body has the turn as the protocol shows it; the library of the standard verifies it."""
    async with receiving() as receiver, Poster(OPEN) as poster:
        turn = turn_for(receiver.url)
        await poster.deliver(turn)
    (got,) = receiver.got
    assert got.headers["Content-Type"] == "application/json"
    assert got.headers["User-Agent"] == "actorpool"
    assert got.headers["webhook-id"] == turn.id
    assert abs(int(got.headers["webhook-timestamp"]) - time.time()) < 60
    assert got.verified(SECRET) == {
        "type": "turn.completed",
        "timestamp": "1970-01-01T00:00:02Z",
        "data": msgspec.json.decode(encode.turn(turn)),
    }
    assert encode.turn(turn) in got.body


async def test_another_secret_does_not_verify() -> None:
    """Whoever has not the secret cannot be taken for this server."""
    async with receiving() as receiver, Poster(OPEN) as poster:
        await poster.deliver(turn_for(receiver.url))
    with pytest.raises(WebhookVerificationError):
        receiver.got[0].verified("whsec_" + "B" * 32)


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "expired", "interrupted"])
async def test_the_type_says_how_the_turn_ended(state: State) -> None:
    """It is the type of the turn's terminal event."""
    async with receiving() as receiver, Poster(OPEN) as poster:
        await poster.deliver(turn_for(receiver.url, state))
    assert receiver.got[0].verified(SECRET)["type"] == f"turn.{state}"


async def test_a_second_try_is_the_same_message() -> None:
    """Id and body stay, so that a receiver knows it again; time and signature are new."""
    times = iter([1e9, 2e9])
    async with receiving() as receiver, Poster(OPEN, wall=lambda: next(times)) as poster:
        turn = turn_for(receiver.url)
        await poster.deliver(turn)
        await poster.deliver(turn)
    first, second = receiver.got
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    stamps = [got.headers["webhook-timestamp"] for got in receiver.got]
    assert stamps == ["1000000000", "2000000000"]
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_every_2xx_is_a_yes(status: int) -> None:
    """The receiver has taken it."""
    async with receiving(status) as receiver, Poster(OPEN) as poster:
        await poster.deliver(turn_for(receiver.url))
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    ("status", "final"), [(400, False), (404, False), (410, True), (429, False), (500, False)]
)
async def test_everything_else_is_a_no(status: int, final: bool) -> None:
    """Only 410 says that it is gone for good."""
    async with receiving(status) as receiver, Poster(OPEN) as poster:
        failure = await failure_of(poster, receiver.url)
    assert (failure.reason, failure.final) == (f"answered {status}", final)


@pytest.mark.parametrize(
    ("header", "pause_s"),
    [
        ("7", 7.0),
        ("-7", 0.0),
        ("1e9", 0.0),
        ("\u0667", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
async def test_a_receiver_may_ask_for_a_pause(header: str, pause_s: float) -> None:
    """Whole seconds are understood; any other form is left to the ordinary backoff."""
    answer = Response(status=503, headers={"Retry-After": header})
    async with receiving(answer) as receiver, Poster(OPEN) as poster:
        failure = await failure_of(poster, receiver.url)
    assert failure.retry_after_s == pause_s


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    """Where a receiver points to is not asked, be it another one that would be allowed."""
    async with receiving() as other:
        answer = Response(status=status, headers={"Location": other.url})
        async with receiving(answer) as receiver, Poster(OPEN) as poster:
            failure = await failure_of(poster, receiver.url)
    assert failure.reason == f"answered {status}, and redirects are not followed"
    assert (failure.final, other.got) == (False, [])


async def test_a_giant_answer_is_not_read() -> None:
    """However much a receiver says, nothing of it is kept, and no time is spent on it."""
    answer = Response(body=b"\0" * 64 * 2**20)
    async with receiving(answer) as receiver, Poster(OPEN) as poster:
        await poster.deliver(turn_for(receiver.url))
        await poster.deliver(turn_for(receiver.url))
    assert len(receiver.got) == 2


async def test_a_receiver_that_is_silent_can_be_left() -> None:
    """Whoever waits decides for how long; nothing is left behind."""
    async with deaf() as url, Poster(OPEN) as poster:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await poster.deliver(turn_for(url))


async def test_a_receiver_that_hangs_up_has_not_taken_it() -> None:
    """A connection that ends without an answer is worth another try, as is none at all."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    async with Poster(OPEN) as poster:
        async with server:
            failure = await failure_of(poster, url)
            assert (failure.reason, failure.final) == ("no answer (ServerDisconnectedError)", False)
        failure = await failure_of(poster, url)
        assert (failure.reason, failure.final) == ("no connection (ClientConnectorError)", False)


async def test_a_name_that_is_not_found_is_tried_again() -> None:
    """A look-up that fails now may work later."""
    async with Poster(OPEN, resolver=Names(())) as poster:
        failure = await failure_of(poster, "http://receiver.example/")
    assert (failure.reason, failure.final) == ("no connection (ClientConnectorDNSError)", False)


async def test_a_certificate_that_is_not_valid_is_no_receiver() -> None:
    """Over HTTPS only a server that proves its name gets the turn."""
    async with receiving() as receiver, Poster(OPEN) as poster:
        failure = await failure_of(poster, receiver.url.replace("http:", "https:"))
    assert failure.reason == "no connection (ClientConnectorSSLError)"
    assert (failure.final, receiver.got) == (False, [])


# --- where it may go


def by_name(receiver: Receiver) -> str:
    """The receiver's URL with a name in place of its address."""
    return receiver.url.replace("127.0.0.1", "receiver.example")


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1", "0.0.0.0"],
)
async def test_a_name_of_a_private_address_is_refused(address: str) -> None:
    """The address that a name leads to is refused before anything is connected, for good."""
    async with receiving() as receiver, Poster(PUBLIC, resolver=Names((address,))) as poster:
        failure = await failure_of(poster, by_name(receiver))
    assert failure.reason == "its name leads to a refused address"
    assert (failure.final, receiver.got) == (True, [])


async def test_the_address_that_was_checked_is_the_one_connected_to() -> None:
    """A name whose answer changes between check and connection gains nothing: there is only one
    look-up, and what it answers is what is checked and connected to.
    """
    names = Names(("127.0.0.1",), ("10.0.0.1",))
    loopback = WebhookConfig(secret=SECRET, allow_private=("127.0.0.0/8",), allow_http=True)
    async with receiving() as receiver, Poster(loopback, resolver=names) as poster:
        poster.check(by_name(receiver))
        await poster.deliver(turn_for(by_name(receiver)))
    assert (names.asked, len(receiver.got)) == (1, 1)


async def test_a_name_that_turns_private_is_refused() -> None:
    """A name that was public when the turn was accepted is checked again with each connection."""
    names = Names(("127.0.0.1",))
    async with receiving() as receiver, Poster(PUBLIC, resolver=names) as poster:
        poster.check(by_name(receiver))
        failure = await failure_of(poster, by_name(receiver))
    assert (failure.final, receiver.got) == (True, [])


async def test_of_several_addresses_only_allowed_ones_are_used() -> None:
    """A name with a refused and an allowed address leads to the allowed one."""
    loopback = WebhookConfig(secret=SECRET, allow_private=("127.0.0.1/32",), allow_http=True)
    names = Names(("::1", "127.0.0.2", "127.0.0.1"))
    async with receiving() as receiver, Poster(loopback, resolver=names) as poster:
        await poster.deliver(turn_for(by_name(receiver)))
    assert len(receiver.got) == 1


async def test_an_address_in_the_url_is_checked_again() -> None:
    """What was accepted under another configuration is refused under this one."""
    async with receiving() as receiver, Poster(PUBLIC) as poster:
        failure = await failure_of(poster, receiver.url)
    assert "an address that this server does not connect to" in failure.reason
    assert (failure.final, receiver.got) == (True, [])


async def test_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect on its own account, to addresses that nobody has checked."""
    async with receiving() as proxy, receiving() as receiver, Poster(OPEN) as poster:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        await poster.deliver(turn_for(receiver.url))
    assert (len(proxy.got), len(receiver.got)) == (0, 1)


# --- the rest


async def test_a_turn_without_a_webhook_cannot_be_delivered() -> None:
    """There is nowhere to post it to, and never will be."""
    async with Poster(OPEN) as poster:
        with pytest.raises(NotDelivered) as raised:
            await poster.deliver(finish(make_turn()))
    assert raised.value.final


async def test_what_can_be_told_from_the_url_is_told_at_once() -> None:
    """`check` is what a caller hears about before the turn is accepted."""
    poster = Poster(PUBLIC)
    poster.check("http://receiver.example/")
    with pytest.raises(InvalidRequest, match="does not connect to"):
        poster.check("http://127.0.0.1/")


async def test_a_poster_is_used_as_a_context() -> None:
    """Outside of it there is nothing to post with."""
    poster = Poster(OPEN)
    with pytest.raises(RuntimeError, match="async with"):
        await poster.deliver(turn_for("http://127.0.0.1/"))
    await poster.__aexit__(None, None, None)


async def test_the_extra_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library of the standard the mistake says what to install."""
    monkeypatch.setitem(sys.modules, "standardwebhooks", None)
    with pytest.raises(ConfigError, match=r'pip install "actorpool\[webhooks\]"'):
        Poster(OPEN)


def test_the_secret_is_the_standards_own() -> None:
    """A secret that passes the configuration's check is one for the library."""
    assert Standard(SECRET)
