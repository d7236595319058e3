"""API keys in a store that a server may be using: made, listed, withdrawn."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import click

from pool.errors import NotFound, PoolError
from pool.guard.api_key import ApiKey
from pool.guard.keys import ApiKeys
from pool.store.base import Store
from pool.store.urls import scheme_of, sqlite_path
from protocol.command import places
from protocol.command.audited import Notes
from protocol.command.table import moment, print_lines, print_table
from protocol.settings import StoreSettings

_HEAD = ("KEY", "TENANT", "USER", "ROLES", "NAME", "CREATED", "EXPIRES")


@asynccontextmanager
async def open_store(settings: StoreSettings, environ: Mapping[str, str]) -> AsyncIterator[Store]:
    """The store of a server that runs, or is yet to be started for the first time."""
    url = places.url_of(settings, environ)
    path = sqlite_path(url) if scheme_of(url) == "sqlite" else None
    begun = path is None or path.is_file()
    opening = places.existing(settings, environ) if begun else places.lasting(settings, environ)
    async with opening as store:
        yield store


async def create(
    store: Store,
    notes: Notes,
    *,
    tenant: str,
    user: str,
    roles: Sequence[str],
    name: str,
    expires: float | None,
) -> int:
    """Make a key and show it, once."""
    made = await ApiKeys(store).create(
        tenant=tenant, user=user, roles=roles, name=name, expires_in_s=expires
    )
    key = made.key
    notes.done("create_key", f"key:{key.id} tenant:{key.tenant}", reason=",".join(key.roles))
    click.echo(made.text)
    until = "" if key.expires_at is None else f", until {moment(key.expires_at)}"
    click.echo(
        f"[key {key.id} of tenant {key.tenant}: {', '.join(key.roles)}{until}; "
        "keep it, it is not shown again]",
        err=True,
    )
    return 0


async def list_keys(store: Store, *, as_json: bool) -> int:
    """All keys, without their hashes."""
    found = await ApiKeys(store).list()
    if as_json:
        print_lines(json.dumps(_plain(key)) for key in found)
    else:
        print_table(_HEAD, [_row(key) for key in found])
    return 0


async def revoke(store: Store, notes: Notes, ids: Iterable[str]) -> int:
    """Withdraw keys, and say which there were none of."""
    keys = ApiKeys(store)
    code = 0
    for key_id in ids:
        if key_id.startswith("ap_"):
            # a whole key may have been given, which should be in nobody's history
            key_id = key_id.split("_")[1]
        try:
            if not await keys.revoke(key_id):
                raise NotFound(f"there is no key {key_id}")
        except PoolError as error:
            # what is wrong with one does not keep the others from it
            click.echo(f"actorpool: {error}", err=True)
            code = 1
        else:
            notes.done("revoke_key", f"key:{key_id}")
            click.echo(f"key {key_id} counts no more")
    return code


def _row(key: ApiKey) -> Sequence[str]:
    made, expires = moment(key.created_at), moment(key.expires_at)
    return (key.id, key.tenant, key.user, ",".join(key.roles), key.name or "-", made, expires)


def _plain(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "tenant": key.tenant,
        "user": key.user,
        "roles": list(key.roles),
        "name": key.name,
        "created_at": moment(key.created_at),
        "expires_at": None if key.expires_at is None else moment(key.expires_at),
    }
