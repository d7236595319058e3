"""The server as the process that operators run."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from tests.support.process import PATIENCE_S, ROOT, Command, command
from tests.support.receiver import receiving

pytestmark = pytest.mark.real_time

SECRET = "canary-e07b"

AGENTS = """
import asyncio, pathlib, threading, time

async def echo(text):
    return "echo: " + text

async def gated(text):
    yield "begun"
    while not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    yield " and done"

async def deaf(text):
    yield "begun"
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def fails(text):
    raise ValueError(text)

async def blocks(text):
    while not pathlib.Path("open").exists():
        await asyncio.sleep(0.01)
    time.sleep(60)
    yield "too late"

async def threads(text):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return "left one"
"""

# What an agent that does not obey may cost these tests.
IMPATIENT = {
    "ACTORPOOL_SERVER_DRAIN_S": "0.1",
    "ACTORPOOL_POOL_CANCEL_GRACE_S": "0.1",
}

WEBHOOK_SECRET = "whsec_" + "A" * 32
WEBHOOKS = {
    "ACTORPOOL_WEBHOOKS_SECRET": WEBHOOK_SECRET,
    "ACTORPOOL_WEBHOOKS_ALLOW_PRIVATE": '["127.0.0.0/8"]',
    "ACTORPOOL_WEBHOOKS_ALLOW_HTTP": "true",
}


class Peer:
    """A server's process, and a client's session that knows where it is."""

    def __init__(self, server: Command, url: str, http: aiohttp.ClientSession) -> None:
        self.server = server
        self.url = url
        self.http = http

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        """POST some JSON; the status and the JSON of the answer."""
        async with self.http.post(self.url + path, json=body, headers=headers) as response:
            return response.status, msgspec.json.decode(await response.read())

    async def status(self, path: str) -> int:
        """The status of a GET."""
        async with self.http.get(self.url + path) as response:
            await response.read()
            return response.status

    async def begin(self, session: str = "s") -> str:
        """Submit a turn, and return its id once its agent has said something."""
        path = f"/v1/sessions/{session}/turns"
        _, turn = await self.post(path, {"input": "go"}, Prefer="respond-async")
        async with self.http.get(f"{self.url}/v1/turns/{turn['id']}/events") as events:
            async for line in events.content:
                if line.startswith(b"event: text.delta"):
                    break
        return str(turn["id"])

    async def ended(self) -> int:
        """The exit code of the server's process."""
        return await asyncio.to_thread(self.server.ended)


@contextmanager
def server(
    *arguments: str, directory: Path, environ: dict[str, str] | None = None
) -> Iterator[tuple[Command, str]]:
    """A server on a free port, and its URL."""
    (directory / "app.py").write_text(AGENTS)
    with command(
        "serve", *arguments, "--port", "0", directory=directory, environ=environ
    ) as process:
        yield process, process.wait_for(r"at (http://127\.0\.0\.1:\d+) ")[1]


@asynccontextmanager
async def peer(
    *arguments: str, directory: Path, environ: dict[str, str] | None = None
) -> AsyncIterator[Peer]:
    """A server and a client of it."""
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    with server(*arguments, directory=directory, environ=environ) as (process, url):
        async with aiohttp.ClientSession(timeout=timeout) as http:
            yield Peer(process, url, http)


async def test_serves_an_agent_and_says_how_to_try_it(tmp_path: Path) -> None:
    """One line names the agents, the URL and a request to try, and that request is answered; the
    next ones say where sessions are, and that nobody is asked who they are.
    """
    async with peer("app:echo", "other=app:gated", directory=tmp_path) as it:
        await asyncio.to_thread(it.server.wait_for, "of tenant default\n")
        line, where, who = it.server.output.splitlines()
        assert who.startswith("nobody is asked who they are")
        assert where == f"sessions live in {tmp_path}/actorpool/actorpool.db"
        assert line == (
            f"actorpool serves echo, other at {it.url} - try: "
            f'curl --json \'{{"message": "hello"}}\' {it.url}/agent/invoke'
        )
        status, body = await it.post("/agent/invoke", {"message": "hello"})
        assert (status, body["response"]) == (200, "echo: hello")


async def test_without_anything_the_demo_answers(tmp_path: Path) -> None:
    """No argument, no file and no environment are enough for a first try."""
    async with peer(directory=tmp_path) as it:
        status, body = await it.post("/agent/invoke", {"message": "hello"})
        assert status == 200
        assert body["response"].startswith("You said: hello")


async def test_metrics_are_a_page_of_the_server(tmp_path: Path) -> None:
    """Prometheus gets the turns that were answered, in the format that it accepts."""
    async with peer("app:echo", directory=tmp_path) as it:
        await it.post("/agent/invoke", {"message": "hello"})
        async with it.http.get(it.url + "/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            page = await response.text()
        assert 'actorpool_turns_total{agent="echo",state="completed"} 1.0' in page
        assert 'actorpool_actors{agent="echo",state="idle"} 1.0' in page
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with it.http.get(it.url + "/metrics", headers=accept) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            page = await response.text()
        assert page.endswith("# EOF\n")
        assert "actorpool_scrape_seconds_count 1.0" in page


async def test_the_log_is_json_and_keeps_secrets(tmp_path: Path) -> None:
    """Every line is JSON; an input, and an exception that quotes it, are in none of them."""
    async with peer("app:fails", directory=tmp_path) as it:
        status, _ = await it.post("/agent/invoke", {"message": SECRET})
        assert status == 502
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0
        lines = [msgspec.json.decode(line) for line in it.server.log.splitlines()]
        assert [line["event"] for line in lines if line["event"] == "turn ended"] == ["turn ended"]
        assert lines[-1]["event"] == "ended"
        assert SECRET not in it.server.log


async def test_a_signal_lets_turns_end(tmp_path: Path) -> None:
    """After SIGTERM readiness says no, new turns are refused, WebSockets hear of it, the running
    turn is answered in full, and the exit code is 0."""
    async with peer("app:gated", directory=tmp_path) as it:
        socket_ = it.http.ws_connect(it.url + "/v1/ws", protocols=("actorpool.v1",))
        async with socket_ as ws:
            await ws.send_json({"type": "hello"})
            assert (await ws.receive_json())["type"] == "welcome"
            turn_id = await it.begin()
            waiting = asyncio.ensure_future(
                it.http.get(f"{it.url}/v1/turns/{turn_id}", params={"wait_s": "20"})
            )
            it.server.send(signal.SIGTERM)
            assert (await ws.receive_json(timeout=PATIENCE_S))["type"] == "goodbye"
            assert await it.status("/ready") == 503
            status, problem = await it.post("/agent/invoke", {"message": "late"})
            assert (status, problem["code"]) == (503, "draining")
            (tmp_path / "open").touch()
            async with await waiting as response:
                turn = msgspec.json.decode(await response.read())
            assert (turn["state"], turn["output"]) == ("completed", "begun and done")
        assert await it.ended() == 0


async def test_interrupted_turns_are_told(tmp_path: Path) -> None:
    """A turn that outlasts the drain and cannot be kept ends as interrupted; that too is a clean
    end.
    """
    environ = {"ACTORPOOL_SERVER_DRAIN_S": "0.1", "ACTORPOOL_STORE_URL": "memory"}
    async with peer("app:gated", directory=tmp_path, environ=environ) as it:
        await it.begin()
        it.server.send(signal.SIGINT)
        assert await it.ended() == 0
        assert '"state":"interrupted"' in it.server.log


async def test_sessions_are_there_after_a_restart(tmp_path: Path) -> None:
    """Without a word about a store the next server knows what was said, and ends what the last
    one began.
    """
    environ = {"ACTORPOOL_SERVER_DRAIN_S": "0.1"}
    async with peer("app:gated", directory=tmp_path, environ=environ) as it:
        turn_id = await it.begin()
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0
    (tmp_path / "open").touch()
    async with peer("app:gated", directory=tmp_path, environ=environ) as it:
        async with it.http.get(f"{it.url}/v1/turns/{turn_id}?wait_s=20") as response:
            turn = msgspec.json.decode(await response.read())
        assert (turn["state"], turn["output"]) == ("completed", "begun and done")
        assert await it.status("/v1/sessions/s") == 200


async def test_webhooks_are_sent_when_there_is_a_secret(tmp_path: Path) -> None:
    """A turn's end is posted, signed; without a secret such a turn is refused."""
    async with receiving() as receiver:
        body = {"input": "hi", "webhook": {"url": receiver.url}}
        async with peer("app:echo", directory=tmp_path, environ=WEBHOOKS) as it:
            status, turn = await it.post("/v1/sessions/s/turns", body)
            assert status == 200
            await receiver.received(1)
            # what can be told from a URL is told before anything is accepted
            wrong = {"input": "hi", "webhook": {"url": "http://10.0.0.1/"}}
            status, problem = await it.post("/v1/sessions/s/turns", wrong)
            assert (status, problem["errors"][0]["field"]) == (400, "webhook.url")
        async with peer("app:echo", directory=tmp_path) as it:
            status, problem = await it.post("/v1/sessions/s/turns", body)
            assert (status, problem["errors"][0]["field"]) == (400, "webhook")
    (got,) = receiver.got
    assert got.verified(WEBHOOK_SECRET)["data"] == turn


async def test_a_webhook_survives_a_crash(tmp_path: Path) -> None:
    """A delivery that a receiver has not taken yet is the next server's, after kill -9 too."""
    async with receiving(500) as receiver:
        body = {"input": "hi", "webhook": {"url": receiver.url}}
        async with peer("app:echo", directory=tmp_path, environ=WEBHOOKS) as it:
            _, turn = await it.post("/v1/sessions/s/turns", body)
            await asyncio.to_thread(it.server.wait_for_log, "webhook is put off")
            it.server.send(signal.SIGKILL)
            assert await it.ended() == -signal.SIGKILL
        async with peer("app:echo", directory=tmp_path, environ=WEBHOOKS):
            await receiver.received(2)
    first, second = receiver.got
    assert first.body == second.body
    assert second.verified(WEBHOOK_SECRET)["data"] == turn


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_at_once(tmp_path: Path, number: signal.Signals) -> None:
    """Whoever asks twice does not wait for turns."""
    async with peer("app:gated", directory=tmp_path) as it:
        await it.begin()
        it.server.send(number)
        while await it.status("/ready") != 503:
            pass
        it.server.send(number)
        assert await it.ended() == 128 + number
        assert "second signal" in it.server.log


async def test_an_agent_that_swallows_cancellation_cannot_hold_the_process(tmp_path: Path) -> None:
    """The process ends by itself, in time and with 0, though a task of it never will."""
    async with peer("app:deaf", directory=tmp_path, environ=IMPATIENT) as it:
        await it.begin()
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0


async def test_a_thread_left_behind_cannot_hold_the_process(tmp_path: Path) -> None:
    """Python waits for threads; this process does so for an instant only."""
    async with peer("app:threads", directory=tmp_path, environ=IMPATIENT) as it:
        status, _ = await it.post("/agent/invoke", {"message": "go"})
        assert status == 200
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0


async def test_two_signals_end_a_process_whose_loop_is_blocked(tmp_path: Path) -> None:
    """The second signal works where no callback would ever run again; the log names who blocks."""
    environ = {"ACTORPOOL_POOL_WATCHDOG_S": "0.1"}
    async with peer("app:blocks", directory=tmp_path, environ=environ) as it:
        path = "/v1/sessions/s/turns"
        status, _ = await it.post(path, {"input": "go"}, Prefer="respond-async")
        assert status == 202
        (tmp_path / "open").touch()
        await asyncio.to_thread(it.server.wait_for_log, "event loop blocked")
        assert '"where":"app:blocks:' in it.server.log
        it.server.send(signal.SIGTERM)
        code = await asyncio.to_thread(it.server.insist, signal.SIGINT)
        assert code in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_what_does_not_end_is_ended() -> None:
    """After the first signal there is a limit, at which the process shows where it hangs."""
    program = (
        "import asyncio, os, signal\n"
        "from protocol.command.ending import EndSignals\n"
        "loop = asyncio.new_event_loop()\n"
        "EndSignals(loop, within_s=0.2)\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "def hangs():\n"
        "    while True: pass\n"
        "hangs()\n"
    )
    line = [sys.executable, "-c", program]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert b"in hangs" in done.stderr


def test_a_port_that_is_taken_is_a_mistake(tmp_path: Path) -> None:
    """What only shows when it is tried is said like any other mistake."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with command("serve", "--port", port, directory=tmp_path) as process:
            assert process.ended() == 1
            (line,) = process.log.splitlines()
    assert line.startswith(f"actorpool: server.port = {port}: something listens there already")


def test_an_address_of_another_machine_is_a_mistake(tmp_path: Path) -> None:
    """An address that this machine has not is named."""
    arguments = ("serve", "--insecure", "--host", "192.0.2.1", "--port", "0")
    with command(*arguments, directory=tmp_path) as process:
        assert process.ended() == 1
        assert "server.host = '192.0.2.1': this machine has no such address" in process.log
