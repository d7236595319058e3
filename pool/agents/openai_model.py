"""A model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

from pool.agents.model import Answer, Hearing, Prompt
from pool.agents.openai_answer import AnswerReader
from pool.agents.openai_request import PATH, RequestWriter
from pool.agents.provider import Provider


class OpenAIModel:
    """One model of one provider, asked over a client of its own."""

    __slots__ = ("_name", "_provider", "_writer")

    def __init__(self, name: str, writer: RequestWriter, provider: Provider) -> None:
        self._name = name
        self._writer = writer
        self._provider = provider

    async def open(self) -> None:
        """Make the client."""
        await self._provider.open()

    async def ask(self, prompt: Prompt, emit: Hearing) -> Answer:
        """Answer a prompt, streamed. Raises `ProviderError`, or `BrokenOff`."""
        reader = AnswerReader(self._name)
        return await self._provider.stream(PATH, self._writer.write(prompt), reader, emit)

    async def close(self) -> None:
        """Close the client."""
        await self._provider.close()
