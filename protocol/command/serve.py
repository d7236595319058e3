"""The server's process: everything is made, runs until a signal, and is taken down in order."""

from __future__ import annotations

import asyncio
import errno
import gc
from collections.abc import Mapping
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import click
import structlog
import uvloop

from pool import AgentPool
from pool.agents.chat import ChatFactory
from pool.config import AgentSpec
from pool.errors import ConfigError
from pool.guard.audit import Audit
from pool.guard.rates import Windows
from pool.store.base import Store
from pool.telemetry.logs import Logs, configure
from pool.telemetry.metrics import Metrics
from pool.telemetry.processors import loop_exception_handler
from pool.webhooks import Webhooks
from protocol.authenticate.config import said
from protocol.command import places
from protocol.command.audited import audit_of
from protocol.command.costs import table_of, windows_of
from protocol.command.ending import EndSignals, end_within
from protocol.command.garbage import OldCollections, settle
from protocol.command.guards import ALERTS_GRACE_S, alerts, answers, private
from protocol.command.load import load, screen_of
from protocol.command.scrape import scrape_route
from protocol.server import Server
from protocol.settings import AuditSettings, Settings
from protocol.spending import LimitSettings
from protocol.webhook.config import WebhookConfig

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy

# How long the process may take to end by itself when everything of ours is closed.
EXIT_GRACE_S: Final = 1.0
# How long the audit log may take to be written to its end, and then to be let go of.
_AUDIT_GRACE_S: Final = 2.0

_log = structlog.get_logger("protocol.command")


def serve(settings: Settings, environ: Mapping[str, str]) -> int:
    """Serve until a signal; the exit code. `ConfigError` for what only shows when it is tried."""
    # what the start makes stays: there is nothing to collect before `settle`
    gc.disable()
    specs = load(settings.agents, environ)
    privacy = private(settings, environ)
    logs, lines = configure(
        format=settings.log.format,
        level=settings.log.level,
        redact=privacy.logs if privacy else None,
    )
    try:
        uvloop.run(_run(settings, specs, logs, environ, privacy))
    finally:
        lines.flush()
    return 0


async def _run(
    settings: Settings,
    specs: Mapping[str, AgentSpec],
    logs: Logs,
    environ: Mapping[str, str],
    privacy: Privacy | None,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(loop_exception_handler(_log))
    signals = EndSignals(loop, within_s=_longest_end_s(settings))
    metrics = Metrics(specs)
    async with AsyncExitStack() as stack:
        store = places.store(settings.store, environ)
        # after the pool, which uses it to its end
        stack.push_async_callback(store.close)
        name = f"pool-{uuid4().hex[:12]}"
        pool = AgentPool(
            specs,
            config=settings.pool,
            store=store,
            observers=(metrics, logs, *await alerts(settings.alerts, settings.pool, stack)),
            name=name,
            webhooks=await _webhooks(settings.webhooks, stack),
            audit=await _audit(settings.audit, store, name, stack),
            cost=settings.cost,
            windows=_windows(settings.limits, stack),
            prices=table_of(settings.usage),
            answers=answers(settings.cache, stack),
            screen=screen_of(settings.screen),
            tools=settings.tools,
            privacy=privacy,
        )
        metrics.watch(pool.stats)
        for agent, spec in specs.items():
            if isinstance(spec.agent, ChatFactory):
                metrics.watch_breakers(agent, partial(_tripped, spec.agent))
                metrics.watch_tools(agent, partial(_tripped_tools, spec.agent))
        server = Server(
            pool,
            config=settings.server,
            ws=settings.ws,
            auth=settings.auth,
            extra_routes={("GET", "/metrics"): scrape_route(metrics)},
        )
        await stack.enter_async_context(pool)
        await _start(server, settings)
        garbage = OldCollections(idle=lambda: pool.stats().turns == 0)
        garbage.start()
        metrics.start()
        settle()
        click.echo(_greeting(server, places.said(settings.store, environ)))
        if settings.auth.open:
            _log.warning(
                "nobody is asked who they are: whoever can reach this is admin of tenant default",
                host=settings.server.host,
                remedy='[auth] mode = "keys"',
            )
        signal = await signals.wait()
        _log.info(
            "draining", signal=signal, turns=pool.stats().turns, at_most_s=settings.server.drain_s
        )
        await server.drain(settings.server.drain_s)
        metrics.stop()
        garbage.stop()
    _log.info("ended")
    signals.done()
    # an agent may leave tasks behind that swallow cancellation, or threads that go on
    end_within(EXIT_GRACE_S, 0)


def _tripped(chat: ChatFactory) -> int:
    return chat.calls.tripped


def _tripped_tools(chat: ChatFactory) -> int:
    return sum(tool.tripped for tool in chat.tools.values())


async def _webhooks(config: WebhookConfig, stack: AsyncExitStack) -> Webhooks | None:
    if not config.secret:
        return None
    from protocol.webhook.poster import Poster

    return await stack.enter_async_context(Poster(config))


def _windows(limits: LimitSettings, stack: AsyncExitStack) -> Windows | None:
    windows = windows_of(limits)
    if windows is not None:
        stack.push_async_callback(windows.close)
    return windows


async def _audit(
    settings: AuditSettings, store: Store, chain: str, stack: AsyncExitStack
) -> Audit | None:
    audit = audit_of(settings, store, chain=chain)
    if audit is not None:
        # the pool opens it once more, which does nothing
        await store.open()
        await audit.open()
        stack.push_async_callback(audit.close, grace_s=_AUDIT_GRACE_S)
    return audit


async def _start(server: Server, settings: Settings) -> None:
    try:
        await server.start()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            remedy = "something listens there already: choose another port, or 0 for any free one"
            raise ConfigError("server.port", settings.server.port, remedy) from None
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "this user may not listen there: choose a port above 1023"
            raise ConfigError("server.port", settings.server.port, remedy) from None
        remedy = "this machine has no such address: use one of its own, such as 127.0.0.1"
        raise ConfigError("server.host", settings.server.host, remedy) from None


def _greeting(server: Server, sessions: str) -> str:
    agents = ", ".join(server.pool.specs)
    auth = server.authenticator.config
    key = "" if auth.open else '-H "Authorization: Bearer $ACTORPOOL_KEY" '
    return (
        f"actorpool serves {agents} at {server.url} - try: "
        f'curl {key}--json \'{{"message": "hello"}}\' {server.url}/agent/invoke\n'
        f"sessions live in {sessions}\n{said(auth)}"
    )


def _longest_end_s(settings: Settings) -> float:
    """The sum of what may be waited for after the first signal, and some time to do it."""
    return (
        settings.server.drain_s
        # turns that are interrupted, then actors that are closed, then webhooks that are being sent
        + 3 * settings.pool.cancel_grace_s
        + settings.server.close_timeout_s
        # what clients have not read, their goodbyes, then what is still done for them
        + 3 * settings.ws.close_grace_s
        + 2 * _AUDIT_GRACE_S
        + ALERTS_GRACE_S
        + 5.0
    )
