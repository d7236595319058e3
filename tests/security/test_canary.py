"""Secrets that callers show are found nowhere again: FAULTS row 29, checks 6 and 10."""

from __future__ import annotations

import asyncio
import io
import logging

import pytest
import structlog

from pool.errors import StoreUnavailable
from pool.guard.keys import ApiKeys
from pool.store.memory import MemoryStore
from pool.telemetry.logs import configure
from protocol.authenticate.config import AuthConfig
from protocol.refusals import TurnedAway
from tests.support.principals import WITH_KEYS
from tests.support.serving import echo, serving
from tests.support.sockets import connected, talking
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token

pytestmark = pytest.mark.real_time(10)

CANARY = "canaryc0ffee" * 3
# What no answer may hold, whatever went wrong.
INSIDE = ("Traceback", ".py", "/tmp", "site-packages", "Exception", "Error(")  # noqa: S108


@pytest.fixture
def log():
    """All that is logged at level debug, where the texts of exceptions are shown."""
    stream = io.BytesIO()
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    _, lines = configure(format="json", level="debug", stream=stream)
    # the loggers of modules must not keep this test's configuration
    structlog.configure(**{**structlog.get_config(), "cache_logger_on_first_use": False})

    def read():
        lines.flush()
        return stream.getvalue().decode()

    yield read
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


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
    auth = AuthConfig(
        mode="both",
        jwt_algorithms=("HS256",),
        jwt_key=SECRET,
        jwt_audience=AUDIENCE,
        jwt_issuer=ISSUER,
    )
    made = await ApiKeys(store).create()
    secret = made.text.split("_", 2)[2]
    good, bad = token(), token(CANARY)
    shown = [made.text, made.text + CANARY, f"ap_{CANARY}", CANARY, good, bad]
    answers = []
    tickets = []
    async with serving(echo, store=store, auth=auth) as peer:
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
        answers.append(repr(peer.server) + repr(peer.server.authenticator) + repr(auth))
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


def test_those_that_were_not_told_are_counted(log):
    """The next line says how many there were."""
    now = [0.0]
    turned_away = TurnedAway(lambda: now[0])
    for _ in range(5):
        turned_away.tell(StoreUnavailable("x"), client="c", request_id="r")
    now[0] = 1.0
    turned_away.tell(StoreUnavailable("x"), client="c", request_id="r")
    assert [line.count('"others":4') for line in log().splitlines()] == [0, 1]
