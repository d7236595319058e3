"""The records of an audit log, and how each is sealed to the one before it.

A record is sealed by a hash over the hash of the record before it and its own canonical JSON (keys
sorted, no spaces, UTF-8). With a key the hash is an HMAC: who has no key cannot make another chain.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from pool.text import writable
from pool.turn import Principal

# What the log says about itself. OPENED and ALIVE have in `reason` within how many seconds the next
# record follows while the process lives; LOST how many records were not kept.
OPENED: Final = "audit.opened"
ALIVE: Final = "audit.alive"
LOST: Final = "audit.lost"
CLOSED: Final = "audit.closed"
# The outcome of OPENED if records are gone that were there by what was written down elsewhere.
CUT: Final = "cut"

# What the log says of itself is said by nobody.
ITSELF: Final = Principal("", "", ())

NO_HASH: Final = "0" * 64
KEY_BYTES_MIN: Final = 32
# Of longer texts, and more roles, the first so many are kept: a record is small.
TEXT_MAX: Final = 256
ROLES_MAX: Final = 32


class Record(Struct, frozen=True, kw_only=True, gc=False):
    """Something that happened: who did what to what, and what came of it.

    `action` and `outcome` are words (`turn.accept`, `refused`), `reason` the code of why. `at` is
    in seconds since the epoch. `arguments`: the digest of a tool's arguments, never themselves.
    `prev` is the hash of the chain's record before, `number` counts them from 1.
    """

    # in the order of their names: that is the canonical one
    action: str
    arguments: str | None = None
    at: float
    chain: str
    number: int
    outcome: str
    prev: str
    reason: str = ""
    request_id: str = ""
    roles: tuple[str, ...] = ()
    subject: str = ""
    tenant: str = ""
    user: str = ""


class Head(NamedTuple):
    """The last record of a chain so far."""

    chain: str
    number: int
    hash: str


class Happening(Struct, frozen=True, gc=False):
    """What is to become a record."""

    at: float
    action: str
    outcome: str
    principal: Principal
    subject: str = ""
    request_id: str = ""
    arguments: str | None = None
    reason: str = ""


class Sealed(Struct, frozen=True, gc=False):
    """A record as it is written, in one line without its end; `head` with it as the last."""

    head: Head
    line: bytes


class Line(Struct, frozen=True):
    """A line of the log: the record, as its very bytes, and its hash."""

    hash: str
    record: msgspec.Raw


class Seal:
    """Makes hashes; with a `key` (32 bytes or more) only who has it can."""

    def __init__(self, key: bytes | None = None) -> None:
        if key is not None and len(key) < KEY_BYTES_MIN:
            raise ValueError(f"the key of an audit log has at least {KEY_BYTES_MIN} bytes")
        self._key = key

    def __repr__(self) -> str:
        return f"<Seal {'with' if self._key else 'without'} a key>"

    def hash(self, prev: str, record: bytes) -> str:
        """The hash of a record, given as its canonical JSON, that follows `prev`."""
        return self._hash(prev.encode() + record)

    def digest(self, arguments: Mapping[str, Any]) -> str:
        """The digest of a tool's arguments: equal for equal ones. Without a key, arguments that can
        be guessed can be found out from it.
        """
        # not the form of a record: whoever chooses arguments is not to have one sealed
        return self._hash(b"arguments " + _encode_arguments(arguments))

    def seal(self, head: Head, happening: Happening) -> Sealed:
        """The record of what happened, as the one after `head`."""
        chain, number, prev = head
        number += 1
        record = _record(chain, number, prev, happening)
        sealed = self._hash(prev.encode() + record)
        # a `Line`: what is encoded already is not encoded again
        line = b'{"hash":"%b","record":%b}' % (sealed.encode(), record)
        return Sealed(Head(chain, number, sealed), line)

    def _hash(self, data: bytes) -> str:
        if self._key is None:
            return sha256(data).hexdigest()
        return hmac.digest(self._key, data, "sha256").hex()


def read_line(line: bytes) -> tuple[Line, Record] | None:
    """A line and the record in it; None if it is none."""
    try:
        read = _decode_line(line)
        return read, _decode_record(read.record)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def head_of(line: bytes) -> Head | None:
    """The chain's head after this line; None if it is none."""
    read = read_line(line)
    return None if read is None else Head(read[1].chain, read[1].number, read[0].hash)


def _record(chain: str, number: int, prev: str, happening: Happening) -> bytes:
    who = happening.principal
    record = Record(
        action=happening.action,
        arguments=happening.arguments,
        at=round(happening.at, 6),
        chain=chain,
        number=number,
        outcome=happening.outcome,
        prev=prev,
        reason=happening.reason,
        request_id=happening.request_id,
        roles=who.roles,
        subject=happening.subject,
        tenant=who.tenant,
        user=who.user,
    )
    try:
        encoded = _encode(record)
    except UnicodeEncodeError:
        return _encode(_small(record))
    if len(encoded) - len(prev) > _SHORT or len(who.roles) > ROLES_MAX:
        return _encode(_small(record))
    return encoded


def _small(record: Record) -> Record:
    """The record with all texts that somebody else may have chosen cut, and made writable."""
    return replace(
        record,
        action=_text(record.action),
        outcome=_text(record.outcome),
        reason=_text(record.reason),
        request_id=_text(record.request_id),
        roles=tuple(map(_text, record.roles[:ROLES_MAX])),
        subject=_text(record.subject),
        tenant=_text(record.tenant),
        user=_text(record.user),
    )


def _text(text: str) -> str:
    return writable(text[:TEXT_MAX])[0]


def _type_name(value: object) -> str:
    return f"<{type(value).__qualname__}>"


_encode: Final = msgspec.json.Encoder().encode
# A record that has no more bytes, besides the hash, has no text that is too long.
_SHORT: Final = TEXT_MAX + len(
    _encode(Record(action="", at=0.0, chain="", number=1, outcome="", prev=""))
)
_encode_arguments: Final = msgspec.json.Encoder(order="sorted", enc_hook=_type_name).encode
_decode_line: Final = msgspec.json.Decoder(Line).decode
_decode_record: Final = msgspec.json.Decoder(Record).decode
