"""Webhooks that are to lead inside: refused before anybody is connected to. FAULTS row 27."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from pool import PoolConfig
from pool.webhooks import WebhookNotice
from protocol.webhook.config import WebhookConfig
from protocol.webhook.poster import Poster
from tests.support.receiver import receiving
from tests.support.serving import Peer, serving, until
from tests.support.sockets import talking

pytestmark = pytest.mark.real_time(20)

SECRET = "whsec_" + "A" * 32
# As in production, but for TLS.
PUBLIC = WebhookConfig(secret=SECRET, allow_http=True)
HERE = WebhookConfig(secret=SECRET, allow_http=True, allow_private=("127.0.0.1/32",))
ONCE = PoolConfig(webhook_tries=1)

# Spellings of this machine, its networks and its cloud's secrets. `{port}`: where one listens.
INSIDE = (
    *("127.0.0.1", "127.1", "127.0.0.1.", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1"),
    *("017700000001", "127.0.0.01", "127.000.000.001", "0", "0.0.0.0", "%31%32%37.0.0.1"),
    *("\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021", "\uff11\uff12\uff17.0.0.1"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]"),
    *("[0:0:0:0:0:ffff:7f00:0001]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[fe80::1%25lo]"),
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "[fd00::1]"),
    *("[fe80::1]", "[::ffff:169.254.169.254]", "2852039166", "0xa9fea9fe", "224.0.0.1"),
)
SCHEMES = (
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "gopher://127.0.0.1/",
    "//127.0.0.1/",
    "redis://x",
)
TRICKS = (
    "http://receiver.example@127.0.0.1:{port}/",
    "http://127.0.0.1:{port}#@receiver.example/",
    "http://127.0.0.1:{port}\\@receiver.example/",
    "http://receiver.example:{port}\r\nHost: x/",
    "http://[::1]receiver.example:{port}/",
    "http://user:secret@receiver.example:{port}/",
    "http://receiver.example:22/",
)


class Names(AbstractResolver):
    """Looks every name up in a script: an answer for each time it is asked, the last one again."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.asked = 0
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in answer
        ]

    async def close(self) -> None:
        """Nothing to let go of."""


class Tries:
    """An observer: what became of each try to post."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []

    def notice(self, notice: Any) -> None:
        """Note what a try came to."""
        if isinstance(notice, WebhookNotice):
            self.outcomes.append(notice.outcome)


@asynccontextmanager
async def posting(
    config: WebhookConfig, names: Names | None = None
) -> AsyncIterator[tuple[Peer, Tries]]:
    """A server that posts webhooks, and what becomes of them."""
    tries = Tries()
    async with Poster(config, resolver=names) as poster:
        engine = {"webhooks": poster, "observers": (tries,)}
        async with serving(pool=ONCE, engine=engine) as peer:
            yield peer, tries


@asynccontextmanager
async def decoy() -> AsyncIterator[tuple[int, list[int]]]:
    """A port of this machine on which nobody should knock, and who did."""
    knocked: list[int] = []

    def knock(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        knocked.append(1)
        writer.close()

    server = await asyncio.start_server(knock, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], knocked


async def asked_for(peer: Peer, url: str) -> int:
    """The status of a turn that wants its end posted there."""
    body = {"input": "x", "webhook": {"url": url}}
    return (await peer.post("/v1/sessions/s/turns", body)).status


async def test_a_url_that_leads_inside_is_refused_with_the_turn():
    """However the address is spelled: 400, over HTTP and as a command; nobody is connected to."""
    names = Names(["127.0.0.1"])
    async with decoy() as (port, knocked), posting(PUBLIC, names) as (peer, tries):
        urls = [f"http://{host}:{port}/hook" for host in INSIDE]
        urls += [
            f"http://{quote(host, safe='[]:%')}:{port}/" for host in INSIDE if not host.isascii()
        ]
        urls += [*SCHEMES, *(trick.format(port=port) for trick in TRICKS)]
        async with talking(peer) as talk:
            for url in urls:
                assert await asked_for(peer, url) == 400, url
                turn = {"session_id": "s", "input": "x", "webhook": {"url": url}}
                answer = await talk.ask("turn", **turn)
                assert answer["error"]["code"] == "invalid_request", url
                assert "secret" not in str(answer)
        assert (await peer.pool.sessions(None, 10)).items == []
        assert (names.asked, knocked, tries.outcomes) == (0, [], [])


@pytest.mark.parametrize(
    "answers",
    [
        (["127.0.0.1"],),
        (["::ffff:127.0.0.1"],),
        (["10.0.0.1", "127.0.0.1"],),
        (["169.254.169.254"],),
        (["64:ff9b::7f00:1", "fe80::1", "::"],),
    ],
    ids=["loopback", "mapped", "several", "link-local", "forms of IPv6"],
)
async def test_a_name_that_leads_inside_is_never_connected_to(answers):
    """What a name means is known when it is looked up: given up there, and not tried again."""
    names = Names(*answers)
    async with decoy() as (port, knocked), posting(PUBLIC, names) as (peer, tries):
        assert await asked_for(peer, f"http://receiver.example:{port}/") == 200
        await until(lambda: tries.outcomes)
        assert (tries.outcomes, knocked) == (["given_up"], [])
        assert names.asked == 1


async def test_a_name_is_looked_up_once_and_that_address_is_used():
    """Rebinding: first a good address, then a bad one. The good one is connected to, and asked for
    again the name leads nowhere.
    """
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with receiving() as receiver, posting(HERE, names) as (peer, tries):
        url = f"http://receiver.example:{urlsplit(receiver.url).port}/hook"
        assert await asked_for(peer, url) == 200
        await receiver.received(1)
        await until(lambda: tries.outcomes)
        assert (names.asked, tries.outcomes) == (1, ["delivered"])
        assert receiver.got[0].headers["Host"].startswith("receiver.example:")
        # another name: what aiohttp knows of the first is not asked for again
        assert await asked_for(peer, url.replace("receiver", "rebound")) == 200
        await until(lambda: len(tries.outcomes) == 2)
        assert (tries.outcomes[1], len(receiver.got)) == ("given_up", 1)


async def test_of_several_addresses_only_good_ones_are_connected_to():
    """A bad address among them does not spoil the good one, and is passed by."""
    names = Names(["127.0.0.2", "127.0.0.1"])
    async with receiving() as receiver, posting(HERE, names) as (peer, tries):
        url = f"http://receiver.example:{urlsplit(receiver.url).port}/hook"
        assert await asked_for(peer, url) == 200
        await until(lambda: tries.outcomes)
        assert (len(receiver.got), tries.outcomes) == (1, ["delivered"])


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status):
    """A good receiver that sends us inside: nobody is connected to there."""
    async with decoy() as (port, knocked):
        away = web.Response(status=status, headers={"Location": f"http://127.0.0.1:{port}/"})
        async with receiving(away) as receiver, posting(HERE) as (peer, tries):
            assert await asked_for(peer, receiver.url) == 200
            await until(lambda: tries.outcomes)
            assert (tries.outcomes, len(receiver.got), knocked) == (["given_up"], 1, [])


async def test_what_a_receiver_answers_reaches_nobody():
    """Neither its body nor its headers: a webhook reads nothing for whoever asked for it."""
    canary = "canary-91c0"
    answer = web.Response(status=500, text=canary, headers={"X-Canary": canary})
    async with receiving(answer) as receiver, posting(HERE) as (peer, _):
        turn = {"input": "x", "webhook": {"url": receiver.url}}
        posted = await peer.post("/v1/sessions/s/turns", turn)
        await receiver.received(1)
        found = await (await peer.get(f"/v1/turns/{(await posted.json())['id']}")).text()
        assert canary not in found
        assert "Authorization" not in receiver.got[0].headers
