"""The steps from a call of a logger to a line, and the bridge from the standard library's logging.

No line tells what users, agents and tools said. An exception becomes the name of its type and the
places it came through: its text may quote an input or a key.
"""

from __future__ import annotations

import logging
from asyncio import Task
from collections.abc import Callable, MutableMapping
from sys import exc_info
from traceback import walk_tb
from typing import Any, Final

import msgspec
import structlog

from pool import scope

Fields = MutableMapping[str, Any]

FRAMES_MAX: Final = 12
# Libraries whose messages quote requests and exceptions: of these only the fixed words are logged.
# "client" is how the sessions of the MCP library call themselves.
_QUOTING: Final = ("asyncio", "aiohttp", "httpx2", "client")
# And those whose words themselves have what a server said: of these only where they said it.
_QUOTING_IN_WORDS: Final = ("mcp",)


def add_scope(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Say which turn the line was written in."""
    turn = scope.current.get()
    if turn is not None:
        record = turn.record
        fields.setdefault("agent", record.agent)
        fields.setdefault("session_id", record.session_id)
        fields.setdefault("turn_id", record.id)
        fields.setdefault("request_id", turn.request_id)
    return fields


def outline_exception(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Put the type and the places of an exception for the exception itself."""
    error = _exception_of(fields.pop("exc_info", None))
    if error is not None:
        fields["exception"] = " from ".join(_type_names(error))
        fields["frames"] = _places(error)
    return fields


def render_json(_logger: Any, _method: str, fields: Fields) -> bytes:
    """The line as JSON. Of values that JSON cannot hold, the name of their type."""
    return _encoder.encode(fields)


class Bridge(logging.Handler):
    """Hands records of the standard library's logging to structlog.

    With `quote` the messages of libraries are whole, with it texts of exceptions and of requests.
    """

    def __init__(self, *, quote: bool) -> None:
        super().__init__()
        self._quote = quote

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record."""
        logger = structlog.get_logger(record.name)
        try:
            text = self._text(record)
        except (TypeError, ValueError):
            text = f"{record.msg} (its arguments do not fit)"
        # structlog knows no levels between those that have a name
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        logger.log(level, text, exc_info=record.exc_info)

    def _text(self, record: logging.LogRecord) -> str:
        library = record.name.partition(".")[0]
        if not self._quote and library in _QUOTING_IN_WORDS:
            return f"{record.name}: {record.funcName}"
        if not self._quote and library in _QUOTING:
            return str(record.msg).partition("\n")[0]
        return record.getMessage()


def loop_exception_handler(
    log: structlog.typing.FilteringBoundLogger,
) -> Callable[[Any, Any], None]:
    """A handler for an event loop that logs what nobody caught, without the texts of exceptions."""

    def handle(_loop: Any, context: dict[str, Any]) -> None:
        task = context.get("task") or context.get("future")
        log.error(
            _fixed_words(context.get("message", "an exception that nobody caught")),
            task=task.get_name() if isinstance(task, Task) else None,
            exc_info=context.get("exception"),
        )

    return handle


def _fixed_words(message: str) -> str:
    """The message of an event loop without the callback that it quotes, arguments and all."""
    callback = "Exception in callback"
    return callback if message.startswith(callback) else message.partition("\n")[0]


def _exception_of(given: Any) -> BaseException | None:
    """The exception that a logger's `exc_info` means: itself, in a triple, or the one in hand."""
    if isinstance(given, tuple):
        given = given[1]
    if isinstance(given, BaseException):
        return given
    return exc_info()[1] if given else None


def _type_names(error: BaseException) -> list[str]:
    names = []
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        names.append(type(cause).__qualname__)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return names


def _places(error: BaseException) -> list[str]:
    places = [
        f"{frame.f_globals.get('__name__', '?')}:{frame.f_code.co_name}:{line}"
        for frame, line in walk_tb(error.__traceback__)
    ]
    return places[-FRAMES_MAX:]


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"


_encoder: Final = msgspec.json.Encoder(enc_hook=_type_name)
