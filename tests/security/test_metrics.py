"""The page of metrics tells nobody who calls: check 18, on a busy server as `serve` wires it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.process import command
from tests.support.tokens import AUDIENCE, ISSUER, SECRET, token

pytestmark = pytest.mark.real_time(30)

# All that a series may be told apart by; the bounds of histograms, and what Python says of itself.
LABELS = {"agent", "state", "outcome", "reason", "code", "how", "direction", "budget", "step"}
LABELS |= {"action", "decision", "by"}
OF_LIBRARIES = {"le", "quantile", "generation", "implementation", "major", "minor", "patchlevel"}
OF_LIBRARIES |= {"version"}
# Found nowhere on the page: every name that callers or the server gave to something.
CANARY = "canary"

APP = """
from pool import AgentSpec
from pool.agent import Decision, ToolCall, TurnEnd
from pool.events import UsageReported
from pool.turn import Usage

async def echo(text):
    if "fail" in text:
        raise ValueError(text)
    return text

class Asking:
    state_format = "asking/1"
    async def open(self): pass
    async def close(self): pass
    async def run(self, turn, ctx):
        await ctx.emit(UsageReported(Usage(input_tokens=60, requests=1, models=("canary-model",))))
        decision = await ctx.gate(ToolCall("c1", "canary_tool", {}))
        return TurnEnd("paused" if decision.action == "ask" else "done", state=b"x")

asking = AgentSpec(agent=Asking, gate=lambda who, call: Decision("ask"))
"""
CONFIG = f"""
[auth]
mode = "jwt"
jwt_algorithms = ["HS256"]
jwt_key = "{SECRET}"
jwt_audience = "{AUDIENCE}"
jwt_issuer = "{ISSUER}"
jwt_roles = {{ operator = "operator" }}

[budgets.team]
scope = "tenant"
tokens = 100
reserve_tokens = 50

[budgets.person]
scope = "user"
tokens = 1000

[[limits.rates]]
who = "principal"
amount = 8
"""


async def test_no_series_names_a_tenant_a_user_or_a_session(tmp_path: Path):
    """Whatever many tenants do, the page has the same series, told apart by the configuration's
    own words only.
    """
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "actorpool.toml").write_text(CONFIG)
    options = ("--port", "0", "--store", "memory")
    agents = ("echo=app:echo", "asking=app:asking")
    with command("serve", *agents, *options, directory=tmp_path) as served:
        url = (await asyncio.to_thread(served.wait_for, r"at (http://127\.0\.0\.1:\d+) "))[1]
        async with aiohttp.ClientSession(url) as http:
            await asyncio.gather(*(busy(http, n) for n in range(10)))
            first = await scraped(http)
            await asyncio.gather(*(busy(http, n) for n in range(10, 30)))
            later = await scraped(http)
    assert {label for _, labels in later for label, _ in labels} <= LABELS | OF_LIBRARIES
    assert not [series for series in later if CANARY in str(series).lower()]
    assert later.keys() == first.keys()
    ended = ("actorpool_turns_total", frozenset({("agent", "echo"), ("state", "completed")}))
    assert later[ended] > first[ended] > 0


async def busy(http: aiohttp.ClientSession, number: int) -> None:
    """One of each thing that is counted, in the name of a tenant of its own."""
    session = f"{CANARY}-session-{number}"
    headers = bearer(tenant=f"{CANARY}-tenant-{number}", sub=f"{CANARY}-user-{number}")
    headers["X-Request-ID"] = f"{CANARY}-request-{number}"
    for body in (
        {"input": "x", "metadata": {CANARY: CANARY}},
        {"input": f"fail {CANARY}"},
        {"input": "x", "agent": "asking"},
        {"input": "x", "agent": "asking"},
        {"input": "x", "agent": f"{CANARY}-agent"},
        {"input": "x", "priority": CANARY},
    ):
        path = f"/v1/sessions/{session}-{len(body)}/turns"
        async with http.post(path, json=body, headers=headers) as answer:
            turn = await answer.json(content_type=None)
        if turn.get("state") == "waiting":
            path = f"/v1/turns/{turn['id']}/approvals/c1"
            await (await http.post(path, json={"decision": "deny"}, headers=headers)).read()
    for _ in range(5):
        # over its rate; and by who is nobody
        await (await http.get(f"/v1/sessions/{session}", headers=headers)).read()
        await (await http.get("/v1/agents", headers={"X-API-Key": CANARY})).read()


async def scraped(http: aiohttp.ClientSession) -> dict[tuple[str, frozenset[Any]], float]:
    """Every series of the page, as (name, labels), in both formats."""
    found = {}
    headers = bearer(tenant="operations", sub="scraper", roles=["operator"])
    for accept in ("text/plain", "application/openmetrics-text"):
        async with http.get("/metrics", headers={**headers, "Accept": accept}) as page:
            assert page.status == 200
            text = await page.text()
        assert CANARY not in text.lower()
        if accept == "text/plain":
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found[sample.name, frozenset(sample.labels.items())] = sample.value
    return found


def bearer(**claims: Any) -> dict[str, str]:
    """Headers with a token of these claims."""
    return {"Authorization": f"Bearer {token(**claims)}"}
