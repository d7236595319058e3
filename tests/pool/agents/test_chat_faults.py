"""Every way in which a provider fails, against a model server on a real socket."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pool.agents.chat import chat
from pool.errors import (
    ContextTooLong,
    ModelUnusable,
    ProviderAuthentication,
    ProviderBadRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimeout,
)
from tests.support.chat_over_http import ask, opened
from tests.support.model_server import ModelServer, Reply, chunk

pytestmark = pytest.mark.real_time

JSON = {"Content-Type": "application/json"}


async def failure(*replies: Reply, **options: Any) -> ProviderError:
    """The error of a turn against these replies."""
    async with ModelServer(replies) as server, opened(server, **options) as agent:
        with pytest.raises(ProviderError) as failed:
            await ask(agent)
        return failed.value


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b"", ProviderBadRequest),
        (400, b'{"error": {"code": "context_length_exceeded"}}', ContextTooLong),
        (401, b"", ProviderAuthentication),
        (404, b"<html>", ModelUnusable),
        (500, b"", ProviderOverloaded),
        (529, b"", ProviderOverloaded),
        (504, b"", ProviderTimeout),
    ],
    ids=str,
)
async def test_refusal_is_typed(status, body, kind):
    """Each status of the provider is its own error."""
    assert type(await failure(Reply(status=status, body=body))) is kind


async def test_rate_limit_says_how_long_to_wait():
    """Retry-After of a 429 is passed on in seconds."""
    error = await failure(Reply(status=429, headers={"Retry-After": "3"}))

    assert type(error) is ProviderRateLimited
    assert (error.retryable, error.retry_after_s) == (True, 3.0)


async def test_redirect_is_not_followed():
    """The key does not go where the provider points."""
    error = await failure(Reply(status=307, headers={"Location": "http://127.0.0.1:9/"}))

    assert "307" in str(error)


async def test_very_long_refusal_is_not_read_whole():
    """Of an endless error page only the beginning is read."""
    error = await failure(Reply(status=503, body=b"x" * 2**22))

    assert type(error) is ProviderOverloaded


async def test_refusal_that_breaks_off_is_still_a_refusal():
    """The status decides, although the words that go with it do not come."""

    class Hasty(ModelServer):
        async def _answer(self, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(status=400)
            await response.prepare(request)
            await response.write(b'{"error"')
            assert request.transport is not None
            request.transport.abort()
            return response

    async with Hasty() as server, opened(server) as agent:
        with pytest.raises(ProviderBadRequest):
            await ask(agent)


async def test_provider_that_is_not_there_may_be_tried_again():
    """A refused connection is the provider's error, without the address in it."""
    async with ModelServer() as server:
        url = server.url
    agent = chat("openai:test", base_url=url)()
    await agent.open()
    with pytest.raises(ProviderError, match="could not be reached") as failed:
        await ask(agent)
    await agent.close()

    assert failed.value.retryable
    assert "127.0.0.1" not in str(failed.value)


async def test_provider_whose_name_is_not_found_in_time_is_given_up(monkeypatch):
    """The look-up of its name is part of reaching it; nobody is told that it was silent."""

    async def hang(*_: Any, **__: Any) -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(aiohttp.DefaultResolver, "resolve", hang)
    agent = chat("openai:test", base_url="http://provider.invalid/v1", timeout_s=0.1)()
    await agent.open()
    with pytest.raises(ProviderTimeout, match=r"could not be reached within 0\.1 s"):
        await asyncio.wait_for(ask(agent), 10.0)
    await agent.close()


@pytest.mark.parametrize(
    "reply",
    [
        Reply(text="once upon", breaks=True),
        Reply(raw=[chunk({"content": "once"})]),
        Reply(raw=[]),
    ],
    ids=["reset", "unfinished", "empty"],
)
async def test_broken_stream_is_a_typed_error(reply):
    """An answer that stops in the middle fails the turn as one that may be tried again."""
    error = await failure(reply)

    assert type(error) is ProviderError
    assert error.retryable


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (Reply(raw=[b"data: {nonsense\n\n"]), "not a chat completion"),
        (Reply(raw=[b'data: {"error": "broken"}\n\n']), "in the middle of the answer"),
        (Reply(raw=[b'{"error": {"code": 502}}'], headers=JSON), "overloaded or failing (502)"),
        (Reply(raw=[b"data: " + b"x" * 2**19] * 4), "an event of more than 1048576 bytes"),
        (
            Reply(raw=[b"{}"], headers=JSON),
            "answered application/json, not a stream: check base_url",
        ),
    ],
    ids=["json", "error", "error after 200", "endless", "content type"],
)
async def test_malformed_stream_is_a_typed_error(reply, words):
    """What cannot be read as a stream of chunks fails the turn and says why."""
    assert words in str(await failure(reply))


async def test_silent_provider_is_a_timeout():
    """A provider that stops talking is given up after `timeout_s`, and hung up on."""
    reply = Reply(raw=[chunk({"content": "first"})], hold=asyncio.Event())
    async with ModelServer([reply]) as server, opened(server, timeout_s=0.1) as agent:
        with pytest.raises(ProviderTimeout, match=r"silent for 0\.1 s"):
            await ask(agent)
        await server.until(lambda seen: seen.cancelled == 1)
