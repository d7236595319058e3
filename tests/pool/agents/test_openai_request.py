"""Writing prompts as requests."""

from __future__ import annotations

import json
from typing import Any

from pool.agents.conversation import Call, Entry, ModelSaid, ToolSaid, UserSaid
from pool.agents.model import Prompt, ToolSchema
from pool.agents.openai_request import RequestWriter

ADD = ToolSchema("add", "Add.", {"type": "object", "properties": {}})


def written(writer: RequestWriter, *entries: Entry, max_tokens: int | None = None) -> Any:
    """The request for these entries."""
    return json.loads(writer.write(Prompt(entries, max_tokens)))


def test_whole_conversation_is_written():
    """Instructions come first, then every entry in the provider's form."""
    writer = RequestWriter("gpt", "Be brief.", [ADD], {})
    call = Call("s1c0", "call_1", "add", {"a": [1, "ü"]})

    request = written(
        writer, UserSaid("hi"), ModelSaid("", (call,)), ToolSaid("call_1", "2"), ModelSaid("ok")
    )

    function = {"name": "add", "arguments": '{"a":[1,"ü"]}'}
    asked = [{"id": "call_1", "type": "function", "function": function}]
    assert request["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": None, "tool_calls": asked},
        {"role": "tool", "tool_call_id": "call_1", "content": "2"},
        {"role": "assistant", "content": "ok"},
    ]
    parameters = {"type": "object", "properties": {}}
    described = {"name": "add", "description": "Add.", "parameters": parameters}
    assert request["tools"] == [{"type": "function", "function": described}]
    assert (request["model"], request["stream"]) == ("gpt", True)
    assert request["stream_options"] == {"include_usage": True}


def test_what_is_not_used_is_not_written():
    """Without instructions, tools and a limit the request has no such fields."""
    request = written(RequestWriter("gpt", "", [], {}), UserSaid("hi"))

    assert set(request) == {"model", "stream", "stream_options", "messages"}
    assert len(request["messages"]) == 1


def test_options_are_passed_on_but_cannot_turn_streaming_off():
    """Further fields reach the provider; those that the reader depends on stay as they are."""
    writer = RequestWriter("gpt", "", [], {"temperature": 0, "stream": False})

    request = written(writer, UserSaid("hi"), max_tokens=9)

    assert (request["temperature"], request["stream"], request["max_tokens"]) == (0, True, 9)
