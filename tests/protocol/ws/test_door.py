from __future__ import annotations

import gc
import socket
import struct

import pytest

from pool.errors import StoreUnavailable
from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from pool.turn import Principal
from protocol.authenticate.config import AuthConfig
from protocol.config import ServerConfig
from protocol.http.connection import Connection
from protocol.http.request import Request
from protocol.origins import same_host
from protocol.ws.config import WsConfig
from tests.support.serving import serving, until
from tests.support.sockets import connected, frame, talking, wired

pytestmark = pytest.mark.real_time(10)

UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


def handshake(*headers):
    """A good handshake as bytes, with these lines too."""
    lines = [f"{name}: {value}" for name, value in UPGRADE.items()]
    head = [
        "GET /v1/ws HTTP/1.1",
        "Host: 127.0.0.1",
        *lines,
        "Sec-WebSocket-Protocol: actorpool.v1",
    ]
    return "\r\n".join([*head, *headers, "", ""]).encode()


async def problem(peer, **headers):
    """The problem with which a handshake with these headers is refused."""
    response = await peer.get("/v1/ws", headers={**UPGRADE, **headers})
    assert response.content_type == "application/problem+json"
    said = await response.json()
    assert said["status"] == response.status
    return response.status, said["code"]


async def test_without_the_subprotocol_there_is_no_upgrade():
    """A handshake that does not offer actorpool.v1 is a problem, 400."""
    async with serving() as peer:
        assert await problem(peer) == (400, "invalid_request")
        offered = {"Sec-WebSocket-Protocol": "chat, actorpool.v2"}
        assert await problem(peer, **offered) == (400, "invalid_request")


async def test_the_subprotocol_may_be_one_of_several():
    """The server picks its own out of what is offered."""
    async with serving() as peer, connected(peer, protocols=("x", "actorpool.v1")) as talk:
        assert talk.socket.protocol == "actorpool.v1"


@pytest.mark.parametrize(
    "headers",
    [
        {"Upgrade": "h2c"},
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Key": "short"},
        {"Sec-WebSocket-Key": "@@@@"},
        {"Sec-WebSocket-Key": "\u00e9"},
    ],
)
async def test_what_is_no_handshake_is_a_problem(headers):
    """A plain request, another version or a bad key are 400 like all that is malformed."""
    async with serving() as peer:
        told = await problem(peer, **{"Sec-WebSocket-Protocol": "actorpool.v1"}, **headers)
        assert told == (400, "invalid_request")


async def test_a_handshake_has_no_body():
    """What is behind the head are frames: a head that promises a body is refused."""
    async with serving() as peer:
        said = await peer.raw(handshake("Content-Length: 4"))
        assert said.startswith(b"HTTP/1.1 400 ")


async def test_the_answer_to_a_handshake_has_the_headers_of_every_answer():
    """It names the request, and what the page that asked may see."""
    config = ServerConfig(cors_origins=("https://chat.example",))
    async with serving(config=config) as peer:
        asked = handshake("X-Request-ID: one", "Origin: https://chat.example")
        head = await peer.raw(asked, frame(0x8, b""))
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
    assert b"\r\nX-Request-ID: one\r\n" in head
    assert b"\r\nAccess-Control-Allow-Origin: https://chat.example\r\n" in head
    assert b"Content-Length" not in head


async def test_what_comes_with_the_handshake_is_taken():
    """Requests before it and frames behind it, all in one piece: each is answered, in order."""
    before = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    hello, end = frame(0x1, b'{"type":"hello"}'), frame(0x8, b"")
    async with serving() as peer:
        said = await peer.raw(before + handshake() + hello + end)
    health, _, behind = said.partition(b"HTTP/1.1 101 ")
    assert health.startswith(b"HTTP/1.1 200 ")
    assert b'{"type":"welcome"' in behind


async def test_a_websocket_is_a_connection_of_the_server():
    """It counts as one of `max_connections`, from its handshake until it is gone."""
    async with serving(config=ServerConfig(max_connections=2)) as peer:
        async with wired(peer.server.port), wired(peer.server.port):
            assert peer.server.open_connections == 2
            assert (await peer.raw(handshake())).startswith(b"HTTP/1.1 503 ")
        await until(lambda: peer.server.open_connections == 0)
        async with connected(peer):
            pass


async def test_an_open_websocket_keeps_nothing_of_its_handshake():
    """The request, its headers and what served it are freed at once, without the collector."""
    kinds = (Request, Connection)
    async with serving() as peer:
        gc.collect()
        gc.disable()
        try:
            async with wired(peer.server.port) as wire:
                await wire.send(frame(0x1, b'{"type":"hello"}'))
                await wire.hear()
                assert [kept for kept in gc.get_objects() if isinstance(kept, kinds)] == []
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://evil.example", False),
        ("null", False),
        ("http://127.0.0.1.evil.example", False),
        ("http://127.0.0.1:1", False),
        ("file://127.0.0.1", False),
        ("http://[", False),
        ("https://chat.example", True),
        ("HTTPS://Chat.Example", True),
        ("https://chat.example.evil", False),
        ("", False),
    ],
)
async def test_only_our_pages_and_those_allowed_may_connect(origin, allowed):
    """A page of a strange origin is refused before the upgrade, 403."""
    config = ServerConfig(cors_origins=("https://chat.example",))
    async with serving(config=config) as peer:
        if allowed:
            async with connected(peer, headers={"Origin": origin}) as talk:
                assert talk.socket.protocol == "actorpool.v1"
        else:
            given = {"Sec-WebSocket-Protocol": "actorpool.v1", "Origin": origin}
            assert await problem(peer, **given) == (403, "forbidden")


async def test_a_page_of_thesame_host_may_connect():
    """The origin of the server itself is always allowed; a program sends none."""
    async with serving() as peer:
        async with connected(peer, headers={"Origin": peer.server.url}):
            pass
        async with connected(peer):
            pass


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://a.example", "a.example", True),
        ("https://a.example", "A.Example:443", True),
        ("http://a.example", "a.example:80", True),
        ("https://a.example", "a.example:80", False),
        ("http://a.example:8080", "a.example", False),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("null", "", False),
        ("http://", "", False),
    ],
)
def test_hosts_are_compared_with_their_ports(origin, host, same):
    """The scheme's own port may be written or not; any other counts."""
    assert same_host(origin, host) is same


async def test_a_connection_too_many_is_closed_with_4429():
    """Over the limit a client is told so, and one that leaves makes room."""
    async with serving(ws=WsConfig(max_connections=1)) as peer:
        async with talking(peer), connected(peer) as second:
            assert (await second.closed()).code == 4429
        while peer.server.connections:
            await peer.get("/health")
        async with talking(peer) as third:
            assert third.welcome["type"] == "welcome"


async def test_hello_must_come_in_time():
    """Without a hello the connection is closed with 4408."""
    async with serving(ws=WsConfig(hello_timeout_s=0.05)) as peer, connected(peer) as talk:
        assert (await talk.closed()).code == 4408


async def test_hello_in_time_is_enough():
    """After hello the connection may be idle as long as it likes."""
    config = WsConfig(hello_timeout_s=0.05, heartbeat_s=0.3)
    async with serving(ws=config) as peer, talking(peer) as talk:
        for _ in range(5):
            assert (await talk.ask("ping"))["type"] == "pong"


WITH_KEYS = AuthConfig(mode="keys")


class Away(MemoryStore):
    """A store whose documents can be away."""

    away = False

    async def get(self, kind, id):  # noqa: A002 - the word of the protocol
        if self.away:
            raise StoreUnavailable("the store is away")
        return await super().get(kind, id)


async def key(peer, user, tenant="acme"):
    """A new key, as a header."""
    made = await ApiKeys(peer.pool.store).create(tenant=tenant, user=user)
    return {"Authorization": f"Bearer {made.text}"}


async def ticket(peer, headers):
    """A ticket of whoever sends these headers."""
    response = await peer.post("/v1/ws/tickets", headers=headers)
    assert response.status == 201
    return (await response.json())["ticket"]


async def test_a_caller_may_say_who_it_is_by_header():
    """With credentials in the handshake, hello needs nothing more."""
    async with (
        serving(auth=WITH_KEYS) as peer,
        talking(peer, headers=await key(peer, "ann")) as talk,
    ):
        answer = await talk.ask("turn", session_id="s", input="hi")
        assert answer["type"] == "accepted"


async def test_a_ticket_says_who_it_is_once():
    """A ticket in hello is as good as a header, one time."""
    async with serving(auth=WITH_KEYS) as peer:
        issued = await ticket(peer, await key(peer, "ann"))
        async with talking(peer, hello={"ticket": issued}) as talk:
            assert (await talk.ask("turn", session_id="s", input="hi"))["type"] == "accepted"
        async with connected(peer) as again:
            await again.say("hello", ticket=issued)
            assert (await again.closed()).code == 4401


@pytest.mark.parametrize("hello", [{}, {"ticket": "nonsense"}])
async def test_who_does_not_say_who_it_is_is_closed_with_4401(hello):
    """Neither header nor a good ticket: unauthenticated."""
    async with serving(auth=WITH_KEYS) as peer, connected(peer) as talk:
        await talk.say("hello", **hello)
        assert (await talk.closed()).code == 4401


async def test_credentials_that_are_not_good_are_refused_before_the_upgrade():
    """Who shows a wrong key is told so by HTTP, 401, like at every other place."""
    async with serving(auth=WITH_KEYS) as peer:
        given = {"Sec-WebSocket-Protocol": "actorpool.v1", "X-API-Key": "ap_wrong"}
        assert await problem(peer, **given) == (401, "unauthenticated")


async def test_a_ticket_of_somebody_else_is_closed_with_4403():
    """A header and a ticket must be of the same principal."""
    async with serving(auth=WITH_KEYS) as peer:
        bobs = await ticket(peer, await key(peer, "bob"))
        async with connected(peer, headers=await key(peer, "ann")) as talk:
            await talk.say("hello", ticket=bobs)
            assert (await talk.closed()).code == 4403


async def test_a_ticket_of_one_process_is_good_in_another():
    """Two servers of a store: whichever the hello comes to lets its owner in."""
    store = MemoryStore()
    async with (
        serving(auth=WITH_KEYS, store=store) as here,
        serving(auth=WITH_KEYS, store=store) as there,
    ):
        issued = await ticket(here, await key(here, "ann"))
        async with talking(there, hello={"ticket": issued}) as talk:
            assert (await talk.ask("turn", session_id="s", input="hi"))["type"] == "accepted"


async def test_a_ticket_that_cannot_be_looked_up_is_no_bad_ticket():
    """While the store is away the connection is closed with 1011: its client may come again."""
    store = Away()
    async with serving(auth=WITH_KEYS, store=store) as peer:
        issued = await ticket(peer, await key(peer, "ann"))
        store.away = True
        async with connected(peer) as talk:
            await talk.say("hello", ticket=issued)
            closed = await talk.closed()
        assert (closed.code, closed.reason) == (1011, "the store is away")
        store.away = False
        async with talking(peer, hello={"ticket": issued}) as talk:
            assert talk.welcome["type"] == "welcome"


async def test_whoever_does_not_say_who_they_are_keeps_nobody_out():
    """Of ten connections one may be of a stranger; who has said so by a header has the others."""
    async with serving(auth=WITH_KEYS, ws=WsConfig(max_connections=10)) as peer:
        ann = await key(peer, "ann")
        issued = await ticket(peer, ann)
        async with connected(peer) as stranger, connected(peer) as another:
            assert (await another.closed()).code == 4429
            async with talking(peer, headers=ann), talking(peer, headers=ann):
                pass
            await stranger.say("hello", ticket=issued)
            assert (await stranger.hear())["type"] == "welcome"
            async with connected(peer):
                assert len(peer.server.connections) >= 2


async def test_a_tenant_has_its_own_limit_on_connections():
    """One more is closed with 4429, another tenant's is welcome; one that leaves makes room."""
    config = WsConfig(max_connections_per_tenant=1)
    async with serving(auth=WITH_KEYS, ws=config) as peer:
        ann, bob = await key(peer, "ann"), await key(peer, "bob", "other")
        async with talking(peer, headers=ann), connected(peer, headers=ann) as second:
            await second.say("hello")
            assert (await second.closed()).code == 4429
            async with talking(peer, headers=bob) as other:
                assert other.welcome["type"] == "welcome"
        while peer.server.connections:
            await peer.get("/health")
        async with talking(peer, headers=ann) as third:
            assert third.welcome["type"] == "welcome"


async def test_another_tenants_session_is_as_if_it_were_not_there():
    """Subscribing to a stranger's session gives the same problem as to none."""
    async with serving(auth=WITH_KEYS) as peer:
        await peer.pool.create_session("secret", principal=Principal("other", "eve"))
        async with talking(peer, headers=await key(peer, "ann")) as talk:
            theirs = await talk.ask("subscribe", session_id="secret")
            none = await talk.ask("subscribe", session_id="nothing")
        assert theirs["error"]["code"] == none["error"]["code"] == "not_found"
        assert theirs["error"]["detail"].replace("secret", "nothing") == none["error"]["detail"]


async def test_a_peer_that_leaves_during_the_handshake_harms_nobody():
    """A connection that is cut right after its handshake leaves nothing behind."""
    async with serving() as peer:
        async with wired(peer.server.port) as wire:
            wire.writer.transport.abort()
        while peer.server.connections:
            await peer.get("/health")
        assert repr(peer.server.connections) == "<Connections 0 open, 0 stalled>"


async def test_peers_that_are_gone_before_they_are_served_leave_their_places():
    """A handshake whose sender has reset the connection takes no place among the connections."""
    async with serving() as peer:
        gone = [socket.create_connection(("127.0.0.1", peer.server.port)) for _ in range(40)]
        for each in gone:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.sendall(handshake())
            each.close()
        async with connected(peer):
            await until(lambda: len(peer.server.connections) == 1)
