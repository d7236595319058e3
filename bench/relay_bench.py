"""A model's streamed answer of 200 chunks, relayed to SSE and to WebSocket: CPU for each token.

A hundred readers at a time; the model, a process on the load's core, says a chunk every 10 ms. CPU
time is compared, not speed: at the pace of models no core is ever full.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from bench import http_load, servers, websocket_load
from bench.process import Server, python, report
from bench.result import Row, Target, alternate

READERS: Final = 100
CHUNKS: Final = 200
MODEL: Final = ("--chunks", CHUNKS, "--per-write", 1, "--interval-s", 0.01)
# long enough that every reader has asked twice
WARM_UP_S: Final = 0.1
SECONDS: Final = 3.0
ROUNDS_MAX: Final = 3

Load = http_load.Load | websocket_load.Load


def run(rounds: int) -> list[Row]:
    """Microseconds of CPU for a token."""
    rounds = min(rounds, ROUNDS_MAX)
    with Server(python("tests.support.model_server", *MODEL), role=1) as model:
        url = f"http://127.0.0.1:{model.port}/v1"
        return [
            _row("SSE", rounds, url, _sse),
            _row("WebSocket", rounds, url, _websocket),
        ]


def _row(door: str, rounds: int, url: str, load: Callable[[Server], Load]) -> Row:
    key = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "bench"}
    sides = alternate(
        rounds,
        pool=lambda: _cost(
            servers.pool("--model", "openai:bench", "--max", READERS, env=key), load
        ),
        bare=lambda: _cost(servers.bare(env={"MODEL_URL": f"{url}/"}), load),
    )
    return sides.row(f"token relayed to {door}", "us CPU", float, Target(2, "at most"))


def _cost(server: Server, load: Callable[[Server], Load]) -> float:
    with server:
        before = server.cpu_s()
        turns = load(server).all_turns
        return (server.cpu_s() - before) / (turns * CHUNKS) * 1e6


def _sse(server: Server) -> Load:
    arguments: tuple[Any, ...] = (server.port, READERS, WARM_UP_S, SECONDS, "text/event-stream")
    return report("bench.http_load", *arguments, kind=http_load.Load)


def _websocket(server: Server) -> Load:
    arguments: tuple[Any, ...] = ("stream", server.port, READERS, WARM_UP_S, SECONDS)
    return report("bench.websocket_load", *arguments, kind=websocket_load.Load)
