"""The parts of a server that look at what comes in, keep what was answered, and tell its operator:
made when they are asked for, and closed after the pool that uses them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from pool.config import PoolConfig
from pool.guard.answers_stores import AnswerStore, CacheConfig, answer_store
from pool.guard.tool_rules import ToolRules
from pool.observer import Observer
from pool.store.urls import without_password
from protocol.command.load import screen_of
from protocol.command.screen import visible
from protocol.settings import Settings
from protocol.webhook.alert_config import AlertConfig

if TYPE_CHECKING:
    from pool.guard.privacy import Privacy

# How long alerts that wait may take at the end, in seconds.
ALERTS_GRACE_S: Final = 2.0
_SECRET: Final = re.compile(r"(KEY|SECRET|TOKEN|PASSWORD)$")


def answers(config: CacheConfig, stack: AsyncExitStack) -> AnswerStore | None:
    """Where answers are kept; None: in the memory of each agent that wants it."""
    store = answer_store(config)
    if store is not None:
        stack.push_async_callback(store.close)
    return store


async def alerts(config: AlertConfig, retry: PoolConfig, stack: AsyncExitStack) -> list[Observer]:
    """Who posts alerts, if they are to be posted."""
    if not config.url:
        return []
    from protocol.webhook.alerts import Alerts
    from protocol.webhook.poster import Poster

    poster = await stack.enter_async_context(Poster(config))
    posting = Alerts(config, poster, retry=retry)
    posting.start()
    stack.push_async_callback(posting.close, grace_s=ALERTS_GRACE_S)
    return [posting]


def private(settings: Settings, environ: Mapping[str, str]) -> Privacy | None:
    """What models and logs are not to see, the server's own secrets among it; None: they may see
    everything.
    """
    if settings.privacy.off:
        return None
    from pool.guard.privacy import privacy_of

    # whatever the environment calls a secret, and what the settings do
    named = (value for name, value in environ.items() if _SECRET.search(name))
    own = (settings.auth.jwt_key, settings.webhooks.secret, settings.alerts.secret)
    return privacy_of(settings.privacy, known={*named, *own} - {""})


def check_guards(settings: Settings) -> Iterator[str]:
    """One line for each of these parts that is asked for; `ConfigError` if one cannot be had."""
    tools = settings.tools
    if tools != ToolRules():
        lists = len(tools.roles) + len(tools.agents)
        yield f"tools   {lists} lists, {len(tools.approvals)} rules of approval"
    if screen_of(settings.screen) is not None:
        yield f"screen  {settings.screen.action}"
    if answer_store(settings.cache) is not None:
        yield f"cache   {visible(without_password(settings.cache.url))}"
    if private(settings, {}) is not None:
        yield f"privacy {settings.privacy.default}"
    if settings.alerts.url:
        from protocol.webhook.poster import Poster

        Poster(settings.alerts)
        yield f"alerts  {', '.join(settings.alerts.outcomes)}"
