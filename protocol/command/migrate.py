"""Copying all sessions of one store into another, and making sure that they are there.

Each session is carried whole and in one step, or left alone where the target has one of that name:
what was broken off is begun again. At the end every session of the source is looked for in the
target, whoever carried it there, and compared.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Final

import click
from msgspec import Struct

from pool.errors import ConfigError, DeadLetter
from pool.events import START, Cursor
from pool.store.base import SessionKey, Store
from pool.turn import SessionInfo
from protocol.command import places
from protocol.command.audited import noting
from protocol.settings import AuditSettings, StoreSettings

# Sessions that are on their way at the same time.
_AT_ONCE: Final = 16
_PAGE: Final = 500
# Dead letters that an operator may have put aside; more there are not in any store.
_DEAD_LETTERS_MAX: Final = 1_000_000
# How many names of sessions are said.
_SAID_MAX: Final = 20


class Tally(Struct):
    """What became of the sessions of the source."""

    carried: int = 0
    turns: int = 0
    there_before: int = 0
    # ended while they were about to be carried
    gone: int = 0
    # of the source that the target has not, or not as they are
    missing: list[SessionKey] = []
    different: list[SessionKey] = []

    @property
    def whole(self) -> bool:
        """Whether the target has all that the source has."""
        return not self.missing and not self.different


async def migrate(
    source: StoreSettings,
    target: StoreSettings,
    environ: Mapping[str, str],
    *,
    audit: AuditSettings,
) -> int:
    """Copy all sessions from one store to the other, and say so, also in the audit log; the exit
    code.
    """
    if places.said(source, environ) == places.said(target, environ):
        raise ConfigError("--to", places.said(target, environ), "is where they are already")
    async with AsyncExitStack() as stack:
        old = await stack.enter_async_context(places.existing(source, environ, exclusive=True))
        new = await stack.enter_async_context(places.lasting(target, environ))
        await _check_alone("--from", old, source, environ)
        await _check_alone("--to", new, target, environ)
        notes = await stack.enter_async_context(noting(audit, new))
        tally = Tally()
        await carry(old, new, tally)
        await compare(old, new, tally)
        where = f"store:{places.said(target, environ)}"
        notes.done("migrate", where, reason=f"{tally.carried} sessions")
    for line in report(tally):
        click.echo(line)
    return 0 if tally.whole else 1


async def carry(old: Store, new: Store, tally: Tally) -> None:
    """Carry every session that the new store has not."""
    listed = {turn.id for turn in await old.dead_letters(None, _DEAD_LETTERS_MAX)}
    progress = Progress("carrying")
    async for keys in _pages(old):
        for first in range(0, len(keys), _AT_ONCE):
            some = keys[first : first + _AT_ONCE]
            carrying = (_carry_one(old, new, key, listed, tally) for key in some)
            # all of them end before an error ends the command
            for outcome in await asyncio.gather(*carrying, return_exceptions=True):
                if outcome is not None:
                    raise outcome
            progress.moved(len(some))
    progress.end()


async def compare(old: Store, new: Store, tally: Tally) -> None:
    """Look for every session of the old store in the new one."""
    progress = Progress("comparing")
    async for keys in _pages(old):
        for key in keys:
            had, has = await old.session(key), await new.session(key)
            if had is None:
                continue
            if has is None:
                tally.missing.append(key)
            elif _extent(has) != _extent(had):
                tally.different.append(key)
        progress.moved(len(keys))
    progress.end()


def report(tally: Tally) -> list[str]:
    """What is said at the end."""
    carried = f"carried {tally.carried} sessions with {tally.turns} turns"
    lines = [f"{carried}, left {tally.there_before} that were there before"]
    if tally.gone:
        lines.append(f"{tally.gone} sessions came to the end of their time meanwhile")
    for what, keys in (
        ("are missing in the target", tally.missing),
        ("are not the same in both: delete them in one", tally.different),
    ):
        if keys:
            lines.append(f"{len(keys)} sessions {what}:")
            lines += [f"  {key.tenant} {key.id}" for key in keys[:_SAID_MAX]]
            if len(keys) > _SAID_MAX:
                lines.append(f"  and {len(keys) - _SAID_MAX} more")
    lines.append("all sessions are there" if tally.whole else "not all sessions are there")
    return lines


class Progress:
    """A line that counts, on standard error: rewritten on a terminal, else at the end only."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = 0
        self._live = sys.stderr.isatty()

    def moved(self, count: int) -> None:
        """So many more."""
        self._count += count
        if self._live:
            click.echo(f"\r{self._what}: {self._count} sessions", err=True, nl=False)

    def end(self) -> None:
        """That was all."""
        start = "\r" if self._live else ""
        click.echo(f"{start}{self._what}: {self._count} sessions", err=True)


async def _carry_one(
    old: Store, new: Store, key: SessionKey, dead_letters: set[str], tally: Tally
) -> None:
    session = await old.carry_out(key)
    if session is None:
        tally.gone += 1
        return
    if not await new.carry_in(session):
        tally.there_before += 1
        return
    tally.carried += 1
    tally.turns += len(session.turns)
    for turn in session.turns:
        dead = turn.error is not None and turn.error.code == DeadLetter.code
        if dead and turn.id not in dead_letters:
            # an operator has put it aside: it stays so
            await new.forget_dead_letter(turn.id)


def _extent(info: SessionInfo) -> tuple[int, Cursor]:
    """How many turns a session has had, and where its log ends."""
    end = Cursor.parse(info.cursor)
    # a log without events may have any epoch
    return info.turns, end if end.seq else START


async def _pages(store: Store) -> AsyncIterator[list[SessionKey]]:
    after: str | None = None
    while True:
        keys, after = await store.all_sessions(after, _PAGE)
        yield keys
        if after is None:
            return


async def _check_alone(
    option: str, store: Store, settings: StoreSettings, environ: Mapping[str, str]
) -> None:
    """`ConfigError` if servers use the store: what they write now might be left behind."""
    running = await store.replicas()
    if running:
        names = ", ".join(replica.name for replica in running[:3])
        remedy = (
            f"{len(running)} servers use it ({names}): stop them; one that was killed is gone "
            f"after {settings.lease_s:g} s"
        )
        raise ConfigError(option, places.said(settings, environ), remedy)
