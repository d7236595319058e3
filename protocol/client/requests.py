"""Turn requests as callers write them, and as they go over the wire. Pure."""

from __future__ import annotations

from secrets import token_urlsafe
from typing import Any, TypedDict

from pool.turn import Complexity, IfBusy, OnDisconnect, Priority


class TurnOptions(TypedDict, total=False):
    """What a turn request may say beside its input. What is left out is the server's default."""

    agent: str | None
    deadline_s: float | None
    priority: Priority | None
    if_busy: IfBusy | None
    on_disconnect: OnDisconnect | None
    webhook: str | None
    metadata: dict[str, Any] | None
    complexity: Complexity | None


def turn_body(text: str, options: TurnOptions) -> dict[str, Any]:
    """The turn request, without what is left to the server."""
    body = given(**{"input": text, **options})
    if "webhook" in body:
        body["webhook"] = {"url": body["webhook"]}
    return body


def given(**fields: Any) -> dict[str, Any]:
    """The fields that have a value."""
    return {name: value for name, value in fields.items() if value is not None}


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return token_urlsafe(16)


def new_session() -> str:
    """A session's id that cannot be guessed."""
    return f"c{token_urlsafe(16)}"
