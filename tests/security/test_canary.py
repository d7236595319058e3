"""Secrets that callers show are found nowhere again: FAULTS row 29, checks 6 and 10."""

from __future__ import annotations

import asyncio
import io
import logging
from contextlib import contextmanager

import msgspec
import pytest
import structlog
from aiohttp.web import Response

from pool import AgentSpec, PoolConfig
from pool.agent import ALLOW, Decision, ToolCall, TurnEnd
from pool.agents.mcp_client import NoConnection, listing_of
from pool.agents.mcp_server import McpServer
from pool.errors import StoreUnavailable
from pool.events import TextDelta, ToolCalled, ToolReturned, UsageReported
from pool.guard.audit import Audit
from pool.guard.audit_file import FileSink
from pool.guard.keys import ApiKeys
from pool.guard.privacy import Privacy
from pool.guard.privacy_config import PrivacyConfig
from pool.store.memory import MemoryStore
from pool.telemetry.logs import configure
from pool.telemetry.metrics import Metrics
from pool.telemetry.processors import loop_exception_handler
from pool.turn import Usage
from protocol.authenticate.config import AuthConfig
from protocol.command.scrape import scrape_route
from protocol.config import ServerConfig
from protocol.refusals import TurnedAway
from tests.support.agents import Scripted
from tests.support.principals import WITH_KEYS
from tests.support.receiver import receiving
from tests.support.serving import echo, serving
from tests.support.sockets import connected, talking
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token

pytestmark = pytest.mark.real_time(10)

CANARY = "canaryc0ffee" * 3
# One that looks like what it is.
KEY_CANARY = "sk-proj-" + CANARY
BOTH = AuthConfig(
    mode="both",
    jwt_algorithms=("HS256",),
    jwt_key=SECRET,
    jwt_audience=AUDIENCE,
    jwt_issuer=ISSUER,
)
# What no answer may hold, whatever went wrong.
INSIDE = ("Traceback", ".py", "/tmp", "site-packages", "Exception", "Error(")  # noqa: S108


class Logged:
    """The log of a server: `observer` is for its pool."""

    def __init__(self, **options):
        self._stream = io.BytesIO()
        self.observer, self._lines = configure(format="json", stream=self._stream, **options)
        # the loggers of modules must not keep this test's configuration
        structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})

    def read(self):
        """All that was logged."""
        self._lines.flush()
        return self._stream.getvalue().decode()


@contextmanager
def logged(**options):
    """What is logged until the block is left."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield Logged(**options)
    finally:
        structlog.reset_defaults()
        root.handlers[:] = handlers
        root.setLevel(level)


@pytest.fixture
def log():
    """All that is logged at level debug, where the texts of exceptions are shown."""
    with logged(level="debug") as kept:
        yield kept.read


class Broken(MemoryStore):
    """A store whose keys cannot be read."""

    error: Exception | None = None

    async def get(self, kind, id):  # noqa: A002 - the word of the protocol
        if self.error is not None:
            raise self.error
        return await super().get(kind, id)


async def test_no_key_token_or_ticket_is_logged_or_repeated(log):
    """Good and bad ones, by every way in: none is in an answer or in the log."""
    store = MemoryStore()
    made = await ApiKeys(store).create()
    secret = made.text.split("_", 2)[2]
    good, bad = token(), token(CANARY)
    shown = [made.text, made.text + CANARY, f"ap_{CANARY}", CANARY, good, bad]
    answers = []
    tickets = []
    async with serving(echo, store=store, auth=BOTH) as peer:
        for text in shown:
            for headers in ({"Authorization": f"Bearer {text}"}, {"X-API-Key": text}):
                for path in ("/v1/agents", "/v1/turns/none", f"/{CANARY}", "/v1/pool"):
                    response = await peer.get(path, headers=headers)
                    answers.append(str(response.headers) + await response.text())
            refused = await peer.post("/v1/sessions/s/turns", {"bad": 1}, headers=headers)
            answers.append(await refused.text())
        issued = await peer.post("/v1/ws/tickets", headers={"X-API-Key": made.text})
        tickets.append((await issued.json())["ticket"])
        async with talking(peer, hello={"ticket": tickets[0]}) as talk:
            answers.append(str(await talk.ask("ping")))
        for ticket in (tickets[0], CANARY):
            async with connected(peer) as talk:
                await talk.say("hello", ticket=ticket)
                answers.append(str(await talk.closed()))
        answers.append(repr(peer.server) + repr(peer.server.authenticator) + repr(BOTH))
    found = log()
    assert "caller turned away" in found
    for text in (secret, CANARY, SECRET, good.split(".")[2], bad.split(".")[2], *tickets):
        assert text not in found
        assert not [answer for answer in answers if text in answer]


@pytest.mark.parametrize(
    ("error", "status"),
    [(StoreUnavailable("the store does not answer"), 503), (RuntimeError(CANARY), 500)],
)
async def test_a_defect_while_a_key_is_looked_up_says_nothing_of_the_inside(error, status, log):
    """The answer has a code and the request's id; the text of an exception stays away from it."""
    store = Broken()
    async with serving(echo, store=store, auth=WITH_KEYS) as peer:
        # one that this process has never seen is looked up
        made = await ApiKeys(store).create()
        store.error = error
        response = await peer.get("/v1/agents", headers={"X-API-Key": made.text})
        body = await response.text()
    assert response.status == status
    assert not [word for word in (*INSIDE, CANARY, made.text) if word in body]
    assert made.text.split("_", 2)[2] not in log()


async def test_every_problem_is_without_traceback_and_path():
    """Check 6: what goes wrong at the door is told in words made for callers."""
    async with serving(echo, auth=WITH_KEYS) as peer:
        made = await ApiKeys(peer.pool.store).create()
        key = {"X-API-Key": made.text}
        answers = [
            await peer.get("/v1/agents"),
            await peer.get("/nothing", headers=key),
            await peer.get("/v1/turns/none", headers=key),
            await peer.get("/v1/pool", headers=key),
            await peer.request("PUT", "/v1/agents", headers=key),
            await peer.post("/agent/invoke", [1], headers=key),
            await peer.post("/agent/invoke", {"message": "x", "more": 1}, headers=key),
            await peer.get("/v1/agents?x=1", headers=key),
        ]
        for response in answers:
            body = await response.text()
            assert response.status >= 400
            assert not [word for word in INSIDE if word in body]


async def test_whoever_guesses_keys_does_not_fill_the_log(log):
    """A line a second, with the number of those that have none."""
    async with serving(echo, auth=WITH_KEYS) as peer:
        await asyncio.gather(*(peer.get("/v1/agents") for _ in range(200)))
    lines = [line for line in log().splitlines() if "caller turned away" in line]
    assert 1 <= len(lines) <= 3
    assert '"client":"127.0.0.1"' in lines[0]


async def test_with_privacy_the_address_of_who_was_turned_away_is_logged():
    """The operator of a server has to know whom to shut out; addresses elsewhere are redacted."""
    privacy = Privacy(PrivacyConfig(default="logs"))
    behind_a_proxy = ServerConfig(trusted_proxies=("127.0.0.0/8",))
    with logged(level="info", redact=privacy.logs) as log:
        async with serving(echo, auth=WITH_KEYS, config=behind_a_proxy) as peer:
            await peer.get("/v1/agents", headers={"X-Forwarded-For": "203.0.113.9"})
        line = structlog.get_logger("agent")
        line.info("from 192.0.2.7", client="ann@example.com", server="192.0.2.8")
        found = log.read()
    assert '"client":"203.0.113.9"' in found
    assert "192.0.2" not in found and "ann@" not in found


def test_those_that_were_not_told_are_counted(log):
    """The next line says how many there were."""
    now = [0.0]
    turned_away = TurnedAway(lambda: now[0])
    for _ in range(5):
        turned_away.tell(StoreUnavailable("x"), client="c", request_id="r")
    now[0] = 1.0
    turned_away.tell(StoreUnavailable("x"), client="c", request_id="r")
    assert [line.count('"others":4') for line in log().splitlines()] == [0, 1]


async def talkative(turn, ctx):
    """Do as the first word of the input says, with the secret, in every way that goes wrong."""
    what, secret = turn.input.split()
    call = ToolCall("c1", "look", {"for": secret})
    match what:
        case "fail":
            raise ValueError(secret) from KeyError(secret)
        case "exit":
            raise SystemExit(secret)
        case "text":
            return secret
        case "object":
            await ctx.emit(ToolReturned("c1", {secret: object()}))
        case "deny" | "ask":
            decision = await ctx.gate(call)
            await ctx.emit(TextDelta(decision.reason))
            return TurnEnd("paused" if decision.action == "ask" else "done")
        case "log":
            structlog.get_logger("agent").error("it failed", exc_info=ValueError(secret))
            logging.getLogger("aiohttp.client").error("from %s", secret)
        case "leak":
            asyncio.get_running_loop().call_soon(_fail, secret)
            await asyncio.sleep(0)
    await ctx.emit(ToolCalled("c1", "look", call.arguments))
    await ctx.emit(ToolReturned("c1", secret, is_error=True))
    await ctx.emit(UsageReported(Usage(models=(secret,))))
    return TurnEnd(output=secret)


def _fail(secret):
    raise ValueError(secret)


def judge(principal, call):
    """Deny with the secret in the reason, or ask."""
    if call.arguments["for"].endswith("denied"):
        return Decision("deny", call.arguments["for"])
    return Decision("ask", risk="dangerous") if call.arguments["for"].endswith("x") else ALLOW


class Loud:
    """A server whose turns are about a secret, and everything that it tells of them."""

    def __init__(self, peer, shown):
        self._peer = peer
        self._headers = {"X-API-Key": shown}
        self.problems = []

    async def turn(self, text, **more):
        """The answer to a turn that is about the secret in all its parts."""
        return await self._peer.post(
            "/v1/sessions/s/turns",
            {"input": text, "metadata": {"m": CANARY}, **more},
            headers={**self._headers, "Idempotency-Key": f"{text.split()[0]}-{CANARY}"},
        )

    async def refused(self, status, text, **more):
        """A turn that becomes a problem."""
        response = await self.turn(text, **more)
        assert response.status == status
        self.problems.append(await response.text())

    async def denied(self):
        """A call that waits for a human, who takes another for it, and then denies it."""
        asked = await (await self.turn(f"ask {CANARY}x")).json()
        assert asked["pending"][0]["arguments"] == {"for": CANARY + "x"}
        path = f"/v1/turns/{asked['id']}/approvals/c1"
        wrong = {"decision": "approve", "arguments": {"for": CANARY}}
        response = await self._peer.post(path, wrong, headers=self._headers)
        assert response.status == 409
        self.problems.append(await response.text())
        denial = {"decision": "deny", "reason": CANARY}
        assert (await self._peer.post(path, denial, headers=self._headers)).status == 200


async def everything(loud):
    """Every way in which a turn comes out, or is refused."""
    for what in ("fail", "exit", "text", "object"):
        await loud.refused(502, f"{what} {CANARY}")
    for what in ("log", "leak", "speak"):
        response = await loud.turn(f"{what} {CANARY}")
        # who asked is told, and nobody else
        assert (response.status, CANARY in await response.text()) == (200, True)
    assert (await loud.turn(f"deny {CANARY}denied")).status == 200
    await loud.denied()
    await loud.refused(422, f"speak {CANARY}!")
    await loud.refused(400, f"x {CANARY}", deadline_s=CANARY)
    await loud.refused(400, f"x {CANARY}", priority=CANARY)


@pytest.mark.parametrize("shows", ["key", "token"])
async def test_what_turns_are_about_reaches_no_log_metric_problem_or_record(shows, tmp_path):
    """A secret in inputs, arguments and results of tools, reasons, exceptions and metadata, with
    turns that fail in every way: FAULTS row 29, all of it.
    """
    metrics = Metrics(["agent"])
    audit = Audit(FileSink(tmp_path / "audit", fsync="never"), chain="p1")
    store = MemoryStore()
    made, signed = (await ApiKeys(store).create()).text, token(tenant="default")
    await audit.open()
    with logged(level="info") as log:
        asyncio.get_running_loop().set_exception_handler(
            loop_exception_handler(structlog.get_logger("test"))
        )
        async with serving(
            {"agent": AgentSpec(agent=Scripted(talkative), gate=judge)},
            store=store,
            auth=msgspec.structs.replace(BOTH, public=("/metrics",)),
            pool=PoolConfig(max_attempts=1, restarts_max=100),
            engine={"observers": (metrics, log.observer), "audit": audit},
            extra_routes={("GET", "/metrics"): scrape_route(metrics)},
        ) as peer:
            loud = Loud(peer, made if shows == "key" else signed)
            await everything(loud)
            [letter] = await store.dead_letters(None, 10)
            page = await (await peer.get("/metrics")).text()
        await audit.close()
        lines = log.read()
    records = (tmp_path / "audit").read_text()
    assert lines.count('"event":"turn ended"') == 9
    assert '"exception":"ValueError"' in lines and '"event":"from %s"' in lines
    assert 'actorpool_turns_total{agent="agent",state="failed"} 4' in page
    assert records.count('"tool.call"') >= 2 and '"approval.decide"' in records
    for secret in (CANARY, made.split("_", 2)[2], signed.split(".")[2]):
        for place in (lines, page, records, str(letter.error), *loud.problems):
            assert secret not in place
    assert not [word for word in INSIDE if word in "".join(loud.problems)]


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_with_privacy_not_even_debug_and_names_hold_what_is_found(level):
    """A key in the text of an exception, and names that callers chose to look like a card."""
    card = "4111111111111111"
    privacy = Privacy(PrivacyConfig(default="logs"), known=(f"secret-{CANARY}",))
    with logged(level=level, redact=privacy.logs) as log:
        async with serving(
            {"agent": Scripted(talkative)}, engine={"observers": (log.observer,)}
        ) as peer:
            for secret in (KEY_CANARY, f"secret-{CANARY}"):
                await peer.post(
                    f"/v1/sessions/{card}/turns",
                    {"input": f"fail {secret}"},
                    headers={"X-Request-ID": card},
                )
                await peer.post(f"/v1/sessions/{card}/turns", {"input": f"log {secret}"})
        found = log.read()
    assert found.count('"session_id":"[card-1]"') >= 4
    assert '"request_id":"[card-1]"' in found
    assert ("ValueError: [secret-1]" in found) == (level == "debug")
    assert CANARY not in found and card not in found


@pytest.mark.parametrize("level", ["info", "warning"])
async def test_what_a_url_of_an_mcp_server_holds_is_not_logged(level):
    """Nor what the server answers: its client writes lines about each request."""
    moved = {"Location": f"http://elsewhere.example/?{CANARY}", "Mcp-Session-Id": CANARY}
    event = f"event: {CANARY}\ndata: {CANARY}\n\n"
    answers = (
        Response(status=307, headers=moved),
        Response(text=event, content_type="text/event-stream"),
    )
    with logged(level=level) as log:
        async with receiving(*answers) as near:
            server = McpServer(
                name="x",
                url=f"{near.url}?api_key={CANARY}",
                headers={"X-Key": CANARY},
                allow_private=True,
                allow_http=True,
                connect_timeout_s=1.0,
            )
            with pytest.raises(NoConnection) as told:
                await listing_of(server)
        found = log.read()
    assert len(near.got) == 2
    assert ("HTTP Request" in found) is (level == "info")
    assert CANARY not in found + str(told.value)
