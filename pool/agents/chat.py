"""The built-in agent: models behind OpenAI-compatible endpoints, with functions as their tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from pool.agents.base_tool import BaseTool
from pool.agents.calls import CallRules, ModelCalls
from pool.agents.chain import Chain, Link
from pool.agents.chat_agent import ChatAgent
from pool.agents.conversation import BYTES_PER_TOKEN
from pool.agents.mcp_server import McpServer, tools_of
from pool.agents.model_spec import ModelPlace, ModelSpec, first_place, further_place, named_place
from pool.agents.openai_model import OpenAIModel
from pool.agents.openai_request import RequestWriter
from pool.agents.provider import Provider
from pool.agents.routing import Route, RouteHook, Routing
from pool.agents.toolbox import Toolbox
from pool.agents.tools import Tool, read_tools
from pool.errors import ConfigError

if TYPE_CHECKING:
    from pool.agents.mcp_tools import McpTools


def chat(
    model: str,
    *,
    instructions: str = "",
    tools: Sequence[Callable[..., Any] | Tool] = (),
    mcp: Sequence[McpServer] = (),
    api_key: str | None = None,
    base_url: str | None = None,
    max_steps: int | None = None,
    context_tokens: int = 96_000,
    parallel_tools: int = 8,
    timeout_s: float = 120.0,
    options: Mapping[str, Any] | None = None,
    fallbacks: Sequence[str | ModelSpec] = (),
    others: Sequence[str | ModelSpec] = (),
    routes: Sequence[Route] = (),
    route: RouteHook | None = None,
    plans: Mapping[str, str] | None = None,
    last_resort: str | None = None,
    calls: CallRules | ModelCalls | None = None,
) -> ChatFactory:
    """An agent that is a model, to be given to a pool: it makes one instance for each actor.

    `model`: "openai:NAME", NAME as the endpoint at `base_url` (default: OpenAI's) knows it.
    `instructions`: what the model is told before every conversation.
    `tools`: functions that the model may call, once the gate lets it; their hints and docstrings
    are what it is told of them. `mcp`: servers whose approved tools it may call as well, over
    connections of each actor's own. `api_key`: sent as a bearer token; without it no credentials
    are sent. `max_steps`: answers of a model in one turn (the agent's own `max_steps` counts as
    well). `context_tokens`: how much of a conversation the model is shown, instructions and tools
    included. `parallel_tools`: tool calls of one step that run at once. `timeout_s`: how long the
    provider may be silent, in seconds. `options`: further fields of the request, such as
    `temperature`.

    `fallbacks`: models that are asked, in this order, when the first one cannot be: it is
    overloaded, silent, cut off or left alone; nothing of its answer was told yet; and the failure
    would not be the same elsewhere. `others`: models that only rules and budgets name.
    `routes`: rules for turns that another model is to answer; the first that fits counts. `route`:
    a function that is asked before them, and leaves it to them by returning None; let it return one
    of a few names. `plans`: the plans of tenants, for the routes. A budget's cheaper model goes
    before all of these.
    `last_resort`: what is answered, marked as degraded, when no model can be asked. `calls`: how
    models are called (retries, circuit breakers, pacing); a `ModelCalls` is shared by all agents
    that are given the same one.

    `ConfigError` if one of them cannot be used. Nothing is read from the environment.
    """
    first = first_place(
        model, base_url=base_url, api_key=api_key, options=options, context_tokens=context_tokens
    )
    own = (first, *(further_place(each, first, option="fallbacks") for each in fallbacks))
    named = tuple(further_place(each, first, option="others") for each in others)
    _check_names((*own, *named))
    for each in routes:
        if each.model not in {place.name for place in (*own, *named)}:
            further_place(each.model, first, option="routes.model")
    found = read_tools(tools)
    far = tools_of(mcp) if mcp else None
    offered = found if far is None else read_tools([*found.values(), *far.tools])
    window_tokens = context_tokens - _fixed_tokens(instructions, offered)
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
    _check("last_resort", last_resort, last_resort != "", "write what is to be answered")
    routing = Routing(tuple(routes), route, dict(plans or {}))
    return ChatFactory(
        instructions=instructions,
        tools=offered,
        mcp=far,
        parallel_tools=parallel_tools,
        window_tokens=window_tokens,
        max_steps=max_steps,
        timeout_s=timeout_s,
        own=own,
        others=named,
        routing=routing,
        last_resort=last_resort,
        calls=calls if isinstance(calls, ModelCalls) else ModelCalls(calls or CallRules()),
        answers_as=_answers_as(instructions, offered, (*own, *named), routing),
    )


class ChatFactory(Struct, frozen=True, kw_only=True, eq=False):
    """Makes chat agents that are alike, one for each actor. They share `calls`, and the limits of
    `tools`; those of `mcp` are among them, and each actor calls them over connections of its own.
    """

    instructions: str
    tools: Mapping[str, BaseTool]
    mcp: McpTools | None
    parallel_tools: int
    window_tokens: int
    max_steps: int | None
    timeout_s: float
    own: tuple[ModelPlace, ...]
    others: tuple[ModelPlace, ...]
    routing: Routing
    last_resort: str | None
    calls: ModelCalls
    answers_as: str

    def __repr__(self) -> str:
        return f"<ChatFactory of {self.own[0].name!r}>"

    @property
    def __name__(self) -> str:
        """What an agent given alone is called."""
        return "chat"

    def __call__(self) -> ChatAgent:
        """One more agent."""
        mcp = None if self.mcp is None else self.mcp.again()
        own = {} if mcp is None else {tool.name: tool for tool in mcp.tools}
        toolbox = Toolbox({**self.tools, **own}, self.parallel_tools)

        def link(place: ModelPlace) -> Link:
            reach = self.calls.reach(place.url)
            provider = Provider(place.url, place.headers, self.timeout_s, reach)
            writer = RequestWriter(place.model, self.instructions, toolbox.schemas, place.options)
            return Link(
                place.name,
                OpenAIModel(place.model, writer, provider),
                guard=self.calls.guard(place.url, place.model),
                account=place.account,
                context_tokens=place.context_tokens,
                asked_as=place.model,
            )

        chain = Chain(
            [link(place) for place in self.own],
            others=[link(place) for place in self.others],
            make=lambda name: link(named_place(name, self.own[0])),
            routing=self.routing,
            last_resort=self.last_resort,
        )
        return ChatAgent(
            chain,
            toolbox,
            window_tokens=self.window_tokens,
            max_steps=self.max_steps,
            answers_as=self.answers_as,
            mcp=mcp,
        )


def _check_names(places: Sequence[ModelPlace]) -> None:
    names: set[str] = set()
    for place in places:
        remedy = "two models have this name: give one of them another (ModelSpec.name)"
        _check("name", place.name, place.name not in names, remedy)
        names.add(place.name)


def _answers_as(
    instructions: str, tools: Mapping[str, BaseTool], places: Sequence[ModelPlace], routing: Routing
) -> str:
    """A digest of all that answers depend on besides the conversation."""
    models = [(place.name, place.model, place.url, place.options) for place in places]
    schemas = [tool.schema for tool in tools.values()]
    body = (instructions, schemas, models, routing.routes, routing.plans)
    text = msgspec.json.encode(body, enc_hook=repr, order="deterministic")
    return blake2b(text, digest_size=16).hexdigest()


def _fixed_tokens(instructions: str, tools: Mapping[str, BaseTool]) -> int:
    """About how many tokens every request begins with."""
    schemas = [tool.schema for tool in tools.values()]
    return len(msgspec.json.encode((instructions, schemas))) // BYTES_PER_TOKEN


def _check(option: str, value: object, fits: bool, remedy: str) -> None:
    if not fits:
        raise ConfigError(option, value, remedy)
