"""The operator's commands about the audit log: whether it is whole, and what is in it."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import click

from pool.errors import ConfigError
from pool.text import no_formula
from protocol.command.audit_lines import Take, each_line
from protocol.command.mistakes import mistakes
from protocol.command.screen import visible

if TYPE_CHECKING:
    from pool.guard.audit_chain import ChainState, Checker
    from pool.guard.audit_records import Head, Record

_COLUMNS: Final = (
    *("at", "action", "outcome", "tenant", "user", "roles", "subject", "reason"),
    *("request_id", "arguments", "chain", "number", "hash"),
)

_files = click.argument("files", nargs=-1, metavar="[FILE]...")
_store = click.option("--store", "url", metavar="URL", help="The server's store [as `serve` has].")
_config = click.option("--config", metavar="FILE", help="TOML [actorpool.toml, if there is one].")


@click.group()
def audit() -> None:
    """The log of who did what: in FILEs (all that it was rotated to), else in the store."""


@audit.command()
@_files
@_store
@_config
@click.option("--key-file", metavar="FILE", help="The key that the log is sealed with.")
@click.option(
    "--head",
    "heads",
    multiple=True,
    metavar="CHAIN:NUMBER:HASH",
    help="A record that was written down elsewhere: the chain has to go through it.",
)
@click.option(
    "--ended",
    multiple=True,
    metavar="CHAIN:NUMBER:HASH",
    help="A record after which, as you know, the process was killed.",
)
def verify(
    files: tuple[str, ...],
    url: str | None,
    config: str | None,
    key_file: str | None,
    heads: tuple[str, ...],
    ended: tuple[str, ...],
) -> None:
    """Find records that were changed, removed, moved or cut off; 1 if there are any.

    A chain that its process did not close, and that is not alive or went on later, counts as cut
    off: nobody can tell a killed process from a log whose end was removed. FILEs with --store are
    compared with how far the store knows their chains to go.
    """
    with mistakes():
        from pool.guard.audit_chain import Checker
        from protocol.command.audited import seal_of

        checker = Checker(
            seal_of(key_file, option="--key-file"),
            anchors=[_head(each, "--head") for each in heads],
            ended=[_head(each, "--ended") for each in ended],
        )
        each_line(files, url, config, checker.read, checker.expect)
        checker.end(time.time())
    for line in _report(checker):
        click.echo(line)
    sys.exit(1 if checker.findings or not checker.chains else 0)


@audit.command()
@_files
@_store
@_config
@click.option("--since", metavar="TIME", help="Only from then on, as 2026-01-31T12:00 (UTC).")
@click.option("--json/--csv", "as_json", default=True, help="One JSON object a line, or a table.")
def export(
    files: tuple[str, ...], url: str | None, config: str | None, since: str | None, as_json: bool
) -> None:
    """Write the records to standard output. Whether they are genuine is for `verify` to say."""
    with mistakes():
        each_line(files, url, config, _exporter(_moment(since), as_json=as_json), _no_matter)


# --- what is said


def _report(checker: Checker) -> Iterator[str]:
    for name, state in checker.chains.items():
        yield f"{visible(name)}: {_summary(state)}"
    for finding in checker.findings:
        yield visible(": ".join(filter(None, (finding.chain, finding.detail))))
    if not checker.chains:
        yield "there are no records"
    elif not checker.findings:
        yield "nothing is wrong"


def _summary(state: ChainState) -> str:
    first, last = (_iso(record.at) for record in (state.first, state.last))
    crashes = f", not closed {state.crashes} times before" if state.crashes else ""
    return f"{state.records} records, {first} to {last}, {state.end}{crashes}"


def _exporter(since: float, *, as_json: bool) -> Take:
    import msgspec

    from pool.guard.audit_records import read_line

    table = csv.writer(sys.stdout)

    def take(place: str, line: bytes) -> None:
        read = read_line(line)
        if read is None:
            click.echo(f"actorpool: {visible(place)} is no record", err=True)
            return
        sealed, record = read
        if record.at < since:
            return
        fields = _fields(record, sealed.hash)
        if as_json:
            click.echo(msgspec.json.encode(fields))
        else:
            table.writerow([_cell(fields[name]) for name in _COLUMNS])

    if not as_json:
        table.writerow(_COLUMNS)
    return take


def _fields(record: Record, hash_: str) -> dict[str, Any]:
    fields = {name: getattr(record, name, None) for name in _COLUMNS}
    return {**fields, "at": _iso(record.at), "hash": hash_}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return no_formula(" ".join(value) if isinstance(value, tuple) else str(value))


def _iso(at: float) -> str:
    try:
        moment = datetime.fromtimestamp(at, UTC)
    except (ValueError, OverflowError, OSError):
        # somebody tampered with it
        return str(at)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- what was asked


def _head(text: str, option: str) -> Head:
    from pool.guard.audit_records import Head

    chain, _, rest = text.partition(":")
    number, _, hash_ = rest.partition(":")
    if not (chain and hash_ and number.isascii() and number.isdigit() and len(number) < 20):
        raise ConfigError(option, text, "write CHAIN:NUMBER:HASH")
    return Head(chain, int(number), hash_)


def _moment(text: str | None) -> float:
    if text is None:
        return float("-inf")
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError("--since", text, "write a time, as 2026-01-31T12:00") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _no_matter(_: object) -> None:
    """What is exported need not be whole."""
