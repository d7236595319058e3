"""A process that answers turns on a SQLite store, and says which, until it is killed.

`python -m tests.support.sqlite_process PATH`: prints `open`, then a line for each turn that the
store has taken (`accepted ID`) and ended (`committed ID`). A tenth of the turns is never ended.
"""

from __future__ import annotations

import asyncio
import sys
from itertools import count

from pool.store.base import SessionKey
from pool.store.sqlite import SqliteStore
from tests.contract.steps import commit, make_turn

CALLERS = 8


async def _turns(store: SqliteStore, caller: int) -> None:
    for number in count():
        key = SessionKey("acme", f"c{caller}-{number // 5}")
        turn = make_turn(f"turn {number}", key=key)
        accepted = await store.accept(turn, owner="killed")
        _say(f"accepted {turn.id}")
        if number % 10 == 9:
            continue
        lease = accepted.lease
        if lease is not None:
            await commit(store, lease, turn)
            _say(f"committed {turn.id}")


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(path: str) -> None:
    """Answer turns for ever."""
    store = SqliteStore(path)
    await store.open()
    _say("open")
    await asyncio.gather(*(_turns(store, caller) for caller in range(CALLERS)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
