"""Budgets over HTTP: how they stand, and how they are changed while the server runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pool.guard.audit import Audit
from pool.guard.audit_file import FileSink
from pool.guard.audit_records import read_line
from pool.guard.budget import Budget
from tests.support.costs import TOKENS, USD, costs, counted, spender
from tests.support.principals import guarded
from tests.support.serving import Peer, serving

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s/turns"
TEAM = Budget(name="team", usd=2 * USD, reserve_usd=USD)
EACH = Budget(name="each", scope="tenant", tokens=1_000, period="day")
TURN = Budget(name="turn", period="turn", tokens=10 * TOKENS)


async def listed(peer: Peer, query: str = "", headers: Any = None) -> dict[str, dict[str, Any]]:
    """The budgets that a caller is told of, by their names."""
    response = await peer.get(f"/v1/budgets{query}", headers=headers)
    assert response.status == 200, await response.text()
    return {each["name"]: each for each in (await response.json())["budgets"]}


async def change(peer: Peer, name: str, **limits: Any) -> Any:
    """Give a budget other limits."""
    return await peer.request("PATCH", f"/v1/budgets/{name}", json=limits)


async def test_budgets_are_told_with_how_they_stand() -> None:
    """What is spent and set aside, of which limit, in which period; or only the limit."""
    async with serving({"a": spender()}, engine=costs(TEAM, EACH, TURN)) as peer:
        await peer.pool.ask("x")
        await counted(peer.pool, 1)
        found = await listed(peer)
        today = peer.pool.ledger.usage.today()
        assert found["team"] == {
            "name": "team",
            "scope": "global",
            "subject": "",
            "period": "month",
            "current": f"{today:%Y-%m}",
            "ends_at": found["team"]["ends_at"],
            "at_limit": "refuse",
            "usd": {
                "limit": 2 * USD,
                "configured": 2 * USD,
                "spent": USD,
                "reserved": 0,
                "percent": 50,
            },
        }
        assert (found["each"]["subject"], found["each"]["current"]) == ("default", str(today))
        assert found["each"]["tokens"]["spent"] == TOKENS
        assert (found["turn"]["tokens"]["spent"], found["turn"]["current"]) == (None, None)


async def test_a_budget_is_exceeded_then_raised() -> None:
    """402 until it is raised, then 200, with no restart; `DELETE` returns to the configuration."""
    async with serving({"a": spender()}, engine=costs(TEAM)) as peer:
        for turns in (1, 2):
            assert (await peer.post(TURNS, {"input": "x"})).status == 200
            await counted(peer.pool, turns)
        refused = await peer.post(TURNS, {"input": "x"})
        body = await refused.json(content_type=None)
        assert (refused.status, body["code"]) == (402, "budget_exceeded")
        assert "the budget team of" in body["detail"]

        response = await change(peer, "team", usd=1)

        (team,) = (await response.json())["budgets"]
        assert (team["usd"]["limit"], team["usd"]["configured"]) == (1, 2 * USD)
        assert (await peer.post(TURNS, {"input": "x"})).status == 200
        await counted(peer.pool, 3)
        assert (await peer.request("DELETE", "/v1/budgets/team")).status == 204
        assert (await peer.request("DELETE", "/v1/budgets/team")).status == 204
        assert (await listed(peer))["team"]["usd"] == {
            "limit": 2 * USD,
            "configured": 2 * USD,
            "spent": 3 * USD,
            "reserved": 0,
            "percent": 150,
        }
        assert (await peer.post(TURNS, {"input": "x"})).status == 402


@pytest.mark.parametrize(
    ("name", "limits", "status"),
    [
        ("team", {}, 400),
        ("team", {"usd": 0}, 400),
        ("team", {"usd": "1"}, 400),
        ("team", {"usd": None}, 400),
        ("team", {"limit": 1}, 400),
        ("team", {"tokens": 5}, 400),
        ("each", {"tokens": 1.5}, 400),
        ("other", {"usd": 1}, 404),
    ],
)
async def test_a_change_that_cannot_be_is_refused(
    name: str, limits: dict[str, Any], status: int
) -> None:
    """It changes nothing."""
    async with serving(engine=costs(TEAM, EACH)) as peer:
        before = await listed(peer)
        assert (await change(peer, name, **limits)).status == status
        assert await listed(peer) == before
        assert (await peer.request("DELETE", "/v1/budgets/other")).status == 404


async def test_whom_budgets_are_told_to() -> None:
    """Operators those of their tenant and of all, admins anybody's; admins alone change them."""
    acme = Budget(name="acme", scope="tenant", of="acme", tokens=5)
    users = Budget(name="users", scope="user", tokens=5)
    async with guarded({"a": spender()}, engine=costs(TEAM, acme, users)) as (peer, keys):
        found = await listed(peer, headers=keys.of("acme", "operator"))
        assert list(found) == ["team", "acme", "users"]
        assert found["users"]["subject"] == "acme/operator-1"
        found = await listed(peer, "?user=bob", headers=keys.of("acme", "operator"))
        assert found["users"]["subject"] == "acme/bob"
        rival = keys.of("rival", "operator")
        assert list(await listed(peer, headers=rival)) == ["team", "users"]
        for query in ("?tenant=acme", "?tenant=*"):
            assert (await peer.get(f"/v1/budgets{query}", headers=rival)).status == 403
        admin = keys.of("rival", "admin")
        assert "acme" in await listed(peer, "?tenant=acme", headers=admin)
        found = await listed(peer, "?tenant=*", headers=admin)
        assert (found["acme"]["subject"], found["users"]["subject"]) == ("acme", None)
        for role, status in (("user", 403), ("operator", 403), ("admin", 200)):
            headers = keys.of("rival", role)
            response = await peer.request(
                "PATCH", "/v1/budgets/team", json={"usd": 1}, headers=headers
            )
            assert response.status == status


async def test_a_changed_budget_is_told_whosever_it_is() -> None:
    """An admin may see those of other tenants: one of them is told as it is after the change."""
    acme = Budget(name="acme", scope="tenant", of="acme", tokens=5)
    bob = Budget(name="bob", scope="user", of="acme/bob", tokens=5)
    each = Budget(name="each", scope="tenant", tokens=5)
    async with guarded({"a": spender()}, engine=costs(acme, bob, each)) as (peer, keys):
        admin = keys.of("rival", "admin")
        found = {}
        for name in ("acme", "bob", "each"):
            response = await peer.request(
                "PATCH", f"/v1/budgets/{name}", json={"tokens": 7}, headers=admin
            )
            (row,) = (await response.json())["budgets"]
            found[row["name"]] = (row["subject"], row["tokens"]["limit"])
        assert found == {"acme": ("acme", 7), "bob": ("acme/bob", 7), "each": ("rival", 7)}


async def test_a_change_is_an_audit_record(tmp_path: Path) -> None:
    """Who it was, which budget, and what to; what was refused changed nothing."""
    path = tmp_path / "audit"
    audit = Audit(FileSink(path, fsync="never"), chain="p1")
    await audit.open()
    engine = {**costs(TEAM, EACH), "audit": audit}
    async with guarded(spender(), engine=engine) as (peer, keys):
        admin = keys.of("acme", "admin")
        for verb, name, body in (
            ("PATCH", "team", {"usd": 5}),
            ("PATCH", "other", {"usd": 5}),
            ("DELETE", "team", None),
            ("DELETE", "team", None),
        ):
            await peer.request(verb, f"/v1/budgets/{name}", json=body, headers=admin)
    await audit.close()
    read = filter(None, map(read_line, path.read_bytes().splitlines()))
    records = [record for _, record in read if "budget" in record.action]
    assert [(each.action, each.subject, each.reason, each.user) for each in records] == [
        ("admin.set_budget", "budget:team", "usd 5.0", "admin-1"),
        ("admin.unset_budget", "budget:team", "", "admin-1"),
    ]


async def test_parallel_turns_never_get_more_than_there_is() -> None:
    """Of twenty at once two fit, the others are 402 and touch no agent."""
    async with serving({"a": spender()}, engine=costs(TEAM)) as peer:
        asked = (peer.post(f"/v1/sessions/s{n}/turns", {"input": "x"}) for n in range(20))
        statuses = [response.status for response in await asyncio.gather(*asked)]
        assert (statuses.count(200), statuses.count(402)) == (2, 18)
