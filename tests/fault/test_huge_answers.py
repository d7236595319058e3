"""An agent says far too much."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.fault.audit import audit
from tests.fault.clients import calling
from tests.fault.replicas import Replica, fleet
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time(25)


@pytest.fixture(params=["sqlite", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A durable store of each kind."""
    if request.param == "sqlite":
        yield f"sqlite://{tmp_path}/pool.db"
    else:
        with redis_server() as redis:
            yield redis.url


def peak_bytes(replica: Replica) -> int:
    """The most memory that a replica's process has had."""
    status = Path(f"/proc/{replica.process.process.pid}/status")
    if not status.exists():
        return int(psutil.Process(replica.process.process.pid).memory_info().rss)
    (line,) = (each for each in status.read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1_024


@pytest.mark.parametrize("answer", ["flood=50000000", "events=1000000"])
async def test_a_huge_answer_is_a_typed_error(store: str, tmp_path: Path, answer: str) -> None:
    """Row 12: 50 MB, or a million events, end the turn with an error that says so; memory stays
    bounded, and the session goes on.
    """
    with fleet(1, store, tmp_path, lease_s=3.0) as replicas:
        (replica,) = replicas
        async with calling(replicas) as caller:
            first = await caller.submit("s", "say=1", at=replica)
            await caller.ended(first)
            before = peak_bytes(replica)
            huge = await caller.submit("s", answer, at=replica)
            meanwhile = await caller.submit("other", "say=3", at=replica)
            ended = await caller.ended(huge)
            assert (ended["state"], ended["error"]["code"]) == ("failed", "agent_failed"), ended
            assert "the most" in ended["error"]["detail"]
            assert (await caller.ended(meanwhile))["state"] == "completed"
            assert peak_bytes(replica) - before < 120 * 2**20
            again = await caller.submit("s", "say=1", at=replica)
            assert (await caller.ended(again))["state"] == "completed"
        replica.kill()
        await audit(store, replicas.runs, accepted=[first, huge, meanwhile, again])
