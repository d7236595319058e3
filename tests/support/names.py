"""Look-ups of names with scripted answers."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult


class Names(AbstractResolver):
    """Looks names up in a script: an answer for each time that it is asked, the last one again."""

    def __init__(self, *answers: tuple[str, ...]) -> None:
        self.asked = 0
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if not answer:
            raise OSError(None, "no such name")
        return [_resolved(host, port, address) for address in answer]

    async def close(self) -> None:
        """Nothing to let go of."""


def _resolved(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flags = socket.AI_NUMERICHOST
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=flags
    )
