"""The audit log of a server's process, and of the commands that an operator gives next to it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from uuid import uuid4

import click

from pool.errors import ConfigError, StoreUnavailable
from pool.guard.audit import Audit
from pool.guard.audit_file import FileSink, check_file
from pool.guard.audit_records import Seal
from pool.guard.audit_store import StoreSink
from pool.store.base import Store
from pool.turn import Principal
from protocol.settings import AuditSettings

# One process has one file: commands have another one than the server, next to it.
_OF_COMMANDS: Final = ".commands"
# They wait so long for each other, in seconds.
_WAIT_S: Final = 5.0


class Notes:
    """What a command did, noted in the audit log if there is one. The operator is who the system
    says: the number of the user.
    """

    def __init__(self, audit: Audit | None) -> None:
        self._audit = audit
        self._who = Principal("", f"uid:{os.getuid()}", ("admin",))

    def done(self, verb: str, subject: str, *, reason: str = "") -> None:
        """`verb` was done to `subject`, for `reason`."""
        if self._audit is not None:
            self._audit.record(f"admin.{verb}", "done", self._who, subject, reason=reason)


def audit_of(
    settings: AuditSettings, store: Store, *, chain: str, beside: str = "", wait_s: float = 0.0
) -> Audit | None:
    """The audit log that is configured, to be opened; None if there is none. `beside` ends the name
    of its file, for which it waits so long if another process has it. `ConfigError` for a key that
    cannot be, or a store that forgets.
    """
    if settings.to == "off":
        return None
    seal = seal_of(settings.key_file, option="audit.key_file")
    if settings.to == "store":
        if not store.durable:
            remedy = "this store is of the process alone, and full one day: name a file, or a store"
            raise ConfigError("audit.to", settings.to, f"{remedy} with a disk")
        return Audit(StoreSink(store), chain=chain, seal=seal, config=settings)
    sink = FileSink(Path(settings.to + beside), fsync=settings.fsync, wait_s=wait_s)
    return Audit(sink, chain=chain, seal=seal, config=settings, heads=store)


def check_audit(settings: AuditSettings, store: Store) -> None:
    """`ConfigError` if a server could not open the audit log that is configured. Nothing is made
    for that, and a server may have it open.
    """
    if audit_of(settings, store, chain="check") is not None and settings.to != "store":
        check_file(Path(settings.to))


@asynccontextmanager
async def noting(
    settings: AuditSettings, store: Store, *, urgent: bool = False
) -> AsyncIterator[Notes]:
    """Where a command notes what it does. It does nothing if its log cannot be opened:
    `ConfigError`, `StoreUnavailable`. What is `urgent` is done all the same, and says so.
    """
    audit: Audit | None = None
    try:
        audit = await _opened(settings, store)
    except (ConfigError, StoreUnavailable) as error:
        if not urgent:
            raise
        click.echo(f"actorpool: this is not in the audit log: {error}", err=True)
    try:
        yield Notes(audit)
    finally:
        if audit is not None:
            await audit.close()


async def _opened(settings: AuditSettings, store: Store) -> Audit | None:
    chain = f"command-{uuid4().hex[:12]}"
    audit = audit_of(settings, store, chain=chain, beside=_OF_COMMANDS, wait_s=_WAIT_S)
    if audit is not None:
        await audit.open()
    return audit


def seal_of(key_file: str | None, *, option: str) -> Seal:
    """The seal with the key of a file; `ConfigError` if there is none, or it is too short."""
    if key_file is None:
        return Seal()
    try:
        return Seal(Path(key_file).read_bytes().rstrip(b"\r\n"))
    except OSError as error:
        raise ConfigError(option, key_file, error.strerror or "is not readable") from None
    except ValueError as error:
        raise ConfigError(option, key_file, str(error)) from None
