"""The server with all that is there against callers: `python -m bench.guarded STORE KEY PORT`.

What `bench.limited` has, and a budget of tokens and one of money, the audit log in the store, and
rules for tools. The agent asks the gate about one call a turn. The key that it takes is written to
the file KEY before it listens.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import uvloop
from msgspec.structs import replace

from bench.agents import gated
from bench.limited import LIMITS, PLENTY, serve
from bench.stores import made
from pool.guard.audit import Audit
from pool.guard.audit_store import StoreSink
from pool.guard.budget import Budget
from pool.guard.tool_rules import ToolRules

COST: Final = replace(
    LIMITS,
    budgets=(
        Budget(name="tokens", scope="tenant", tokens=PLENTY),
        Budget(name="money", usd=1e9, reserve_usd=0.01),
    ),
)
RULES: Final = ToolRules(roles={"user": ("look",)}, agents={"echo": ("look",)})


async def main(at: str, key_file: str, port: int) -> None:
    """Serve until the process is killed."""
    async with made(at) as store:
        await store.open()
        audit = Audit(StoreSink(store), chain="bench")
        await audit.open()
        async with serve(store, key_file, port, agent=gated, cost=COST, audit=audit, tools=RULES):
            await asyncio.Event().wait()


if __name__ == "__main__":
    place, key, number = sys.argv[1:]
    uvloop.run(main(place, key, int(number)))
