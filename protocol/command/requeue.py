"""Turns that failed, submitted again as new ones."""

from __future__ import annotations

from time import time
from typing import Final, NamedTuple

from msgspec.structs import replace

from pool.errors import Conflict, DeadLetter, NotFound
from pool.ids import Ids
from pool.store.base import SessionKey, Store
from pool.turn import Turn

_AGAIN: Final = ("failed", "expired", "interrupted")


class Requeued(NamedTuple):
    """The new turn; `new` is False if the old one was submitted again before."""

    turn: Turn
    new: bool


async def requeue(store: Store, turn: Turn) -> Requeued:
    """Submit a turn that failed, expired or was interrupted again, as a new turn of its session.

    It is for whoever serves the session, and its metadata say where it is from (`requeued_from`).
    The old one is a dead letter no more. However often this is done there is one new turn.
    `Conflict` if the turn is in no such state.
    """
    if turn.state not in _AGAIN:
        raise Conflict(f"turn {turn.id} is {turn.state}: only {', '.join(_AGAIN)} ones go again")
    key = SessionKey(turn.tenant, turn.session_id)
    request = replace(turn.request, metadata={**turn.metadata, "requeued_from": turn.id})
    new = Turn(
        id=Ids().turn(key),
        tenant=turn.tenant,
        user=turn.user,
        session_id=turn.session_id,
        agent=turn.agent,
        request=request,
        created_at=time(),
    )
    accepted = await store.accept(new, owner="", key=f"requeue:{turn.id}")
    await store.forget_dead_letter(turn.id)
    return Requeued(accepted.turn, accepted.new)


async def dead_letter(store: Store, turn_id: str) -> Turn:
    """A turn that ended as a dead letter; `NotFound` for any other."""
    turn = await store.turn(turn_id)
    if turn is None or turn.error is None or turn.error.code != DeadLetter.code:
        raise NotFound(f"there is no dead letter {turn_id}")
    return turn
