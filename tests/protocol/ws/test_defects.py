"""What the door does about defects of the server itself."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from pool.store.memory import MemoryStore
from protocol import encode
from tests.support.serving import serving
from tests.support.sockets import serving_from, talking

pytestmark = pytest.mark.real_time(10)


class BrokenStore(MemoryStore):
    """A store with a defect."""

    async def turn_start(self, turn_id):
        raise ValueError("hunter2")

    async def session(self, key):
        raise ValueError("hunter2")


async def test_a_defect_in_a_command_is_internal_and_the_socket_stays_open():
    """The client gets `internal` without the exception's text; the log has the exception."""
    with capture_logs() as logs:
        async with serving_from(BrokenStore()) as peer, talking(peer) as talk:
            answer = await talk.ask("subscribe", ref=1, session_id="s")
            assert answer["error"]["code"] == "internal"
            assert answer["ref"] == 1
            assert "hunter2" not in str(answer)
            assert (await talk.ask("ping"))["type"] == "pong"
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["command failed"]


async def test_events_that_cannot_be_written_close_the_connection_with_1011(monkeypatch):
    """The client may resume; nothing hangs."""

    def broken(event):
        raise ValueError("hunter2")

    with capture_logs() as logs:
        async with serving() as peer, talking(peer) as talk:
            monkeypatch.setattr(encode, "event", broken)
            await talk.ask("turn", session_id="s", input="x")
            closed = await talk.closed()
            assert closed.code == 1011
            assert "hunter2" not in closed.reason
    errors = [log["event"] for log in logs if log["log_level"] == "error"]
    assert errors == ["events could not be sent"]


async def test_a_defect_in_hello_closes_the_connection_with_1011():
    """What fails outside of a command ends the connection, and is logged."""
    with capture_logs() as logs:
        async with serving_from(BrokenStore()) as peer, talking(peer) as talk:
            pass
        async with (
            serving_from(BrokenStore()) as peer,
            talking(peer, hello={"sessions": {"s": None}}) as talk,
        ):
            assert (await talk.closed()).code == 1011
    assert "connection failed" in [log["event"] for log in logs]
