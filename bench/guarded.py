"""The server as one that faces the internet: `python -m bench.guarded STORE KEY PORT`.

API keys, rates of requests for principal, tenant and all, a quota of turns, a budget of tokens and
one of money, the audit log in the store, rules for tools, metrics and the log. The agent asks the
gate about one call a turn. The key that it takes is written to the file KEY before it listens.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from typing import Final

import uvloop

from bench.agents import gated
from bench.stores import made
from pool import AgentPool, AgentSpec
from pool.guard.audit import Audit
from pool.guard.audit_store import StoreSink
from pool.guard.budget import Budget
from pool.guard.keys import ApiKeys
from pool.guard.ledger import CostConfig
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RateLimit
from pool.guard.tool_rules import ToolRules
from pool.telemetry.logs import configure
from pool.telemetry.metrics import Metrics
from protocol.authenticate.config import AuthConfig
from protocol.command.garbage import settle
from protocol.server import Server, ServerConfig

PLENTY: Final = 10**12
COST: Final = CostConfig(
    rates=(
        RateLimit(amount=PLENTY),
        RateLimit(who="tenant", amount=PLENTY),
        RateLimit(who="global", amount=PLENTY),
    ),
    turns=QuotaLimits(each=PLENTY),
    budgets=(
        Budget(name="tokens", scope="tenant", tokens=PLENTY),
        Budget(name="money", usd=1e9, reserve_usd=0.01),
    ),
)
RULES: Final = ToolRules(roles={"user": ("look",)}, agents={"echo": ("look",)})


async def main(at: str, key_file: str, port: int) -> None:
    """Serve until the process is killed."""
    gc.disable()
    logs, _ = configure(format="json", level="info")
    specs = {"echo": AgentSpec(agent=gated)}
    metrics = Metrics(specs)
    async with made(at) as store:
        await store.open()
        audit = Audit(StoreSink(store), chain="bench")
        await audit.open()
        pool = AgentPool(
            specs, store=store, observers=(metrics, logs), cost=COST, audit=audit, tools=RULES
        )
        metrics.watch(pool.stats)
        async with pool:
            made_key = await ApiKeys(store).create(tenant="acme", user="ann", roles=("user",))
            _hand_over(key_file, made_key.text)
            auth = AuthConfig(mode="keys")
            server = Server(pool, config=ServerConfig(port=port), auth=auth)
            await server.start()
            metrics.start()
            settle()
            await asyncio.Event().wait()


def _hand_over(key_file: str, key: str) -> None:
    Path(key_file).write_text(key)


if __name__ == "__main__":
    place, key, number = sys.argv[1:]
    uvloop.run(main(place, key, int(number)))
