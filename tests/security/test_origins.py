"""Pages of strange origins and strange names: FAULTS row 28, check 12, and DNS rebinding."""

from __future__ import annotations

import pytest

from pool import AgentPool
from pool.errors import ConfigError
from protocol.config import ServerConfig
from protocol.server import Server
from tests.support.principals import guarded
from tests.support.serving import echo, serving
from tests.support.sockets import connected

pytestmark = pytest.mark.real_time(10)

CHAT = "https://chat.example"
EVIL = (
    "https://evil.example",
    "null",
    "https://chat.example.evil.example",
    "https://evil-chat.example",
    "http://chat.example",
    "https://chat.example:8443",
    "file://",
    "https://chat.example, https://evil.example",
)
WITH_CHAT = ServerConfig(cors_origins=(CHAT,))
CORS = "Access-Control-Allow-Origin"
ASKS = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}


async def test_an_allowed_page_may_call_and_read_the_answer():
    """It is named by the configuration; cookies are not asked for; caches are told."""
    async with guarded(echo, config=WITH_CHAT) as (peer, keys):
        headers = {"Origin": CHAT, **keys.of("acme")}
        response = await peer.post("/agent/invoke", {"message": "x"}, headers=headers)
        assert (response.status, response.headers[CORS]) == (200, CHAT)
        assert response.headers["Vary"] == "Origin"
        assert "X-Request-ID" in response.headers["Access-Control-Expose-Headers"]
        assert "Access-Control-Allow-Credentials" not in response.headers


async def test_refusals_and_streams_can_be_read_by_an_allowed_page():
    """Problems, event streams and foreign handlers' answers carry the same headers."""
    async with guarded(echo, config=WITH_CHAT) as (peer, keys):
        refused = await peer.get("/v1/agents", headers={"Origin": CHAT})
        assert (refused.status, refused.headers[CORS]) == (401, CHAT)
        stream = await peer.post(
            "/agent/stream", {"message": "x"}, headers={"Origin": CHAT, **keys.of("acme")}
        )
        assert (stream.status, stream.headers[CORS]) == (200, CHAT)
        async with connected(peer, headers={"Origin": CHAT}) as talk:
            assert talk.socket._response.headers[CORS] == CHAT


async def test_the_answer_names_the_configured_origin_not_the_one_that_was_sent():
    """What comes in is compared, never reflected."""
    async with guarded(echo, config=WITH_CHAT) as (peer, _):
        response = await peer.get("/health", headers={"Origin": "HTTPS://Chat.Example"})
        assert response.headers[CORS] == CHAT


@pytest.mark.parametrize("origin", EVIL)
async def test_a_strange_page_gets_no_leave(origin):
    """No answer says that it may read it: none is reflected, and there is no wildcard."""
    async with guarded(echo, config=WITH_CHAT) as (peer, keys):
        for method, path in (("GET", "/health"), ("GET", "/v1/agents"), ("GET", "/nothing")):
            headers = {"Origin": origin, **keys.of("acme")}
            response = await peer.request(method, path, headers=headers)
            assert CORS not in response.headers
            assert response.headers["Vary"] == "Origin"
            assert origin not in str(response.headers)
        asked = await peer.request("OPTIONS", "/agent/invoke", headers={"Origin": origin, **ASKS})
        assert asked.status == 405
        assert not [name for name in asked.headers if name.startswith("Access-Control-Allow")]


async def test_an_allowed_page_may_ask_first():
    """A preflight needs no credentials, and says what may be sent."""
    async with guarded(echo, config=WITH_CHAT) as (peer, _):
        asked = await peer.request("OPTIONS", "/v1/agents", headers={"Origin": CHAT, **ASKS})
        assert (asked.status, asked.headers[CORS]) == (204, CHAT)
        assert "POST" in asked.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in asked.headers["Access-Control-Allow-Headers"]
        assert "Access-Control-Allow-Credentials" not in asked.headers


async def test_without_a_list_no_page_is_allowed():
    """The default: no header about origins at all."""
    async with guarded(echo) as (peer, _):
        response = await peer.get("/health", headers={"Origin": CHAT})
        assert CORS not in response.headers
        asked = await peer.request("OPTIONS", "/health", headers={"Origin": CHAT, **ASKS})
        assert asked.status == 405


@pytest.mark.parametrize("origin", EVIL)
async def test_a_strange_page_opens_no_websocket(origin):
    """403 before the upgrade, with good credentials and without."""
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol": "actorpool.v1",
    }
    async with guarded(echo, config=WITH_CHAT) as (peer, keys):
        for who in ({}, keys.of("acme", "admin")):
            response = await peer.get("/v1/ws", headers={**upgrade, "Origin": origin, **who})
            assert response.status == 403
            assert CORS not in response.headers


# --- where nobody is asked who they are


@pytest.mark.parametrize("origin", EVIL)
async def test_an_open_server_does_nothing_for_strange_pages(origin):
    """A page may send requests without asking first: they are refused before they do anything."""
    async with serving(config=WITH_CHAT) as peer:
        response = await peer.post(
            "/agent/invoke", data=b'{"message": "x"}', headers={"Origin": origin}
        )
        assert response.status == 403
        assert (await peer.pool.sessions(None, 10)).items == []


async def test_an_open_server_answers_its_own_pages_and_allowed_ones():
    """The same host, or one of the list."""
    async with serving(config=WITH_CHAT) as peer:
        for origin in (peer.server.url, CHAT):
            headers = {"Origin": origin}
            response = await peer.post("/agent/invoke", {"message": "x"}, headers=headers)
            assert response.status == 200


REBOUND = (
    "evil.example",
    "evil.example:8080",
    "127.0.0.1.evil.example",
    "localhost.evil.example",
    "10.0.0.1",
    "0.0.0.0",
    "[fe80::1]",
    "",
)


@pytest.mark.parametrize("host", REBOUND)
async def test_an_open_server_is_called_by_names_of_this_machine_only(host):
    """DNS rebinding: a page's own name that leads here is refused, 403."""
    async with serving() as peer:
        for path in ("/v1/agents", "/health", "/nothing"):
            request = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            assert b" 403 " in (await peer.raw(request.encode())).splitlines()[0]


async def test_a_good_name_lets_no_other_in():
    """Each request is looked at, whatever was called before it."""
    async with serving() as peer:
        for host, status in (("localhost", 200), ("evil.example", 403)) * 2 + (("", 403),):
            request = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
            answer = await peer.raw(request.encode())
            assert answer.startswith(f"HTTP/1.1 {status} ".encode())


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:9",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]",
        "[::1]:8080",
        "app.localhost",
    ],
)
async def test_names_of_this_machine_are_answered(host):
    """With any port, as a tunnel may have another."""
    async with serving() as peer:
        request = f"GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        assert b" 200 " in (await peer.raw(request.encode())).splitlines()[0]


OF_PROXIES = (
    {"X-Forwarded-For": "203.0.113.9"},
    {"X-Real-IP": "203.0.113.9"},
    {"Forwarded": "for=203.0.113.9"},
)


@pytest.mark.parametrize("said", OF_PROXIES)
async def test_an_open_server_answers_no_proxy(said):
    """A proxy on this machine asks for the internet, under whatever name: refused, 403, and the
    remedy is told; with keys or told twice it is answered.
    """
    async with serving() as peer:
        refused = await peer.get("/v1/pool", headers=said)
        assert refused.status == 403
        assert "--insecure" in (await refused.json())["detail"]
    async with serving(config=ServerConfig(insecure=True)) as peer:
        assert (await peer.get("/v1/pool", headers=said)).status == 200
    async with guarded(echo) as (peer, keys):
        headers = {**said, **keys.of("acme", "operator")}
        assert (await peer.get("/v1/pool", headers=headers)).status == 200


async def test_behind_a_proxy_with_tls_a_page_without_it_is_strange():
    """Whoever can change what goes over plain HTTP is not let in as the server's own page."""
    config = ServerConfig(trusted_proxies=("127.0.0.0/8",))
    async with guarded(echo, config=config) as (peer, keys):
        upgrade = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "Sec-WebSocket-Protocol": "actorpool.v1",
            "Host": "chat.example",
            "X-Forwarded-Proto": "https",
            **keys.of("acme"),
        }
        plain = {**upgrade, "Origin": "http://chat.example"}
        assert (await peer.get("/v1/ws", headers=plain)).status == 403
        plain = {**upgrade, "Origin": "https://chat.example"}
        async with peer.http.get(peer.server.url + "/v1/ws", headers=plain) as response:
            assert response.status == 101


@pytest.mark.parametrize("host", REBOUND[:3])
async def test_with_keys_the_name_does_not_matter(host):
    """A page cannot send a key that it has not: the server may have any name."""
    async with guarded(echo) as (peer, keys):
        key = keys.of("acme")["Authorization"]
        request = (
            f"GET /v1/agents HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n"
            "Connection: close\r\n\r\n"
        )
        assert b" 200 " in (await peer.raw(request.encode())).splitlines()[0]


async def test_told_twice_an_open_server_takes_any_name():
    """With --insecure it is known what is open, as in a container behind a proxy."""
    async with serving(config=ServerConfig(insecure=True)) as peer:
        request = b"GET /health HTTP/1.1\r\nHost: pool.example\r\nConnection: close\r\n\r\n"
        assert b" 200 " in (await peer.raw(request)).splitlines()[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "pool.example"])
async def test_beyond_this_machine_nobody_listens_without_being_told_twice(host):
    """Check 12: without authentication and --insecure the server does not start."""
    async with AgentPool(echo) as pool:
        with pytest.raises(ConfigError, match="nobody is asked who they are"):
            await Server(pool, config=ServerConfig(host=host, port=0)).start()
