"""An MCP server as the configuration has it: where it is, and which of its tools were approved."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from pool.agents.base_tool import READ_ONLY
from pool.agents.mcp_pins import PinnedTool, check_pins
from pool.agents.tool_limits import check_limits
from pool.agents.tool_results import RESULT_CHARS
from pool.errors import ConfigError
from pool.guard.addresses import Network, read_networks
from pool.guard.breaker import BreakerRule
from pool.guard.urls import RefusedUrl, read_url
from pool.turn import Risk

if TYPE_CHECKING:
    from pool.agents.mcp_tools import McpTools

_is_name: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}").fullmatch
_is_field: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch


class McpServer(Struct, frozen=True, kw_only=True):
    """A server whose tools a chat agent may call, once the gate lets it.

    `name`: begins the names of its tools. `url`: of a server that speaks Streamable HTTP; or
    `command`: a program of this machine and its arguments, spoken to over stdin and stdout. `pins`:
    the tools that were approved (`read_pins`); no others are offered. `headers`: sent with each
    request, say to authenticate. `env`: environment variables that the program gets besides PATH,
    HOME and the like.

    `allow_private`: also connect to addresses that are not public: all of them, or those of the
    networks listed. `allow_http`: also without TLS. `risk`: of its tools, but for those in `risks`,
    by their own names. `connect_timeout_s`: how long it may take to connect, and to list the tools,
    in seconds.

    The limits of each tool, for all actors of an agent together, as of a `Tool`: `timeout_s`: how
    long a call may take, its wait for a place and for a connection included. `parallel`: how many
    calls run at once (None: any number). `max_result_chars`: how much of a result the model and
    readers are shown. `breaker`: when it is left alone because it fails. `cache_s`: by the names of
    tools, for how long a result is used again when the same tenant has the tool called with the
    same arguments; only for what is `read`.
    """

    name: str
    url: str = ""
    command: tuple[str, ...] = ()
    pins: tuple[PinnedTool, ...] = ()
    headers: dict[str, str] = {}
    env: dict[str, str] = {}
    allow_private: bool | tuple[str, ...] = False
    allow_http: bool = False
    risk: Risk = "write"
    risks: dict[str, Risk] = {}
    timeout_s: float = 60.0
    connect_timeout_s: float = 10.0
    parallel: int | None = None
    max_result_chars: int = RESULT_CHARS
    breaker: BreakerRule | None = None
    cache_s: dict[str, float] = {}

    def __post_init__(self) -> None:
        if not _is_name(self.name):
            remedy = "write 1 to 32 letters, digits, _ or -, a letter or digit first"
            raise ConfigError("name", self.name, remedy)
        if bool(self.url) == bool(self.command):
            raise ConfigError("url", "...", "give either a url or a command, and not both")
        self._check_http()
        if self.env and not self.command:
            raise ConfigError("env", "...", "a server with a url is not started here: take it out")
        check_pins(self.pins)
        for option, tools in (("risks", self.risks.keys()), ("cache_s", self.cache_s.keys())):
            for tool in tools - {pinned.name for pinned in self.pins}:
                raise ConfigError(option, tool, "no tool that was approved has this name")
        self._check_limits()

    def __repr__(self) -> str:
        way = "url" if self.url else "command"
        return f"<McpServer {self.name}: {way}, {len(self.pins)} tools approved>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # else tracebacks of rich have all fields, whatever __repr__ says
        return [("name", self.name)]

    @property
    def networks(self) -> Sequence[Network]:
        """The networks that it may be in besides public addresses."""
        return read_networks(self.allow_private)

    def risk_of(self, tool: str) -> Risk:
        """The risk of one of its tools."""
        return self.risks.get(tool, self.risk)

    def _check_limits(self) -> None:
        kept = {f"cache_s.{tool}": seconds for tool, seconds in self.cache_s.items()}
        times = {"timeout_s": self.timeout_s, "connect_timeout_s": self.connect_timeout_s}
        numbers = {"parallel": self.parallel, "max_result_chars": self.max_result_chars}
        check_limits("", seconds={**times, **kept}, numbers=numbers)
        for tool in self.cache_s:
            if self.risk_of(tool) != "read":
                remedy = f'{READ_ONLY} say in risks that it is "read", or leave it out'
                raise ConfigError("cache_s", tool, remedy)

    def _check_http(self) -> None:
        networks = self.networks
        if self.headers and not self.url:
            raise ConfigError("headers", "...", "a program is sent no headers: use env")
        for name, value in self.headers.items():
            if not (_is_field(name) and value.isascii() and value.isprintable()):
                raise ConfigError("headers", name[:64], "write names and values as HTTP has them")
        if not self.url:
            return
        try:
            read_url(self.url, networks, allow_http=self.allow_http)
        except RefusedUrl as refused:
            remedy = f"it {refused}; for a server of your own see allow_private and allow_http"
            # it may have a secret in its query
            raise ConfigError("url", "...", remedy) from None


def tools_of(servers: Sequence[McpServer]) -> McpTools:
    """The approved tools of the servers, for one actor. `ConfigError` if the package `mcp` is
    missing, a server has no tool that was approved, or one that cannot be offered.
    """
    need_package()
    from pool.agents.mcp_tools import McpTools

    return McpTools(servers)


def need_package() -> None:
    """`ConfigError` unless the package `mcp` is there; call it before what imports it."""
    try:
        import_module("mcp.client")
    except ModuleNotFoundError:
        remedy = 'tools over MCP need another package: pip install "actorpool[mcp]"'
        raise ConfigError("mcp", "...", remedy) from None
