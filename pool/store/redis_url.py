"""Where a Redis is, and who we are to it: read from a URL, and never shown with its passwords.

redis://[user:password@]host[:port][/db]                           one server
rediss://...                                                       the same, with TLS
redis+sentinel://[user:password@]host[:port],.../name[/db]         the master that sentinels name
redis+cluster://[user:password@]host[:port],...                    a cluster, by some of its nodes

Options, after a `?`: `tls=true` (any of them), `ca_file=/path` (whom to trust besides the system's
authorities), `sentinel_user=` and `sentinel_password=`. What has special signs is percent-encoded.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal, NamedTuple, NoReturn
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from pool.errors import ConfigError
from pool.store.urls import OPTION, without_password

Kind = Literal["server", "sentinel", "cluster"]

_KINDS: Final[dict[str, Kind]] = {
    "redis": "server",
    "rediss": "server",
    "redis+sentinel": "sentinel",
    "redis+cluster": "cluster",
}
_PORT: Final = 6379
_SENTINEL_PORT: Final = 26379
_OPTIONS: Final = frozenset({"tls", "ca_file", "sentinel_user", "sentinel_password"})


class Address(NamedTuple):
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Login(Struct, frozen=True):
    """Who we are to a server, and which of its databases is ours. Its `repr` tells no password."""

    user: str = ""
    password: str = ""
    db: int = 0
    tls: ssl.SSLContext | None = None

    def greeting(self) -> list[tuple[str, ...]]:
        """The commands that say so, first thing on a connection."""
        words: list[tuple[str, ...]] = []
        if self.password:
            who = (self.user, self.password) if self.user else (self.password,)
            words.append(("AUTH", *who))
        if self.db:
            words.append(("SELECT", str(self.db)))
        return words

    def __repr__(self) -> str:
        shown = f"{self.user or 'default'}{':***' if self.password else ''}"
        return f"<Login {shown} db={self.db}{' tls' if self.tls else ''}>"


class RedisUrl(Struct, frozen=True):
    """What a URL says. `shown` is the URL as it may be printed."""

    shown: str
    kind: Kind
    addresses: tuple[Address, ...]
    login: Login
    # the name under which sentinels know the master, and who we are to them
    master: str = ""
    sentinel_login: Login = Login()


def parse_redis_url(url: str) -> RedisUrl:
    """The parts of a URL; `ConfigError` says what is wrong with it."""
    scheme, _, rest = url.partition("://")
    kind = _KINDS.get(scheme)
    if kind is None:
        _refuse(url, "begin it with redis://, rediss://, redis+sentinel:// or redis+cluster://")
    before, _, query = rest.partition("?")
    authority, _, path = before.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    user, _, password = (unquote(part) for part in credentials.partition(":"))
    options = _options(url, query)
    tls = _tls(url, scheme, options)
    master, db = _path(url, kind, path)
    default_port = _SENTINEL_PORT if kind == "sentinel" else _PORT
    addresses = tuple(_address(url, host, default_port) for host in hosts.split(","))
    if kind == "server" and len(addresses) > 1:
        _refuse(url, "name one host, or write redis+sentinel:// or redis+cluster://")
    return RedisUrl(
        without_password(url),
        kind,
        addresses,
        Login(user, password, db, tls),
        master,
        Login(options.get("sentinel_user", ""), options.get("sentinel_password", ""), 0, tls),
    )


def _options(url: str, query: str) -> Mapping[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = options.keys() - _OPTIONS
    if unknown:
        _refuse(url, f"there is no option {min(unknown)}; there is: {', '.join(sorted(_OPTIONS))}")
    return options


def _tls(url: str, scheme: str, options: Mapping[str, str]) -> ssl.SSLContext | None:
    asked = options.get("tls", "true" if scheme == "rediss" else "false")
    if asked not in ("true", "false"):
        _refuse(url, "write tls=true or tls=false")
    ca_file = options.get("ca_file")
    if asked == "false":
        return None
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(Path(ca_file))
        except (OSError, ssl.SSLError):
            _refuse(url, "ca_file is no file with certificates (PEM)")
    return context


def _path(url: str, kind: Kind, path: str) -> tuple[str, int]:
    """The master's name, and the number of the database."""
    master = ""
    if kind == "sentinel":
        master, _, path = path.partition("/")
        master = unquote(master)
        if not master:
            _refuse(url, "name the master: redis+sentinel://host:26379/name")
    if not path:
        return master, 0
    if not (path.isascii() and path.isdigit() and len(path) <= 5):
        _refuse(url, "the database is a number: redis://host:6379/0")
    if kind == "cluster" and int(path):
        _refuse(url, "a cluster has no database but 0: leave the number out")
    return master, int(path)


def _address(url: str, text: str, default_port: int) -> Address:
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1], rest[1:]
        well = bool(bracket) and colon in ("", ":")
    else:
        host, colon, port = text.partition(":")
        well = True
    if colon and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65_536):
        well = False
    if not host or not well:
        _refuse(url, "a host is written as name:port, an IPv6 address as [::1]:port")
    return Address(host, int(port) if colon else default_port)


def _refuse(url: str, remedy: str) -> NoReturn:
    raise ConfigError(OPTION, without_password(url), remedy) from None
