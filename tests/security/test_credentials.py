"""Keys, tokens and tickets at the door: checks 8, 9 and 10, FAULTS row 26."""

from __future__ import annotations

import asyncio

import jwt
import pytest

from pool.errors import ConfigError
from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from protocol.authenticate.config import AuthConfig
from protocol.server import Server
from tests.support.principals import WITH_KEYS, guarded
from tests.support.serving import echo, serving
from tests.support.serving_agents import Held
from tests.support.sockets import connected, talking
from tests.support.tokens import (
    AUDIENCE,
    ISSUER,
    SECRET,
    claims,
    issuing,
    jwk,
    pem,
    private,
    token,
)

pytestmark = pytest.mark.real_time(20)

AGENTS = "/v1/agents"
# How long a withdrawn key may live, in seconds.
SECONDS = 3.0


def with_tokens(**changed):
    """Tokens of the issuer, with a secret unless it is changed."""
    options = {
        "mode": "jwt",
        "jwt_algorithms": ("HS256",),
        "jwt_key": SECRET,
        "jwt_audience": AUDIENCE,
        "jwt_issuer": ISSUER,
        **changed,
    }
    return AuthConfig(**options)


def bearer(text):
    """Headers with a key or token."""
    return {"Authorization": f"Bearer {text}"}


async def code(peer, headers, path=AGENTS):
    """The status of a request with these headers."""
    return (await peer.get(path, headers=headers)).status


async def test_a_key_is_taken_in_either_header():
    """`Authorization: Bearer` in any case, and `X-API-Key`."""
    async with guarded(echo) as (peer, keys):
        text = keys.of("acme")["Authorization"].removeprefix("Bearer ")
        for headers in (
            {"Authorization": f"Bearer {text}"},
            {"Authorization": f"bearer  {text}"},
            {"X-API-Key": text},
        ):
            assert await code(peer, headers) == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer caf\u00e9"},
        {"Authorization": "Bearer a b"},
        {"X-API-Key": ""},
        {"X-API-Key": "ap_"},
        {"X-API-Key": "x" * 4_000},
        {"X-API-Key": "eyJhbGciOiJub25lIn0.e30."},
    ],
)
async def test_anything_else_is_401_with_a_challenge(headers):
    """And the answer quotes nothing of what was sent."""
    async with guarded(echo) as (peer, _):
        response = await peer.get(AGENTS, headers=headers)
        body = await response.json(content_type=None)
        assert (response.status, body["code"]) == (401, "unauthenticated")
        assert response.headers["WWW-Authenticate"].startswith("Bearer ")
        assert not [value for value in headers.values() if len(value) > 8 and value in str(body)]


async def test_two_credentials_are_none():
    """Which of them counts would be a matter of who reads them."""
    async with guarded(echo) as (peer, keys):
        good = keys.of("acme")["Authorization"]
        key = good.removeprefix("Bearer ")
        assert await code(peer, {"Authorization": good, "X-API-Key": key}) == 401
        twice = [("Authorization", good), ("Authorization", good)]
        assert await code(peer, twice) == 401


async def test_a_key_made_next_to_a_running_server_counts_at_once():
    """The operator makes it in the store; nobody restarts anything."""
    store = MemoryStore()
    async with serving(echo, store=store, auth=WITH_KEYS) as peer:
        made = await ApiKeys(store).create()
        assert await code(peer, {"X-API-Key": made.text}) == 200


async def test_a_key_that_ends_counts_no_more():
    """An expired key is 401, like a withdrawn one."""
    store = MemoryStore()
    async with serving(echo, store=store, auth=WITH_KEYS) as peer:
        short = await ApiKeys(store).create(expires_in_s=0.2)
        assert await code(peer, {"X-API-Key": short.text}) == 200
        while await code(peer, {"X-API-Key": short.text}) == 200:
            pass
        assert await code(peer, {"X-API-Key": short.text}) == 401


async def test_a_withdrawn_key_closes_what_is_open_with_it():
    """Within seconds: WebSockets with 4401, streams at once; another key's stay open."""
    store = MemoryStore()
    operator = ApiKeys(store)
    bad, good = await operator.create(), await operator.create()
    async with (
        serving(echo, store=store, auth=WITH_KEYS) as peer,
        talking(peer, headers={"X-API-Key": bad.text}) as closed,
        talking(peer, headers={"X-API-Key": good.text}) as stays,
    ):
        await peer.post("/v1/sessions", {"session_id": "s"}, headers={"X-API-Key": bad.text})
        url = peer.server.url + "/v1/sessions/s/events"
        async with peer.http.get(url, headers={"X-API-Key": bad.text}) as stream:
            assert stream.status == 200
            loop = asyncio.get_running_loop()
            began = loop.time()
            await operator.revoke(bad.key.id)
            assert (await closed.closed()).code == 4401
            with pytest.raises(Exception, match=r"[Cc]onnection|[Pp]ayload|[Tt]ransfer"):
                await stream.read()
            assert loop.time() - began < SECONDS
        assert await code(peer, {"X-API-Key": bad.text}) == 401
        assert (await stays.ask("ping"))["type"] == "pong"


async def test_an_expired_key_closes_what_is_open_with_it():
    """The end of its time is as good as being withdrawn."""
    store = MemoryStore()
    short = await ApiKeys(store).create(expires_in_s=0.5)
    async with (
        serving(echo, store=store, auth=WITH_KEYS) as peer,
        talking(peer, headers={"X-API-Key": short.text}) as talk,
    ):
        assert (await talk.closed()).code == 4401


async def test_turns_of_a_withdrawn_key_go_on():
    """What was accepted is the tenant's; who asked for it is only no longer told."""
    store = MemoryStore()
    held = Held()
    operator = ApiKeys(store)
    key, other = await operator.create(), await operator.create()
    async with serving(held, store=store, auth=WITH_KEYS) as peer:
        async with talking(peer, headers={"X-API-Key": key.text}) as talk:
            turn = (await talk.ask("turn", session_id="s", input="x"))["turn"]
            await held.running.wait()
            await operator.revoke(key.key.id)
            assert (await talk.closed()).code == 4401
        held.release.set()
        headers = {"X-API-Key": other.text}
        response = await peer.get(f"/v1/turns/{turn['id']}?wait_s=5", headers=headers)
        assert (await response.json())["state"] == "completed"


async def test_nothing_is_remembered_of_what_has_ended():
    """Requests and connections leave no trace among those that are open."""
    async with guarded(echo) as (peer, keys):
        live = peer.server.authenticator.live
        async with talking(peer, headers=keys.of("acme")):
            await peer.get(AGENTS, headers=keys.of("rival"))
            assert len(live) == 1
        while peer.server.connections:
            await peer.get("/health")
        assert (len(live), repr(live)) == (0, "<Live 0 open>")


# --- tickets


async def ticket(peer, headers):
    """A ticket of a caller."""
    response = await peer.post("/v1/ws/tickets", headers=headers)
    assert response.status == 201
    return (await response.json())["ticket"]


async def test_a_ticket_is_of_whom_it_was_issued_to():
    """It opens that principal's sessions, and nobody else's."""
    async with guarded(echo) as (peer, keys):
        issued = await ticket(peer, keys.of("rival"))
        await peer.post("/v1/sessions", {"session_id": "s"}, headers=keys.of("acme"))
        async with talking(peer, hello={"ticket": issued}) as talk:
            answer = await talk.ask("subscribe", session_id="s")
            assert answer["error"]["code"] == "not_found"


async def test_a_ticket_is_good_once():
    """Also when it is used twice at the same time."""
    async with guarded(echo) as (peer, keys):
        issued = await ticket(peer, keys.of("acme"))
        async with connected(peer) as first, connected(peer) as second:
            await asyncio.gather(
                first.say("hello", ticket=issued), second.say("hello", ticket=issued)
            )
            heard = await asyncio.gather(first.hear(), second.hear(), return_exceptions=True)
        assert sorted(isinstance(each, dict) for each in heard) == [False, True]


async def test_a_ticket_does_not_outlive_its_key():
    """Withdrawn in between, there is no way in with it."""
    store = MemoryStore()
    operator = ApiKeys(store)
    key = await operator.create()
    async with serving(echo, store=store, auth=WITH_KEYS) as peer:
        issued = await ticket(peer, {"X-API-Key": key.text})
        await operator.revoke(key.key.id)
        await peer.server.authenticator.refresh()
        async with connected(peer) as talk:
            await talk.say("hello", ticket=issued)
            assert (await talk.closed()).code == 4401


async def test_a_connection_by_ticket_ends_with_the_key():
    """What the ticket stood for is withdrawn, and so is what it opened."""
    store = MemoryStore()
    operator = ApiKeys(store)
    key = await operator.create()
    async with serving(echo, store=store, auth=WITH_KEYS) as peer:
        issued = await ticket(peer, {"X-API-Key": key.text})
        async with talking(peer, hello={"ticket": issued}) as talk:
            await operator.revoke(key.key.id)
            assert (await talk.closed()).code == 4401


async def test_a_key_withdrawn_before_the_hello_opens_nothing():
    """Between the handshake and the hello it counted no more."""
    store = MemoryStore()
    operator = ApiKeys(store)
    key = await operator.create()
    async with (
        serving(echo, store=store, auth=WITH_KEYS) as peer,
        connected(peer, headers={"X-API-Key": key.text}) as talk,
    ):
        await operator.revoke(key.key.id)
        await peer.server.authenticator.refresh()
        await talk.say("hello")
        assert (await talk.closed()).code == 4401


# --- tokens


BAD_TOKENS = {
    "none": jwt.encode(claims(), "", algorithm="none"),
    "another secret": token("x" * 64),
    "another algorithm": token(SECRET, "HS512"),
    "an RSA key": token(private("RS"), "RS256"),
    "wrong aud": token(aud="another"),
    "no aud": token(aud=None),
    "wrong iss": token(iss="https://evil.example"),
    "no iss": token(iss=None),
    "expired": token(exp=1_000_000_000),
    "no exp": token(exp=None),
    "no sub": token(sub=None),
    "not yet": token(nbf=2**40),
    "no tenant": token(tenant=None),
    "a path as tenant": token(tenant="../acme"),
    "an API key": "ap_0123456789abcdef_" + "x" * 43,
}


@pytest.mark.parametrize("name", BAD_TOKENS)
async def test_a_token_that_is_not_good_is_401(name):
    """FAULTS row 26, one way after the other, at the door."""
    async with serving(echo, auth=with_tokens()) as peer:
        assert await code(peer, bearer(token())) == 200
        response = await peer.get(AGENTS, headers=bearer(BAD_TOKENS[name]))
        assert response.status == 401
        assert BAD_TOKENS[name] not in await response.text()


@pytest.mark.parametrize(
    ("changed", "option"),
    [
        ({"jwt_key": "x" * 31}, "jwt_key"),
        ({"jwt_algorithms": ("HS256", "RS256")}, "jwt_algorithms"),
        ({"jwt_algorithms": ("RS256",)}, "jwt_key"),
        ({"jwt_key": pem(private("RS"))}, "jwt_key"),
        ({"jwt_audience": ""}, "jwt_audience"),
        ({"jwt_issuer": ""}, "jwt_issuer"),
        ({"jwt_key": ""}, "jwt_key"),
        ({"mode": "keys"}, "mode"),
        ({"public": ("/v1/agents",)}, "public"),
        ({"public": ("/docs",)}, "public"),
        ({"public": ("/",)}, "public"),
    ],
)
async def test_a_configuration_that_is_not_safe_does_not_start(changed, option):
    """Short secrets, mixed families, a PEM as a secret, no audience: refused at the start."""
    async with serving(echo) as peer:
        with pytest.raises(ConfigError) as caught:
            Server(peer.pool, auth=with_tokens(**changed))
        assert caught.value.option.removeprefix("auth.") == option
        assert "BEGIN" not in str(caught.value) and "xxx" not in str(caught.value)


async def test_published_keys_open_the_door_and_name_the_role():
    """From the issuer's JWKS to an admin's route."""
    async with issuing() as issuer:
        issuer.keys = [jwk(private("ES"), "k1")]
        auth = with_tokens(
            jwt_algorithms=("ES256",),
            jwt_key="",
            jwt_jwks_url=issuer.url,
            jwt_roles={"boss": "admin"},
        )
        async with serving({"a": echo}, auth=auth) as peer:
            for roles, status in ((["boss"], 200), ([], 403)):
                text = token(private("ES"), "ES256", "k1", roles=roles)
                response = await peer.request(
                    "PATCH", "/v1/pool/a", json={"max": 3}, headers=bearer(text)
                )
                assert response.status == status


async def test_an_issuer_that_is_away_is_503():
    """It is not the token's fault, and the caller hears when to come back."""
    async with issuing() as issuer:
        issuer.answer = (500, b"")
        auth = with_tokens(jwt_algorithms=("ES256",), jwt_key="", jwt_jwks_url=issuer.url)
        async with serving(echo, auth=auth) as peer:
            response = await peer.get(AGENTS, headers=bearer(token(private("ES"), "ES256", "k")))
            assert response.status == 503
            assert int(response.headers["Retry-After"]) >= 1


async def test_a_token_that_ends_closes_its_connection():
    """A WebSocket lives no longer than what opened it, leeway included."""
    auth = with_tokens(jwt_leeway_s=0.0)
    async with serving(echo, auth=auth) as peer:
        text = token(exp=claims()["iat"] + 2)
        async with talking(peer, headers=bearer(text)) as talk:
            assert (await talk.closed()).code == 4401


async def test_both_kinds_can_count():
    """With `both`, a key and a token are each good."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    async with serving(echo, store=store, auth=with_tokens(mode="both")) as peer:
        assert await code(peer, bearer(made.text)) == 200
        assert await code(peer, bearer(token())) == 200
        assert await code(peer, bearer("nonsense")) == 401
