"""API keys and the kill switch as operators have them: processes next to a server."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from time import monotonic

import aiohttp
import pytest

from tests.protocol.command.test_serve import peer
from tests.support.process import command, completed

pytestmark = pytest.mark.real_time

STORE = ("--store", "sqlite:pool.db")
# The promise of the kill switch, in seconds.
WITHIN_S = 5.0


def created(directory: Path, *options: str) -> str:
    """A new key: what standard output has of it, and nothing else."""
    done = completed("keys", "create", *STORE, *options, directory=directory)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line not in done.stderr
    return line


async def run(*arguments: str, directory: Path) -> tuple[int, str, str]:
    """A command's exit code and what it said, without keeping the loop from what else runs."""
    done = await asyncio.to_thread(completed, *arguments, directory=directory)
    return done.returncode, done.stdout, done.stderr


def test_a_key_is_made_before_there_is_a_server(tmp_path: Path) -> None:
    """It is listed by its id, tenant and roles; what it is made of is in no listing or file."""
    key = created(
        tmp_path, "--tenant", "acme", "--role", "admin", "--name", "ci", "--expires", "1d"
    )
    _, key_id, secret = key.split("_", 2)
    done = completed("keys", "list", *STORE, directory=tmp_path)
    row = done.stdout.splitlines()[1].split()
    assert row[:5] == [key_id, "acme", f"key-{key_id}", "user,operator,admin", "ci"]
    done = completed("keys", "list", "--json", *STORE, directory=tmp_path)
    (listed,) = map(json.loads, done.stdout.splitlines())
    assert listed["expires_at"] is not None
    assert secret not in done.stdout
    assert not [
        each
        for each in tmp_path.iterdir()
        if each.is_file() and secret.encode() in each.read_bytes()
    ]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--tenant", "../x"), "a key cannot have this tenant: write 1 to 64 letters"),
        (("--expires", "soon"), "write a time as 90s, 15m, 12h or 30d"),
        (("--expires", "0s"), "more than 0 seconds"),
        (("--expires", "99999999d"), "at most 100 years"),
        (("--store", "memory"), "is of one process alone"),
    ],
)
def test_a_key_that_cannot_be_is_a_mistake(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    """One line, without a traceback."""
    done = completed("keys", "create", *STORE, *options, directory=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_is_not_there_cannot_be_withdrawn(tmp_path: Path) -> None:
    """The exit code says so; those that are there are withdrawn all the same."""
    key = created(tmp_path)
    done = completed("keys", "revoke", *STORE, "none", "a/b", key, directory=tmp_path)
    assert done.returncode == 1
    assert "there is no key none" in done.stderr
    assert "key must be 1 to 64" in done.stderr
    assert key not in done.stdout + done.stderr
    assert completed("keys", "list", *STORE, directory=tmp_path).stdout == ""


async def test_keys_work_next_to_a_running_server(tmp_path: Path) -> None:
    """Made, used and withdrawn while it runs: within seconds the withdrawn one is 401."""
    async with peer("app:echo", "--auth", "keys", *STORE, directory=tmp_path) as it:
        await asyncio.to_thread(it.server.wait_for, "actorpool keys create\n")
        asked = {"message": "hello"}
        status, body = await it.post("/agent/invoke", asked)
        assert (status, body["code"]) == (401, "unauthenticated")
        assert await it.status("/health") == 200
        assert await it.status("/metrics") == 401
        key = await asyncio.to_thread(created, tmp_path)
        status, body = await it.post("/agent/invoke", asked, Authorization=f"Bearer {key}")
        assert (status, body["response"]) == (200, "echo: hello")
        headers = {"X-API-Key": key}
        url = f"{it.url}/v1/ws"
        async with it.http.ws_connect(url, headers=headers, protocols=("actorpool.v1",)) as socket:
            await socket.send_str('{"type":"hello"}')
            await socket.receive()
            key_id = key.split("_")[1]
            code, _, _ = await run("keys", "revoke", *STORE, key_id, directory=tmp_path)
            assert code == 0
            began = monotonic()
            message = await socket.receive()
            assert message.type in (aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.CLOSED)
            assert (socket.close_code, monotonic() - began < WITHIN_S) == (4401, True)
        status, _ = await it.post("/agent/invoke", asked, Authorization=f"Bearer {key}")
        assert status == 401
        assert key.split("_", 2)[2] not in it.server.log + it.server.output


async def test_a_disabled_agent_is_refused_by_a_running_server(tmp_path: Path) -> None:
    """Within five seconds, with the reason; readiness says so and stays good for the others."""
    agents = ("app:echo", "other=app:echo")
    async with peer(*agents, *STORE, directory=tmp_path) as it:
        turns = "/v1/sessions/s/turns"
        options = ("--reason", "it spends too much")
        code, said, _ = await run("agents", "disable", "echo", *options, *STORE, directory=tmp_path)
        assert (code, "new turns are refused" in said) == (0, True)
        began = monotonic()
        status, body = await it.post(turns, {"input": "x"})
        while status == 200:
            status, body = await it.post(turns, {"input": "x"})
        assert monotonic() - began < WITHIN_S
        assert (status, body["code"]) == (503, "agent_degraded")
        assert "disabled by an operator: it spends too much" in body["detail"]
        status, _ = await it.post(turns, {"input": "x", "agent": "other"})
        assert status == 200
        async with it.http.get(f"{it.url}/ready") as response:
            check = (await response.json())["checks"]["agent:echo"]
        assert response.status == 200
        assert "it spends too much" in check["detail"]
        _, said, _ = await run("agents", "list", *STORE, directory=tmp_path)
        assert said.splitlines()[1].split()[0] == "echo"
        _, said, _ = await run("agents", "list", "--json", *STORE, directory=tmp_path)
        assert json.loads(said)["cancel"] is False
        await run("agents", "disable", "other", *STORE, directory=tmp_path)
        while await it.status("/ready") == 200:
            pass
        for agent in ("echo", "other"):
            code, _, _ = await run("agents", "enable", agent, *STORE, directory=tmp_path)
            assert code == 0
        while await it.status("/ready") != 200:
            pass
        assert (await it.post(turns, {"input": "x"}))[0] == 200
        code, _, said = await run("agents", "enable", "echo", *STORE, directory=tmp_path)
        assert (code, "echo is not disabled" in said) == (1, True)


async def test_with_cancel_running_turns_of_a_server_end(tmp_path: Path) -> None:
    """The switch of another process ends them within seconds."""
    async with peer("app:gated", *STORE, directory=tmp_path) as it:
        turn = await it.begin()
        await run("agents", "disable", "gated", "--cancel", *STORE, directory=tmp_path)
        began = monotonic()
        async with it.http.get(f"{it.url}/v1/turns/{turn}?wait_s=20") as response:
            assert (await response.json())["state"] == "cancelled"
        assert monotonic() - began < WITHIN_S


async def test_chat_shows_its_key(tmp_path: Path) -> None:
    """By option or environment; without one it is told what to do."""
    async with peer("app:echo", "--auth", "keys", *STORE, directory=tmp_path) as it:
        key = await asyncio.to_thread(created, tmp_path)
        chat = ("chat", "--url", it.url)

        def talk(*options: str, **environ: str) -> tuple[int, str]:
            with command(*chat, *options, directory=tmp_path, environ=environ) as process:
                process.write("hello\n")
                if process.process.stdin is not None:
                    process.process.stdin.close()
                    process.process.stdin = None
                output = b"" if process.process.stdout is None else process.process.stdout.read()
                return process.ended(), output.decode()

        for options, environ in ((("--key", key), {}), ((), {"ACTORPOOL_KEY": key})):
            code, output = await asyncio.to_thread(talk, *options, **environ)
            assert (code, "echo: hello" in output) == (0, True)
        code, output = await asyncio.to_thread(talk)
        assert (code, "ACTORPOOL_KEY" in output) == (1, True)


def test_the_key_of_the_chat_is_no_option_of_a_server(tmp_path: Path) -> None:
    """Whoever has it in the environment can still serve."""
    done = completed("check", directory=tmp_path, environ={"ACTORPOOL_KEY": "ap_x"})
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ACTORPOOL_AUTH_MODE": "key"}, "write one of open, keys, jwt, both"),
        ({"ACTORPOOL_AUTH_MODE": "jwt"}, "give a key or a jwks_url"),
        (
            {
                "ACTORPOOL_AUTH_MODE": "jwt",
                "ACTORPOOL_AUTH_JWT_KEY": "canary",
                "ACTORPOOL_AUTH_JWT_ALGORITHMS": '["HS256"]',
                "ACTORPOOL_AUTH_JWT_AUDIENCE": "a",
                "ACTORPOOL_AUTH_JWT_ISSUER": "i",
            },
            "32 bytes or more",
        ),
        (
            {
                "ACTORPOOL_AUTH_MODE": "jwt",
                "ACTORPOOL_AUTH_JWT_KEY": "canary",
                "ACTORPOOL_AUTH_JWT_ALGORITHMS": '["RS256"]',
                "ACTORPOOL_AUTH_JWT_AUDIENCE": "a",
                "ACTORPOOL_AUTH_JWT_ISSUER": "i",
            },
            "is no public key in PEM for RS256",
        ),
        ({"ACTORPOOL_AUTH_JWT_KEY": "canary"}, "nobody is asked for a token"),
        ({"ACTORPOOL_AUTH_PUBLIC": '["/v1/pool"]'}, "only these can be public"),
    ],
)
@pytest.mark.parametrize("verb", ["check", "serve"])
def test_an_authentication_that_cannot_be_is_said(
    tmp_path: Path, verb: str, environ: dict[str, str], said: str
) -> None:
    """One line that names the option, and no secret."""
    done = completed(verb, "--port", "0", directory=tmp_path, environ=environ)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("actorpool: ")
    assert said in line
    assert "canary" not in line


def test_check_says_how_callers_are_asked(tmp_path: Path) -> None:
    """The mode, in words; with keys the server may listen beyond this machine."""
    done = completed("check", "--auth", "keys", "--host", "0.0.0.0", directory=tmp_path)
    assert done.returncode == 0
    assert "auth    keys: callers show an API key: actorpool keys create\n" in done.stdout
