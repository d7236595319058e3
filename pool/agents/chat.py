"""The built-in agent: a model behind an OpenAI-compatible endpoint, with functions as its tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import BYTES_PER_TOKEN
from pool.agents.openai_model import OpenAIModel
from pool.agents.openai_request import RequestWriter
from pool.agents.provider import Provider
from pool.agents.toolbox import Toolbox
from pool.agents.tools import Tool, read_tools
from pool.errors import ConfigError

OPENAI_URL: Final = "https://api.openai.com/v1"


def chat(
    model: str,
    *,
    instructions: str = "",
    tools: Sequence[Callable[..., Any] | Tool] = (),
    api_key: str | None = None,
    base_url: str | None = None,
    max_steps: int | None = None,
    context_tokens: int = 96_000,
    parallel_tools: int = 8,
    timeout_s: float = 120.0,
    options: Mapping[str, Any] | None = None,
) -> Callable[[], ChatAgent]:
    """An agent that is a model, to be given to a pool: it makes one instance for each actor.

    `model`: "openai:NAME", NAME as the endpoint at `base_url` (default: OpenAI's) knows it.
    `instructions`: what the model is told before every conversation.
    `tools`: functions that the model may call, once the gate lets it; their hints and docstrings
    are what it is told of them. `api_key`: sent as a bearer token; without it no credentials are
    sent. `max_steps`: requests to the model in one turn (the agent's own `max_steps` counts as
    well). `context_tokens`: how much of a conversation the model is shown, instructions and tools
    included. `parallel_tools`: tool calls of one step that run at once. `timeout_s`: how long the
    provider may be silent, in seconds. `options`: further fields of the request, such as
    `temperature`.

    `ConfigError` if one of them cannot be used. Nothing is read from the environment.
    """
    name = _openai_name(model)
    found = read_tools(tools)
    window_tokens = context_tokens - _fixed_tokens(instructions, found)
    _check(
        "context_tokens",
        context_tokens,
        window_tokens > 0,
        "write more than instructions and tools take",
    )
    _check("parallel_tools", parallel_tools, parallel_tools >= 1, "write a number of at least 1")
    _check(
        "max_steps", max_steps, max_steps is None or max_steps >= 1, "write a number of at least 1"
    )
    _check(
        "timeout_s",
        timeout_s,
        isfinite(timeout_s) and timeout_s > 0,
        "write a number of seconds above 0",
    )
    url = _url(OPENAI_URL if base_url is None else base_url)
    headers = _headers(api_key)

    def make() -> ChatAgent:
        toolbox = Toolbox(found, parallel_tools)
        writer = RequestWriter(name, instructions, toolbox.schemas, options or {})
        provider = Provider(url, headers, timeout_s)
        return ChatAgent(
            OpenAIModel(name, writer, provider),
            toolbox,
            window_tokens=window_tokens,
            max_steps=max_steps,
        )

    # what an agent given alone is called
    make.__name__ = "chat"
    return make


def _openai_name(model: str) -> str:
    provider, _, name = model.partition(":")
    _check(
        "model",
        model,
        provider == "openai" and bool(name),
        'write "openai:" and the name of a model',
    )
    return name


def _url(base_url: str) -> str:
    parts = urlsplit(base_url)
    fits = parts.scheme in ("http", "https") and bool(parts.netloc)
    _check(
        "base_url",
        base_url,
        fits,
        "write an http or https address, such as https://api.openai.com/v1",
    )
    return base_url


def _headers(api_key: str | None) -> Mapping[str, str]:
    headers = {
        "Accept": "text/event-stream",
        # Small pieces do not get smaller by compression, only later.
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": "actorpool",
    }
    if api_key is not None:
        fits = api_key.isascii() and api_key.isprintable() and bool(api_key.strip())
        _check("api_key", "...", fits, "write the key alone: printable ASCII, without line ends")
        headers["Authorization"] = f"Bearer {api_key}"
    return headers


def _fixed_tokens(instructions: str, tools: Mapping[str, Tool]) -> int:
    """About how many tokens every request begins with."""
    schemas = [tool.schema for tool in tools.values()]
    return len(msgspec.json.encode((instructions, schemas))) // BYTES_PER_TOKEN


def _check(option: str, value: object, fits: bool, remedy: str) -> None:
    if not fits:
        raise ConfigError(option, value, remedy)
