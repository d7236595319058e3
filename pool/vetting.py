"""What may be wrong with a request for a turn, however full the pool is. Pure."""

from __future__ import annotations

from typing import Final

from pool.errors import Conflict, InvalidRequest
from pool.live import LiveTurn
from pool.store.base import SessionKey
from pool.turn import TurnRequest
from pool.webhooks import Webhooks

KEY_MAX: Final = 128


def check_request(
    request: TurnRequest, idempotency_key: str | None, webhooks: Webhooks | None
) -> None:
    """`InvalidRequest` for a key of the wrong length, or a webhook that may not or cannot be
    posted to.
    """
    if idempotency_key is not None and not 1 <= len(idempotency_key) <= KEY_MAX:
        raise InvalidRequest(
            f"an idempotency key has 1 to {KEY_MAX} characters", field="idempotency_key"
        )
    if request.webhook is None:
        return
    if webhooks is None:
        raise InvalidRequest(
            "webhooks are not configured on this server: its operator has to set a secret",
            field="webhook",
        )
    webhooks.check(request.webhook.url)


def check_chain(parent: LiveTurn, agent: str, key: SessionKey, *, at_most: int) -> None:
    """`Conflict` if the turn `parent` may not ask `agent` in the session `key`: the agent, or the
    session, is one of those that wait for it, or `at_most` agents ask each other already.
    """
    chain = [parent]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    names = [turn.record.agent for turn in reversed(chain)]
    if agent in names:
        raise Conflict(f"agents ask each other in a circle: {' -> '.join([*names, agent])}")
    if len(chain) >= at_most:
        raise Conflict(f"agents ask each other {len(chain)} deep: {' -> '.join(names)}")
    if any(turn.session.key == key for turn in chain):
        raise Conflict(
            f"session {key.id} is busy with the turn that asks; let the agent asked use another"
        )
