"""The settings of the command: one frozen tree, put together from options, each checked by itself.

An option is a value with the name its writer knows it by: `pool.queue_max` in a file, a variable of
the environment, a flag. Later options go over earlier ones. Nothing is read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from pool.config import PoolConfig
from pool.errors import ConfigError
from pool.guard.answers_stores import CacheConfig
from pool.guard.audit_config import AuditConfig
from pool.guard.budget import Budget, BudgetRule
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.guard.privacy_config import PrivacyConfig
from pool.guard.tool_rules import ToolRules
from pool.store.memory_limits import MemoryLimits
from pool.store.urls import check_url, without_password
from protocol.authenticate.config import AuthConfig
from protocol.config import ServerConfig
from protocol.model_settings import ModelSettings
from protocol.origins import check_reach
from protocol.screening import ScreenSettings
from protocol.spending import LimitSettings, UsageSettings, budget_of, cost_of
from protocol.webhook.alert_config import AlertConfig
from protocol.webhook.config import WebhookConfig
from protocol.ws.config import WsConfig

Count = Annotated[int, Meta(ge=1)]
AgentName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class ServerSettings(ServerConfig, frozen=True, kw_only=True):
    """How the server behaves, where it listens, and how the process ends.

    `drain_s`: how many seconds running turns may go on after the first signal.
    """

    drain_s: float = 30.0

    def __post_init__(self) -> None:
        ServerConfig.__post_init__(self)
        if not (isfinite(self.drain_s) and self.drain_s >= 0):
            raise ConfigError("drain_s", self.drain_s, "write a number of seconds, 0 for none")


class AgentSettings(ModelSettings, frozen=True, kw_only=True):
    """One agent: the `target` ("module:attribute") that answers, or a `model` for the built-in one.

    `gate` ("module:function") is asked before its tool calls. The others, and what they are when
    they are not given, are those of `pool.AgentSpec`; with `cache_` before them, of its `cache`.
    """

    target: str | None = None
    gate: str | None = None
    description: str | None = None
    min: Annotated[int, Meta(ge=0)] | None = None
    max: Count | None = None
    limit: str | None = None
    limit_initial: Count | None = None
    max_steps: Count | None = None
    max_tokens: Count | None = None
    cache_ttl_s: float | None = None
    cache_jitter: float | None = None
    cache_per: Literal["tenant", "user"] | None = None
    cache_metadata: tuple[str, ...] | None = None
    cache_version: str | None = None
    cache_max_answer_bytes: Count | None = None
    cache_max_entries: Count | None = None
    cache_max_bytes: Count | None = None

    def __post_init__(self) -> None:
        if self.target is not None and self.model is not None:
            raise ConfigError("model", self.model, "give a target or a model, not both")
        ModelSettings.__post_init__(self)


class StoreSettings(MemoryLimits, frozen=True, kw_only=True):
    """Where sessions and turns live (see `pool.store.urls`; None: a file in the user's state
    directory), how much is kept of them, and for how long.

    `lease_s`: how long, in seconds, the sessions of a process that died are nobody else's.
    `synchronous`: whether SQLite waits for the disk at each commit (`full`), or at times (`normal`:
    a crash of the machine, not of the process, loses the newest turns).
    """

    url: str | None = None
    lease_s: float = 10.0
    synchronous: Literal["full", "normal"] = "full"

    def __post_init__(self) -> None:
        if not (isfinite(self.lease_s) and self.lease_s > 0):
            raise ConfigError("lease_s", self.lease_s, "write a number of seconds above 0")
        try:
            if self.url is not None:
                check_url(self.url)
            _ = self.limits
        except ConfigError as mistake:
            option = mistake.option.rpartition(".")[2]
            raise ConfigError(option, mistake.value, mistake.remedy) from None

    @property
    def limits(self) -> MemoryLimits:
        """What is kept, and for how long; only a memory store heeds all of it."""
        names = [option.name for option in msgspec.structs.fields(MemoryLimits)]
        return MemoryLimits(**{name: getattr(self, name) for name in names})


class AuditSettings(AuditConfig, frozen=True, kw_only=True):
    """Where the audit log is kept (`off`: nowhere, `store`: with the sessions, else the path of a
    file), and how.

    `fsync`: whether each batch is on the disk before the next is begun, in a file. `key_file`: with
    the key that seals it, of 32 bytes or more.
    """

    to: Annotated[str, Meta(min_length=1)] = "off"
    fsync: Literal["always", "never"] = "always"
    key_file: str | None = None


class LogSettings(Struct, frozen=True, kw_only=True):
    """How the log is written (`auto`: readable on a terminal, JSON elsewhere), and from what on."""

    format: Literal["auto", "json", "console"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class Settings(Struct, frozen=True, kw_only=True):
    """Everything the command can be told. The first of `agents` is the default one."""

    server: ServerSettings = field(default_factory=ServerSettings)
    ws: WsConfig = field(default_factory=WsConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)
    pool: PoolConfig = field(default_factory=PoolConfig)
    agents: Mapping[str, AgentSettings] = {}
    store: StoreSettings = field(default_factory=StoreSettings)
    webhooks: WebhookConfig = field(default_factory=WebhookConfig)
    alerts: AlertConfig = field(default_factory=AlertConfig)
    audit: AuditSettings = field(default_factory=AuditSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    budgets: tuple[Budget, ...] = ()
    prices: Mapping[str, Price] = {}
    usage: UsageSettings = field(default_factory=UsageSettings)
    privacy: PrivacyConfig = field(default_factory=PrivacyConfig)
    screen: ScreenSettings = field(default_factory=ScreenSettings)
    cache: CacheConfig = field(default_factory=CacheConfig)
    tools: ToolRules = field(default_factory=ToolRules)
    log: LogSettings = field(default_factory=LogSettings)

    @property
    def cost(self) -> CostConfig:
        """Limits, prices and budgets, as a pool is told of them."""
        return cost_of(self.limits, self.budgets, self.prices, self.usage)


SECTIONS: Final[Mapping[str, type[Struct]]] = {
    "server": ServerSettings,
    "ws": WsConfig,
    "auth": AuthConfig,
    "pool": PoolConfig,
    "agents": AgentSettings,
    "store": StoreSettings,
    "webhooks": WebhookConfig,
    "alerts": AlertConfig,
    "audit": AuditSettings,
    "limits": LimitSettings,
    "budgets": BudgetRule,
    "prices": Price,
    "usage": UsageSettings,
    "privacy": PrivacyConfig,
    "screen": ScreenSettings,
    "cache": CacheConfig,
    "tools": ToolRules,
    "log": LogSettings,
}

# The sections that are tables of tables: each has a name that its writer chose.
NAMED: Final = ("agents", "budgets", "prices")
# The name that stands for every agent.
EVERY: Final = "*"
# What a message has instead of a value that may be a secret.
HIDDEN: Final = "..."
# Options of webhooks and alerts that may be shown.
_NO_SECRETS: Final = ("allow_private", "allow_http", "outcomes", "again_s", "buffer_max")


class Option(NamedTuple):
    """One value that somebody gave.

    `path`: (section, option), or (section, name, option) if that is one of `NAMED`. `name`: what
    the giver calls it.
    `from_text`: the value is text that may stand for a number or a truth value.
    """

    path: tuple[str, ...]
    value: object
    name: str
    from_text: bool = False

    @property
    def shown(self) -> object:
        """The value as a message may quote it: without secrets and passwords."""
        if self.path[0] in ("webhooks", "alerts") and self.path[-1] not in _NO_SECRETS:
            return HIDDEN
        if self.path[0] == "auth" and self.path[-1] not in ("mode", "public", "jwt_algorithms"):
            return HIDDEN
        return without_password(self.value) if isinstance(self.value, str) else self.value


def assemble(options: Iterable[Option]) -> Settings:
    """The settings that the options make; `ConfigError` names the first mistake."""
    chosen = {option.path: option for option in options}
    agents = [path[1] for path in chosen if path[0] == "agents" and path[1] != EVERY]
    every = _under(chosen, "agents", EVERY)
    settings = Settings(
        server=_section(ServerSettings, _under(chosen, "server")),
        ws=_section(WsConfig, _under(chosen, "ws")),
        auth=_section(AuthConfig, _under(chosen, "auth")),
        pool=_section(PoolConfig, _under(chosen, "pool")),
        agents={
            name: _section(AgentSettings, {**_under(chosen, "agents", name), **every})
            for name in dict.fromkeys(agents)
        },
        store=_section(StoreSettings, _under(chosen, "store")),
        webhooks=_section(WebhookConfig, _under(chosen, "webhooks")),
        alerts=_section(AlertConfig, _under(chosen, "alerts")),
        audit=_section(AuditSettings, _under(chosen, "audit")),
        limits=_section(LimitSettings, _under(chosen, "limits")),
        budgets=tuple(
            budget_of(name, rule) for name, rule in _named(BudgetRule, chosen, "budgets").items()
        ),
        prices=_named(Price, chosen, "prices"),
        usage=_section(UsageSettings, _under(chosen, "usage")),
        privacy=_section(PrivacyConfig, _under(chosen, "privacy")),
        screen=_section(ScreenSettings, _under(chosen, "screen")),
        cache=_section(CacheConfig, _under(chosen, "cache")),
        tools=_section(ToolRules, _under(chosen, "tools")),
        log=_section(LogSettings, _under(chosen, "log")),
    )
    host = chosen.get(("server", "host"))
    named = "server.host" if host is None else host.name
    check_reach(settings.server, open_=settings.auth.open, option=named)
    return settings


def options_of(section: str) -> list[str]:
    """The names of a section's options."""
    return [option.name for option in msgspec.structs.fields(SECTIONS[section])]


def did_you_mean(word: str, known: Iterable[str], otherwise: str, *, prefix: str = "") -> str:
    """A remedy for a name that nobody knows: the one that was meant, or `otherwise`.

    `prefix` begins them all and says nothing about what was meant.
    """
    bare = [name.removeprefix(prefix) for name in known]
    close = get_close_matches(word.removeprefix(prefix), bare, n=1, cutoff=0.7)
    return f"there is no such option; did you mean {prefix}{close[0]}?" if close else otherwise


def check_agent_name(name: str, *, option: str, value: object) -> str:
    """The name, if callers can use it in a request."""
    try:
        return msgspec.convert(name, AgentName)
    except msgspec.ValidationError:
        remedy = "an agent's name is 1 to 64 letters, digits, _ and -: write NAME=MODULE:ATTR"
        raise ConfigError(option, value, remedy) from None


S = TypeVar("S", bound=Struct)


def _under(chosen: Mapping[tuple[str, ...], Option], *prefix: str) -> dict[str, Option]:
    size = len(prefix)
    return {path[size]: option for path, option in chosen.items() if path[:size] == prefix}


def _named(
    kind: type[S], chosen: Mapping[tuple[str, ...], Option], section: str
) -> Mapping[str, S]:
    names = dict.fromkeys(path[1] for path in chosen if path[0] == section)
    return {name: _section(kind, _under(chosen, section, name)) for name in names}


def _section(kind: type[S], options: Mapping[str, Option]) -> S:
    known = msgspec.structs.fields(kind)
    types = {option.name: option.type for option in known}
    for name, option in options.items():
        if name not in types:
            remedy = did_you_mean(name, types, "there is no such option: " + ", ".join(types))
            raise ConfigError(option.name, option.shown, remedy)
    for each in known:
        if each.required and each.name not in options:
            raise ConfigError(_called(each.name, options), None, "is required: give it as well")
    try:
        return kind(**{name: _value(option, types[name]) for name, option in options.items()})
    except ConfigError as mistake:
        name, dot, inner = mistake.option.partition(".")
        if name not in types:
            raise
        whole = _called(name, options) + dot + inner
        raise ConfigError(whole, mistake.value, mistake.remedy) from None


def _called(name: str, options: Mapping[str, Option]) -> str:
    """What the giver of a section's options calls one of them, or would if it were given."""
    if name in options:
        return options[name].name
    beside = next(iter(options.values()))
    place, dot, _ = beside.name.rpartition(".")
    return f"{place}.{name}" if dot else ".".join([*beside.path[:-1], name])


def _value(option: Option, kind: Any) -> Any:
    value = option.value
    try:
        if option.from_text and isinstance(value, str) and value[:1] in ("{", "["):
            value = msgspec.json.decode(value)
        return msgspec.convert(value, kind, strict=not option.from_text)
    except msgspec.ValidationError as error:
        raise ConfigError(option.name, option.shown, _remedy(kind, str(error))) from None
    except msgspec.DecodeError:
        raise ConfigError(option.name, option.shown, "begins like JSON and is none") from None


def _remedy(kind: Any, complaint: str) -> str:
    if get_origin(kind) is Literal:
        return "write one of " + ", ".join(get_args(kind))
    if not complaint.startswith("Expected"):
        # what is wrong is inside, and the complaint says where
        return complaint
    words = complaint.partition(", got")[0].removeprefix("Expected ")
    for word, plain in _PLAIN:
        words = words.replace(word, plain)
    return f"write {words}"


_PLAIN: Final = (
    ("`bool | array`", 'true, false or a list, ["10.0.0.0/8"] in JSON'),
    ("`int | null`", "a whole number"),
    ("`float | null`", "a number"),
    ("`str | null`", "text"),
    ("`int`", "a whole number"),
    ("`float`", "a number"),
    ("`str`", "text"),
    ("`bool`", "true or false"),
    ("`object`", 'a table of names and values, {"name": 1} in JSON'),
    ("`array`", 'a list, ["a", "b"] in JSON'),
    (" >= ", " of at least "),
    (" <= ", " of at most "),
)
