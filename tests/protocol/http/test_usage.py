"""Usage over HTTP: of whom, by what, as JSON and as CSV, and to whom it is told."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from pool.turn import Principal
from tests.support.costs import TOKENS, USD, costs, counted, spender
from tests.support.principals import guarded
from tests.support.serving import Peer, serving

pytestmark = pytest.mark.real_time

NAMES = "turns,input_tokens,output_tokens,requests,tool_calls,cost_usd,unpriced_turns"


async def spend(peer: Peer, *who: Principal, model: str = "m") -> None:
    """A turn of each of these, counted."""
    for each in who:
        await peer.pool.ask("x", session="s", principal=each)


async def rows(peer: Peer, query: str, headers: Any = None) -> list[dict[str, Any]]:
    """The lines of an answer."""
    response = await peer.get(f"/v1/usage{query}", headers=headers)
    assert response.status == 200, await response.text()
    found: list[dict[str, Any]] = (await response.json())["usage"]
    return found


ANN, BOB, EVE = Principal("acme", "user-1"), Principal("acme", "bob"), Principal("rival", "eve")


async def test_usage_is_added_up_by_what_is_asked_for() -> None:
    """By default each day of this month; tokens, calls and cost."""
    async with serving({"a": spender(), "b": spender("unknown")}, engine=costs()) as peer:
        await peer.pool.ask("x", agent="a")
        await peer.pool.ask("x", agent="a")
        await peer.pool.ask("x", agent="b")
        await counted(peer.pool, 3)
        today = peer.pool.ledger.usage.today()

        whole = await (await peer.get("/v1/usage")).json()
        assert (whole["from"], whole["to"]) == (f"{today:%Y-%m}-01", str(today))
        assert whole["by"] == ["day"]
        (day,) = whole["usage"]
        assert (day["day"], day["turns"], day["input_tokens"]) == (str(today), 3, 3 * TOKENS)
        assert (day["cost_usd"], day["unpriced_turns"]) == (2 * USD, 1)
        assert [
            (each["agent"], each["model"], each["turns"], each["cost_usd"])
            for each in await rows(peer, "?by=agent,model")
        ] == [("a", "m", 2, 2 * USD), ("b", "unknown", 1, None)]
        assert [each["turns"] for each in await rows(peer, "?by=&agent=b")] == [1]
        assert await rows(peer, "?from=2020-01-01&to=2020-01-31") == []
        assert [next(iter(each)) for each in await rows(peer, "?by=user,user")] == ["user"]


@pytest.mark.parametrize(
    ("query", "headers", "csv_"),
    [
        ("?by=agent&format=csv", {}, True),
        ("?by=agent", {"Accept": "text/csv"}, True),
        ("?by=agent&format=json", {"Accept": "text/csv"}, False),
        ("?by=agent", {"Accept": "application/json, text/csv"}, False),
        ("?by=agent", {"Accept": "text/html, */*"}, False),
    ],
)
async def test_usage_is_json_or_csv(query: str, headers: dict[str, str], csv_: bool) -> None:
    """As the query says, else as `Accept` does."""
    async with serving({"a": spender()}, engine=costs()) as peer:
        await peer.pool.ask("x")
        await counted(peer.pool, 1)
        response = await peer.get(f"/v1/usage{query}", headers=headers)
        assert response.content_type == ("text/csv" if csv_ else "application/json")
        if csv_:
            assert response.headers["Content-Type"] == "text/csv; charset=utf-8; header=present"
            found = list(csv.reader(io.StringIO(await response.text())))
            assert found[0] == ["agent", *NAMES.split(",")]
            assert found[1] == ["a", "1", str(TOKENS), "0", "1", "0", str(USD), "0"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("?since=2026-01-01", "since"),
        ("?from=yesterday", "from"),
        ("?to=2026-01-32", "to"),
        ("?by=day,session", "by"),
        ("?by=day,", "by"),
        ("?by=" + ",".join(["day"] * 11), "by"),
        ("?format=xml", "format"),
        ("?agent=a b", "agent"),
        ("?tenant=a/b", "tenant"),
        ("?from=2026-02-01&to=2026-01-01", "to"),
        ("?from=2025-01-01&to=2026-01-02", "from"),
    ],
)
async def test_a_question_that_cannot_be_is_refused(query: str, field: str) -> None:
    """400, with the parameter that is wrong."""
    async with serving(engine=costs()) as peer:
        response = await peer.get(f"/v1/usage{query}")
        assert response.status == 400
        (error,) = (await response.json(content_type=None))["errors"]
        assert error["field"] == field


async def test_whom_usage_is_told_to() -> None:
    """A user: their own. An operator: their tenant's. An admin: anybody's."""
    async with guarded({"a": spender()}, engine=costs()) as (peer, keys):
        await spend(peer, ANN, ANN, BOB, EVE)
        await counted(peer.pool, 4)

        async def users(role: str, query: str) -> Any:
            headers = keys.of("acme", role)
            response = await peer.get(f"/v1/usage?by=tenant,user{query}", headers=headers)
            if response.status != 200:
                return response.status
            found = (await response.json())["usage"]
            return [(each["tenant"], each["user"], each["turns"]) for each in found]

        ann, bob, eve = ("acme", "user-1", 2), ("acme", "bob", 1), ("rival", "eve", 1)
        assert await users("user", "") == await users("user", "&user=user-1") == [ann]
        assert await users("user", "&tenant=acme") == [ann]
        assert await users("user", "&user=bob") == await users("user", "&tenant=rival") == 403
        assert await users("user", "&tenant=*") == 403
        assert await users("operator", "") == [bob, ann]
        assert await users("operator", "&user=bob") == [bob]
        assert await users("operator", "&tenant=rival") == await users("operator", "&tenant=*")
        assert await users("operator", "&tenant=*") == 403
        assert await users("admin", "") == [bob, ann]
        assert await users("admin", "&tenant=rival") == [eve]
        assert await users("admin", "&tenant=*") == [bob, ann, eve]
        assert await users("admin", "&tenant=null") == []


async def test_a_sessions_usage_is_the_sum_of_its_turns() -> None:
    """Of those that have ended, at once; of no such session there is none."""
    async with serving({"a": spender(), "b": spender("unknown")}, engine=costs()) as peer:
        for number in range(101):
            await peer.pool.ask("x", session="s", agent="b" if number == 7 else "a")
        response = await peer.get("/v1/sessions/s/usage")
        told = await response.json()
        assert (told["session_id"], told["by"], "from" in told) == ("s", [], False)
        (total,) = told["usage"]
        assert (total["turns"], total["input_tokens"]) == (101, 101 * TOKENS)
        assert (total["cost_usd"], total["unpriced_turns"]) == (0.1, 1)
        response = await peer.get("/v1/sessions/s/usage?format=csv")
        assert (await response.text()).splitlines() == [NAMES, "101,10100,0,101,0,0.1,1"]
        assert (await peer.get("/v1/sessions/none/usage")).status == 404
        assert (await peer.get("/v1/sessions/s/usage?by=day")).status == 400


async def test_a_turns_own_usage_has_its_cost() -> None:
    """In US dollars; null if the price of its model is not known, never nothing."""
    async with serving({"a": spender(), "b": spender("unknown")}, engine=costs()) as peer:
        for agent, cost in (("a", USD), ("b", None)):
            response = await peer.post("/v1/sessions/s/turns", {"input": "x", "agent": agent})
            used = (await response.json())["usage"]
            assert (used["input_tokens"], used["cost_usd"]) == (TOKENS, cost)
