"""OpenAI-compatible chat completions: prompts written as requests. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from pool.agents.conversation import Entry, ModelSaid, UserSaid
from pool.agents.model import Prompt, ToolSchema

PATH: Final = "/chat/completions"


class RequestWriter:
    """Writes prompts for one model as request bodies. `options` are further fields of it."""

    __slots__ = ("_fixed", "_system")

    def __init__(
        self,
        model: str,
        instructions: str,
        tools: Sequence[ToolSchema],
        options: Mapping[str, Any],
    ) -> None:
        self._fixed: dict[str, Any] = {
            **options,
            "model": model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if tools:
            self._fixed["tools"] = Raw(msgspec.json.encode([_tool(tool) for tool in tools]))
        self._system = [{"role": "system", "content": instructions}] if instructions else []

    def write(self, prompt: Prompt) -> bytes:
        """The body of a request."""
        body = {
            **self._fixed,
            "messages": self._system + [_message(entry) for entry in prompt.entries],
        }
        if prompt.max_tokens is not None:
            body["max_tokens"] = prompt.max_tokens
        return msgspec.json.encode(body)


def _tool(tool: ToolSchema) -> dict[str, Any]:
    function = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": function}


def _message(entry: Entry) -> dict[str, Any]:
    if isinstance(entry, UserSaid):
        return {"role": "user", "content": entry.text}
    if not isinstance(entry, ModelSaid):
        return {"role": "tool", "tool_call_id": entry.ref, "content": entry.text}
    if not entry.calls:
        return {"role": "assistant", "content": entry.text}
    calls = [
        {
            "id": call.ref,
            "type": "function",
            "function": {
                "name": call.name,
                "arguments": msgspec.json.encode(call.arguments).decode(),
            },
        }
        for call in entry.calls
    ]
    return {"role": "assistant", "content": entry.text or None, "tool_calls": calls}
