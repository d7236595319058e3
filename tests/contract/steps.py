"""What the engine does with a store, in few words."""

from __future__ import annotations

from collections.abc import Sequence

from pool.events import ENDINGS, START, Cursor, Event, TextDelta, TurnQueued, TurnStarted
from pool.ids import Ids
from pool.store.base import Accepted, Lease, SessionKey, StateChange, Store
from pool.turn import Message, State, Turn, TurnError, TurnRequest, Webhook

S1 = SessionKey("acme", "s1")
S2 = SessionKey("acme", "s2")
OTHER = SessionKey("other", "s1")

_ids = Ids()


def make_turn(
    text: str = "hello",
    *,
    key: SessionKey = S1,
    agent: str = "helper",
    at: float = 1.0,
    webhook: Webhook | None = None,
) -> Turn:
    """A turn that nobody has accepted yet."""
    request = TurnRequest(input=text, webhook=webhook)
    return Turn(
        id=_ids.turn(key),
        tenant=key.tenant,
        user="ann",
        session_id=key.id,
        agent=agent,
        request=request,
        created_at=at,
    )


async def accept(store: Store, turn: Turn, owner: str = "a") -> tuple[Accepted, Lease]:
    """Have a turn accepted by an owner that gets the lease."""
    accepted = await store.accept(turn, owner=owner)
    assert accepted.lease is not None, f"{accepted.owner} holds the session"
    return accepted, accepted.lease


async def claim(store: Store, key: SessionKey, owner: str) -> Lease:
    """Have a session claimed by an owner that gets it."""
    claimed = await store.claim(key, owner)
    assert claimed is not None, f"{owner} may not claim {key}"
    return claimed.lease


def stamped(events: Sequence[Event], turn: Turn, epoch: int, after: int) -> list[Event]:
    """The events with their places, as the writer of the log stamps them."""
    for seq, event in enumerate(events, after + 1):
        event.epoch, event.seq = epoch, seq
        event.turn_id, event.session_id = turn.id, turn.session_id
    return list(events)


def said(*texts: str) -> list[Event]:
    """Deltas with these texts."""
    return [TextDelta(text=text) for text in texts]


def finish(turn: Turn, state: State = "completed", output: str = "hi") -> Turn:
    """Bring a turn to a terminal state, as the engine does before it commits."""
    turn.state = state
    turn.attempt = 1
    turn.output = output
    turn.finished_at = turn.created_at + 1
    if state == "failed":
        turn.error = TurnError("agent_failed", "the agent could not answer")
    return turn


async def commit(
    store: Store,
    lease: Lease,
    turn: Turn,
    *,
    state: State = "completed",
    output: str = "hi",
    change: StateChange | None = None,
) -> bool:
    """End a turn with the events that a short one has, after whatever the log has."""
    info = await store.session(lease.key)
    assert info is not None
    end = Cursor.parse(info.cursor)
    finish(turn, state, output)
    events: list[Event] = [
        TurnQueued(at=turn.created_at),
        TurnStarted(at=turn.created_at),
        *said(output),
        ENDINGS[state](turn=turn, at=turn.created_at + 1),
    ]
    return await store.commit(lease, turn, stamped(events, turn, lease.epoch, end.seq), change)


async def answer(
    store: Store,
    text: str = "hello",
    *,
    key: SessionKey = S1,
    agent: str = "helper",
    owner: str = "a",
    state: State = "completed",
    output: str = "hi",
    change: StateChange | None = None,
) -> Turn:
    """A whole turn: accepted, run and committed."""
    turn = make_turn(text, key=key, agent=agent)
    _, lease = await accept(store, turn, owner)
    assert await commit(store, lease, turn, state=state, output=output, change=change)
    return turn


async def log_of(
    store: Store, key: SessionKey, after: Cursor = START, limit: int = 1_000
) -> tuple[list[Event], Cursor]:
    """The log after a cursor, and its end, read page by page; nothing may be lost."""
    found: list[Event] = []
    while True:
        page = await store.events(key, after, limit)
        assert page.lost is None
        if not page.events:
            return found, after
        found += page.events
        after = found[-1].cursor


async def transcript_of(store: Store, key: SessionKey, limit: int = 1_000) -> list[Message]:
    """The whole transcript, read page by page."""
    found: list[Message] = []
    after = None
    while True:
        page = await store.messages(key, after, limit)
        found += page.items
        after = page.next
        if after is None:
            return found
