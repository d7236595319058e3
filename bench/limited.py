"""The server as one that asks who calls, and limits how often: `python -m bench.limited STORE KEY
PORT`.

API keys, rates of requests for principal, tenant and all, a quota of turns, metrics and the log.
The key that it takes is written to the file KEY before it listens.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.agents import echo
from bench.stores import made
from pool import AgentPool, AgentSpec
from pool.guard.audit import Audit
from pool.guard.keys import ApiKeys
from pool.guard.ledger import CostConfig
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RateLimit
from pool.guard.tool_rules import ToolRules
from pool.store.base import Store
from pool.telemetry.logs import configure
from pool.telemetry.metrics import Metrics
from protocol.authenticate.config import AuthConfig
from protocol.command.garbage import settle
from protocol.server import Server, ServerConfig

PLENTY: Final = 10**12
LIMITS: Final = CostConfig(
    rates=(
        RateLimit(amount=PLENTY),
        RateLimit(who="tenant", amount=PLENTY),
        RateLimit(who="global", amount=PLENTY),
    ),
    turns=QuotaLimits(each=PLENTY),
)


@asynccontextmanager
async def serve(
    store: Store,
    key_file: str,
    port: int,
    *,
    agent: Callable[..., Any],
    cost: CostConfig,
    audit: Audit | None = None,
    tools: ToolRules | None = None,
) -> AsyncIterator[None]:
    """Serve an agent from an open store, with metrics and the log, to who has the key."""
    gc.disable()
    logs, _ = configure(format="json", level="info")
    specs = {"echo": AgentSpec(agent=agent)}
    metrics = Metrics(specs)
    pool = AgentPool(
        specs, store=store, observers=(metrics, logs), cost=cost, audit=audit, tools=tools
    )
    metrics.watch(pool.stats)
    async with pool:
        made_key = await ApiKeys(store).create(tenant="acme", user="ann", roles=("user",))
        _hand_over(key_file, made_key.text)
        server = Server(pool, config=ServerConfig(port=port), auth=AuthConfig(mode="keys"))
        await server.start()
        metrics.start()
        settle()
        yield


async def main(at: str, key_file: str, port: int) -> None:
    """Serve until the process is killed."""
    async with made(at) as store:
        await store.open()
        async with serve(store, key_file, port, agent=echo, cost=LIMITS):
            await asyncio.Event().wait()


def _hand_over(key_file: str, key: str) -> None:
    Path(key_file).write_text(key)


if __name__ == "__main__":
    place, key, number = sys.argv[1:]
    uvloop.run(main(place, key, int(number)))
