"""Ids: how they look and how they are made."""

from __future__ import annotations

import pytest

from pool import AgentPool
from pool.errors import InvalidRequest
from pool.ids import Ids, check_id, session_of_key
from pool.store.base import SessionKey


@pytest.mark.parametrize("text", ["a", "A-b_9", "x" * 64])
def test_an_id_is_taken(text: str) -> None:
    """1 to 64 letters, digits, _ and -."""
    assert check_id(text, "session_id") == text


@pytest.mark.parametrize(
    "text", ["", "x" * 65, "a\n", "a b", "../x", "{}", "a:b", "*", "é", 7, None]
)
def test_what_is_no_id_is_refused(text: object) -> None:
    """The error names the field."""
    with pytest.raises(InvalidRequest) as caught:
        check_id(text, "session_id")
    assert caught.value.field == "session_id"


def test_made_ids_are_ids_and_differ() -> None:
    """Of one process and of two."""
    one, other = Ids(), Ids()
    key = SessionKey("t", "s")
    made = [make(key) for _ in range(500) for make in (one.turn, other.turn)]
    made += [ids.session() for _ in range(500) for ids in (one, other)]
    assert len({check_id(each, "id") for each in made}) == len(made)


def test_a_turn_leads_to_its_sessions_partition() -> None:
    """Turns of one session begin with the same character."""
    ids, key = Ids(), SessionKey("t", "s")
    assert len({ids.turn(key)[0] for _ in range(50)}) == 1


def test_the_session_of_a_key_belongs_to_the_tenant() -> None:
    """Two tenants never meet by choosing the same key."""
    assert session_of_key("a", "k") != session_of_key("b", "k")


async def test_a_key_without_a_session_runs_once() -> None:
    """The same key finds the same session, and in it the same turn."""

    async def agent(text: str) -> str:
        return text

    async with AgentPool(agent) as pool:
        first = await pool.ask("x", idempotency_key="k")
        again = await pool.ask("x", idempotency_key="k")
        assert first.id == again.id
        assert first.session_id == session_of_key("default", "k")
