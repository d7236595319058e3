"""What may be wrong with a request for a turn, however full the pool is. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from pool.config import PoolConfig
from pool.errors import Conflict, InvalidRequest, TooLarge
from pool.live import LiveTurn
from pool.store.base import SessionKey
from pool.turn import TurnRequest
from pool.webhooks import Webhooks

KEY_MAX: Final = 128


def check_request(
    request: TurnRequest,
    idempotency_key: str | None,
    webhooks: Webhooks | None,
    config: PoolConfig,
) -> None:
    """`InvalidRequest` for a key of the wrong length, metadata that are no plain data or too deep,
    or a webhook that may not or cannot be posted to; `TooLarge` for an input or metadata that are.
    """
    if len(request.input) > config.max_input_chars:
        raise TooLarge(
            f"the input has {len(request.input)} characters; "
            f"at most {config.max_input_chars} are taken"
        )
    if request.metadata:
        check_metadata(request.metadata, config)
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


def check_metadata(metadata: Mapping[str, Any], config: PoolConfig) -> None:
    """`InvalidRequest` for metadata that cannot be written as JSON, or are nested too deeply;
    `TooLarge` if they are.
    """
    if _deeper_than(config.max_metadata_depth, metadata):
        raise InvalidRequest(
            f"metadata may be nested {config.max_metadata_depth} deep", field="metadata"
        )
    try:
        size = len(msgspec.json.encode(metadata))
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(
            "metadata are plain data: what JSON can hold", field="metadata"
        ) from None
    if size > config.max_metadata_bytes:
        raise TooLarge(
            f"the metadata take {size} bytes as JSON; at most {config.max_metadata_bytes} are taken"
        )


def _deeper_than(depth: int, value: Any) -> bool:
    """Whether objects and lists are within each other more than `depth` times."""
    level = [value]
    for _ in range(depth + 1):
        level = [each for each in level if isinstance(each, Mapping | list | tuple)]
        if not level:
            return False
        level = [
            inner
            for each in level
            for inner in (each.values() if isinstance(each, Mapping) else each)
        ]
    return True


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
