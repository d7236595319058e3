"""What is looked at before a Redis is used: its version, our permissions, what would lose data, and
the layout of what it has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

import structlog
from hiredis import ReplyError

from pool.errors import ConfigError
from pool.ids import PARTITIONS
from pool.store.redis_keys import COMMON, LAYOUT, KeySpace
from pool.store.redis_link import RedisLink, ask
from pool.store.redis_scripts import Scripts, fault
from pool.store.redis_servers import RedisServers
from pool.store.redis_url import RedisUrl
from pool.store.redis_wire import code_of, pack
from pool.store.urls import OPTION

_log = structlog.get_logger("pool.store.redis")

_OLDEST: Final = (6, 2)
_OTHER_LAYOUT: Final = (
    "use the program that wrote what is there, or another database or Redis; to carry the sessions "
    "over, `actorpool migrate` them with that program into a SQLite file, and from there with this "
    "one"
)


async def check_server(
    link: RedisLink, url: RedisUrl, scripts: Scripts, keys: KeySpace, key: str, timeout_s: float
) -> None:
    """`ConfigError` if a server is too old, a replica, or refuses us something; warns of the rest.

    `key` is one of a partition that the server has. Permissions are tried, not asked for: to ask
    one needs a permission too, that few users have.
    """
    info = _facts(url, await link.call(pack(("INFO",))))
    version = info.get("redis_version", "0")
    if _numbers(version) < _OLDEST:
        _refuse(url, f"Redis at {link.address} is version {version}: 6.2 or newer is needed")
    if info.get("role") == "slave":
        _refuse(url, f"Redis at {link.address} is a replica: name its master, or its sentinels")
    missing = await _missing(link, scripts, key)
    if isinstance(await link.call(pack(("PING",))), ReplyError):
        missing.append("+ping")
    # over connections of their own: one that is subscribed is good for little else
    for command, place in (("SUBSCRIBE", f" on &{keys.prefix}:*"), ("UNSUBSCRIBE", "")):
        words = (command, keys.channel("probe"))
        answer = await ask(link.address, url.login, *words, timeout_s=timeout_s)
        if isinstance(answer, ReplyError):
            missing.append(f"+{command.lower()}{place}")
    if missing:
        _lacking(url, missing)
    _warn(link, info)


async def check_layout(
    servers: RedisServers, url: RedisUrl, scripts: Scripts, keys: KeySpace
) -> None:
    """`ConfigError` if what is there has another layout than ours, or sessions and no layout. It is
    named if there is nothing yet: of several who start at once the first names it for all.
    """
    found = await _layout(servers, url, keys)
    if found is None and await _has_sessions(scripts, keys):
        # of a store that was opened beside us: its layout came first
        found = await _layout(servers, url, keys)
        if found is None:
            _refuse(url, f"it has sessions of a program that names no layout: {_OTHER_LAYOUT}")
    if found is None:
        found = await scripts.run(COMMON, "layout", (keys.layout,))
    if found != LAYOUT.encode():
        text = found.decode("ascii", "backslashreplace")
        _refuse(url, f"its layout is {text!r}, this program's is {LAYOUT!r}: {_OTHER_LAYOUT}")


async def _layout(servers: RedisServers, url: RedisUrl, keys: KeySpace) -> bytes | None:
    answer = await servers.call(COMMON, pack(("GET", keys.layout)))
    if not isinstance(answer, ReplyError):
        named: bytes | None = answer
        return named
    if code_of(answer) == "NOPERM":
        _lacking(url, [_permission("GET", str(answer), keys.layout)])
    raise fault("GET", answer)


async def _has_sessions(scripts: Scripts, keys: KeySpace) -> bool:
    """Whether any partition lists some: not one key is looked for, however many there are."""
    lists = [(number, keys.of_partition(number, "tenants")) for number in range(PARTITIONS)]
    return any(await scripts.command_all([(number, ("EXISTS", key)) for number, key in lists]))


async def _missing(link: RedisLink, scripts: Scripts, key: str) -> list[str]:
    """What the user would have to be granted."""
    for by_text in (True, False):
        answer = await link.call(scripts.packed("probe", [key], (), by_text=by_text))
        if isinstance(answer, ReplyError):
            return [_permission("EVAL" if by_text else "EVALSHA", str(answer), key)]
    refused = [each.decode() for each in answer]
    pairs = zip(refused[::2], refused[1::2], strict=True)
    return sorted({_permission(command, text, key) for command, text in pairs})


def _permission(command: str, text: str, key: str) -> str:
    prefix = key.partition(":")[0]
    if "channel" in text:
        return f"+{command.lower()} on &{prefix}:*"
    if "key" in text:
        return f"~{prefix}:*"
    return f"+{command.lower()}"


def _lacking(url: RedisUrl, missing: Sequence[str]) -> NoReturn:
    user = url.login.user or "default"
    _refuse(url, f"the Redis user {user} lacks {', '.join(missing)}: grant it with ACL SETUSER")


def _facts(url: RedisUrl, answer: Any) -> Mapping[str, str]:
    if isinstance(answer, ReplyError):
        _lacking(url, ["+info"])
    lines = (line.partition(":") for line in answer.decode().splitlines())
    return {name: value for name, colon, value in lines if colon}


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])


def _warn(link: RedisLink, info: Mapping[str, str]) -> None:
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        _log.warning(
            "Redis may evict what was accepted; set maxmemory-policy to noeviction",
            server=str(link.address),
            policy=policy,
        )
    if info.get("aof_enabled", "0") == "0":
        _log.warning(
            "Redis writes no append-only file: a crash of it may lose turns; set appendonly yes",
            server=str(link.address),
        )


def _refuse(url: RedisUrl, remedy: str) -> NoReturn:
    raise ConfigError(OPTION, url.shown, remedy)
