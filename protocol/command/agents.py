"""Agents that an operator has disabled: kept in the store, and followed by every server on it."""

from __future__ import annotations

import json

import click

from pool.guard.switches import Switches
from pool.replicas import agents_up
from pool.store.base import Store
from protocol.command.audited import Notes
from protocol.command.screen import visible
from protocol.command.table import moment, print_lines, print_table

_HEAD = ("AGENT", "SINCE", "CANCELS", "REASON")


async def disable(store: Store, notes: Notes, agent: str, *, reason: str, cancel: bool) -> int:
    """Refuse an agent's new turns."""
    await Switches(store).disable(agent, reason=reason, cancel=cancel)
    notes.done("disable_agent", f"agent:{agent}", reason="turns cancelled" if cancel else "")
    turns = "its turns are cancelled" if cancel else "turns that it has go on"
    click.echo(f"agent {agent} is disabled: new turns are refused, {turns}")
    await _look_for(store, agent)
    return 0


async def _look_for(store: Store, agent: str) -> None:
    """Say so if it may be that nobody has an agent of this name."""
    up = await agents_up(store)
    if not up:
        click.echo("it is not known here whether a server has an agent of this name")
    elif agent not in up:
        names = visible(", ".join(sorted(up)))
        warning = f"no server that is up has an agent {agent}; they have: {names}"
        click.echo(f"actorpool: {warning}", err=True)


async def enable(store: Store, notes: Notes, agent: str) -> int:
    """Take an agent's turns again."""
    if not await Switches(store).enable(agent):
        click.echo(f"actorpool: agent {agent} is not disabled", err=True)
        return 1
    notes.done("enable_agent", f"agent:{agent}")
    click.echo(f"agent {agent} takes turns again")
    return 0


async def list_disabled(store: Store, *, as_json: bool) -> int:
    """The agents that are disabled, since when and why."""
    found = await Switches(store).list()
    if as_json:
        print_lines(
            json.dumps(
                {
                    "agent": switch.agent,
                    "since": moment(switch.since),
                    "cancel": switch.cancel,
                    "reason": switch.reason,
                }
            )
            for switch in found
        )
    else:
        rows = [
            (each.agent, moment(each.since), "yes" if each.cancel else "no", each.reason or "-")
            for each in found
        ]
        print_table(_HEAD, rows)
    return 0
