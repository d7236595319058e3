"""Logs of a pool: one line a turn, and a line for what an operator should know.

Nothing here configures structlog when it is imported or used in somebody's program: `Logs()` then
writes through the program's own configuration. `configure` is for a process that is ours alone,
the command.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from time import time
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal

import msgspec
import structlog
from msgspec import Struct

from pool.observer import Notice, Take, TurnEndedNotice, TurnRefusedNotice
from pool.telemetry import processors
from pool.telemetry.advice import TELL, Refusals
from pool.telemetry.lines import LineWriter

if TYPE_CHECKING:
    from pool.guard.redact_logs import RedactLogs

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_SEVERITY: Final[dict[Level, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
# A date costs as much as a quarter of its line: the lines of a millisecond share one.
_DATED_S: Final = 0.001

_log = structlog.get_logger("pool")


class TurnLine(Struct, frozen=True, omit_defaults=True, gc=False):
    """The line that a turn leaves: what became of it, never what was said in it."""

    timestamp: str
    level: str
    event: str
    agent: str
    state: str
    turn_id: str
    session_id: str
    request_id: str
    tenant: str
    attempt: int
    queued_s: float
    run_s: float
    first_token_s: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    tool_calls: int = 0
    cost_usd: float | None = None
    error: str | None = None
    marks: tuple[str, ...] = ()


class Logs:
    """An observer that logs.

    `lines`: where the turns' lines go, as JSON, from `level` on. Without it they too are ordinary
    lines of structlog. `redact`: what callers chose in those lines is redacted.
    """

    def __init__(
        self,
        lines: LineWriter | None = None,
        *,
        level: Level = "info",
        redact: RedactLogs | None = None,
    ) -> None:
        self._lines = lines
        self._redact = redact
        self._least = _SEVERITY[level]
        self._encode = msgspec.json.Encoder().encode
        self._dated_at = 0.0
        self._date = ""
        self._takers: dict[type[Notice], Take] = {
            **TELL,
            TurnEndedNotice: self._turn_ended,
            TurnRefusedNotice: Refusals().tell,
        }

    def notice(self, notice: Notice) -> None:
        """Log what happened, if it is worth a line."""
        take = self._takers.get(type(notice))
        if take is not None:
            take(notice)

    def taker(self, kind: type[Notice]) -> Take | None:
        """See `Chooser`."""
        return self._takers.get(kind)

    def _turn_ended(self, notice: TurnEndedNotice) -> None:
        turn = notice.turn
        level: Level = "warning" if turn.state == "failed" else "info"
        if _SEVERITY[level] < self._least:
            return
        now = time()
        if not 0.0 <= now - self._dated_at < _DATED_S:
            self._dated_at = now
            date = datetime.fromtimestamp(now, UTC)
            self._date = date.isoformat(timespec="microseconds")[:26] + "Z"
        usage, first_s = turn.usage, notice.first_token_s
        # by position: naming nineteen fields costs as much as the rest of the line
        line = TurnLine(
            self._date,
            level,
            "turn ended",
            turn.agent,
            turn.state,
            turn.id,
            turn.session_id,
            notice.request_id,
            turn.tenant,
            turn.attempt,
            # to the microsecond; round() costs several times as much
            (turn.queued_s * 1e6 + 0.5) // 1.0 / 1e6,
            (turn.run_s * 1e6 + 0.5) // 1.0 / 1e6,
            (first_s * 1e6 + 0.5) // 1.0 / 1e6 if first_s is not None else None,
            usage.input_tokens,
            usage.output_tokens,
            usage.tool_calls,
            usage.cost_usd,
            turn.error.code if turn.error is not None else None,
            turn.marks,
        )
        if self._redact is not None:
            line = _redacted(line, self._redact)
        if self._lines is not None:
            self._lines.write(self._encode(line))
        else:
            _log.log(_SEVERITY[level], line.event, **_fields(line))


def configure(
    *,
    format: Format = "auto",  # noqa: A002 - what it is called everywhere else
    level: Level = "info",
    stream: BinaryIO | None = None,
    redact: RedactLogs | None = None,
) -> tuple[Logs, LineWriter]:
    """Set up the logs of this whole process, those of the standard library's logging included.

    `auto` is readable on a terminal and JSON elsewhere. Only at level `debug` are exceptions logged
    with their text. `redact`: what every line is put through before it is written. Returns the
    observer for the pool, and the writer, to be flushed at the end.
    """
    stream = stream if stream is not None else sys.stderr.buffer
    lines = LineWriter(stream)
    readable = format == "console" or (format == "auto" and stream.isatty())
    steps: list[Any] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        processors.add_scope,
    ]
    quote = level == "debug"
    if not quote:
        steps.append(processors.outline_exception)
    elif redact is not None or not readable:
        # as text, so that it can be looked through; the console would write it by itself
        steps.append(structlog.processors.format_exc_info)
    if redact is not None:
        steps.append(redact)
    steps.append(_console(colors=stream.isatty()) if readable else processors.render_json)
    structlog.configure(
        processors=steps,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lines,
        cache_logger_on_first_use=True,
    )
    bridge = processors.Bridge(quote=quote)
    # libraries at info are about themselves: one line a request, say
    logging.basicConfig(handlers=[bridge], level=level.upper(), force=True)
    # as ordinary lines those of turns take all the steps
    return Logs(level=level) if readable else Logs(lines, level=level, redact=redact), lines


def _console(*, colors: bool) -> Any:
    from structlog import dev

    return dev.ConsoleRenderer(
        colors=colors, exception_formatter=dev.plain_traceback, sort_keys=False
    )


def _redacted(line: TurnLine, redact: RedactLogs) -> TurnLine:
    """The line without what is personal or secret in the names that callers gave."""
    session_id, request_id, tenant = redact.texts(line.session_id, line.request_id, line.tenant)
    return msgspec.structs.replace(
        line, session_id=session_id, request_id=request_id, tenant=tenant
    )


def _fields(line: TurnLine) -> dict[str, Any]:
    """What a line of structlog says itself is left to it; what is not known is left out."""
    given = msgspec.structs.asdict(line).items()
    own = ("timestamp", "level", "event")
    return {name: value for name, value in given if name not in own and value is not None}
