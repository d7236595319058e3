"""The operator's commands as processes, on a SQLite file that a server may be using."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pool.store.base import Store
from pool.store.limits import Retention
from pool.store.urls import store_of
from tests.contract.steps import S1, answer
from tests.protocol.command.test_serve import peer, server
from tests.support.process import completed

pytestmark = pytest.mark.real_time

FILE = "pool.db"
TURNS = "/v1/sessions/s/turns"
STORE = ("--store", f"sqlite:{FILE}")


@asynccontextmanager
async def stored(directory: Path) -> AsyncIterator[Store]:
    """The store in a directory, open until the block is left."""
    store = store_of(f"sqlite://{directory / FILE}", retention=Retention(), lease_s=10.0)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def test_what_is_there_is_listed_and_shown(tmp_path: Path) -> None:
    """Sessions, turns and a turn's events, from a file that no server has open."""
    async with stored(tmp_path) as store:
        turn = await answer(store, "why", output="because")
    done = completed("sessions", "list", *STORE, "--tenant", "acme", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].split()[:2] == ["acme", "s1"]
    done = completed("turns", "list", "s1", *STORE, "--tenant", "acme", directory=tmp_path)
    assert done.stdout.splitlines()[1].startswith(turn.id)
    done = completed("turns", "show", turn.id, *STORE, "--events", "--json", directory=tmp_path)
    shown = json.loads(done.stdout)
    assert (shown["output"], len(shown["events"])) == ("because", 4)
    done = completed(
        *("sessions", "show", "s1", "--tenant", "acme", "--messages", *STORE), directory=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "  because"


async def test_a_session_is_deleted_after_a_yes(tmp_path: Path) -> None:
    """Without one nothing is deleted; there is nobody to ask where no terminal is."""
    async with stored(tmp_path) as store:
        await answer(store)
    line = ("sessions", "delete", "s1", "--tenant", "acme", *STORE)
    done = completed(*line, directory=tmp_path)
    assert done.returncode == 1
    assert "Forget the session with all its turns? [y/N]" in done.stdout
    done = completed(*line, "--yes", directory=tmp_path)
    assert (done.returncode, done.stdout) == (0, "session s1 of tenant acme is forgotten\n")
    async with stored(tmp_path) as store:
        assert await store.session(S1) is None


async def test_dead_letters_have_their_commands(tmp_path: Path) -> None:
    """An empty list is empty; what is no dead letter is refused, with exit code 1."""
    async with stored(tmp_path) as store:
        turn = await answer(store)
    assert completed("dead-letters", "list", *STORE, directory=tmp_path).stdout == ""
    for verb in ("show", "requeue", "delete"):
        done = completed("dead-letters", verb, turn.id, *STORE, directory=tmp_path)
        assert done.returncode == 1
        assert done.stderr == f"actorpool: there is no dead letter {turn.id}\n"


async def test_a_turn_goes_again_on_the_server_that_runs(tmp_path: Path) -> None:
    """Next to a server, on the file that both take by themselves: it runs the new turn."""
    async with peer("app:fails", directory=tmp_path) as it:
        _, turn = await it.post(TURNS, {"input": "hi"}, Prefer="respond-async")
        async with it.http.get(f"{it.url}/v1/turns/{turn['id']}?wait_s=20") as response:
            assert (await response.json())["state"] == "failed"
        line = ("turns", "requeue", turn["id"])
        done = await asyncio.to_thread(completed, *line, directory=tmp_path)
        assert done.returncode == 0, done.stderr
        new_id = done.stdout.split()[4].rstrip(",")
        async with it.http.get(f"{it.url}/v1/turns/{new_id}?wait_s=20") as response:
            new = await response.json()
        assert (new["state"], new["input"]) == ("failed", "hi")
        assert new["metadata"] == {"requeued_from": turn["id"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "memory"], "store.url = 'memory': is of one process alone"),
        (["--store", "sqlite:none.db"], "there is no such file: name the store of the server"),
        (["--store", "tape"], "--store = 'tape': write memory, sqlite:///path/to/file.db"),
        (["--config", "none.toml"], "there is no such file"),
        ([], "there is no such file: name the store of the server"),
        (["--store", "redis://:canary@127.0.0.1:1/0"], "127.0.0.1:1"),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    """What is wrong and what to do, without a password; exit code 1."""
    done = completed("sessions", "list", *arguments, directory=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("actorpool: ")
    assert message in line
    assert "canary" not in line


async def test_sessions_are_migrated(tmp_path: Path) -> None:
    """From one file into another that is made; again and again; the exit code says whether."""
    async with stored(tmp_path) as store:
        await answer(store)
    line = ("migrate", "--from", f"sqlite:{FILE}", "--to", "sqlite:new/other.db")
    done = completed(*line, directory=tmp_path)
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [
            "carried 1 sessions with 1 turns, left 0 that were there before",
            "all sessions are there",
        ],
    )
    async with stored(tmp_path) as store:
        await answer(store, "more")
    done = completed(*line, directory=tmp_path)
    assert done.returncode == 1
    assert "1 sessions are not the same in both" in done.stdout


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (FILE, FILE, "--to = '{path}': is where they are already"),
        (FILE, f"./sub/../{FILE}", "--to = '{path}': is where they are already"),
        ("none.db", "other.db", "there is no such file"),
    ],
)
def test_a_migration_that_makes_no_sense_is_refused(
    tmp_path: Path, source: str, target: str, message: str
) -> None:
    """From nowhere, or to where they are."""
    (tmp_path / FILE).touch()
    line = ("migrate", "--from", f"sqlite:{source}", "--to", f"sqlite:{target}")
    done = completed(*line, directory=tmp_path)
    assert done.returncode == 1
    assert message.format(path=tmp_path / FILE) in done.stderr


def test_a_file_that_a_server_uses_is_not_migrated(tmp_path: Path) -> None:
    """What the server writes meanwhile might be left behind: it has to be stopped."""
    with server("app:echo", *STORE, directory=tmp_path) as (process, _):
        line = ("migrate", "--from", f"sqlite:{FILE}", "--to", "sqlite:other.db")
        done = completed(*line, directory=tmp_path)
        assert done.returncode == 1
        assert f"the file is in use by process {process.process.pid}" in done.stderr
        process.send(signal.SIGTERM)
        assert process.ended() == 0
    assert completed(*line, directory=tmp_path).returncode == 0
