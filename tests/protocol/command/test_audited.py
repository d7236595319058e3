"""The audit log of a server's process, and of the commands next to it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest

from pool.guard.audit_file import FileSink
from pool.store.memory import MemoryStore
from protocol.command.audited import noting
from protocol.settings import AuditSettings
from tests.contract.steps import answer
from tests.protocol.command.test_cli_store import stored
from tests.protocol.command.test_serve import peer
from tests.support.process import completed

pytestmark = pytest.mark.real_time

NAME = "audit.jsonl"
STORE = ("--store", "sqlite:pool.db")
IN_FILE = {"ACTORPOOL_AUDIT_TO": NAME}
IN_STORE = {"ACTORPOOL_AUDIT_TO": "store"}
SECRET = "canary-1e5d"


def exported(directory: Path, *where: str) -> list[dict[str, str]]:
    """The records, when it is clear that they are whole."""
    done = completed("audit", "verify", *where, directory=directory)
    assert done.returncode == 0, done.stdout + done.stderr
    done = completed("audit", "export", *where, directory=directory)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def said(records: list[dict[str, str]]) -> list[tuple[str, str]]:
    """What was done and what came of it."""
    return [(record["action"], record["outcome"]) for record in records]


@pytest.mark.parametrize(("environ", "where"), [(IN_FILE, (NAME,)), (IN_STORE, STORE)])
async def test_a_server_keeps_a_whole_log(
    tmp_path: Path, environ: dict[str, str], where: tuple[str, ...]
) -> None:
    """From its start to its end after a signal, in a file or in its store; inputs are not in it."""
    async with peer("app:echo", *STORE, directory=tmp_path, environ=environ) as it:
        status, _ = await it.post("/agent/invoke", {"message": SECRET})
        assert status == 200
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0
    records = await asyncio.to_thread(exported, tmp_path, *where)
    assert said(records) == [
        ("audit.opened", "new"),
        ("turn.accept", "accepted"),
        ("audit.closed", "closed"),
    ]
    assert SECRET not in json.dumps(records)


async def test_a_server_without_the_section_keeps_no_log(tmp_path: Path) -> None:
    """It is off unless somebody wants it."""
    async with peer("app:echo", *STORE, directory=tmp_path) as it:
        await it.post("/agent/invoke", {"message": "x"})
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0
    done = completed("audit", "verify", *STORE, directory=tmp_path)
    assert "there are no records" in done.stdout


@pytest.mark.parametrize(
    ("environ", "where"), [(IN_FILE, (f"{NAME}.commands",)), (IN_STORE, STORE)]
)
async def test_what_operators_do_is_recorded_next_to_a_server(
    tmp_path: Path, environ: dict[str, str], where: tuple[str, ...]
) -> None:
    """Keys made and withdrawn, agents disabled and enabled, by which user of the system; what only
    looks, or changed nothing, leaves no such record; the key is nowhere.
    """

    async def run(*arguments: str) -> str:
        done = await asyncio.to_thread(
            completed, *arguments, *STORE, directory=tmp_path, environ=environ
        )
        return done.stdout.strip()

    async with peer("app:echo", *STORE, directory=tmp_path, environ=environ) as it:
        key = await run("keys", "create", "--role", "admin")
        await run("keys", "list")
        key_id = key.split("_")[1]
        await run("keys", "revoke", key_id)
        await run("keys", "revoke", "0123456789abcdef")
        await run("agents", "disable", "echo", "--reason", SECRET)
        await run("agents", "list")
        await run("agents", "enable", "echo")
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0
    records = await asyncio.to_thread(exported, tmp_path, *where)
    done = sorted(
        (each["action"], each["subject"]) for each in records if each["action"][:6] == "admin."
    )
    assert done == [
        ("admin.create_key", f"key:{key_id} tenant:default"),
        ("admin.disable_agent", "agent:echo"),
        ("admin.enable_agent", "agent:echo"),
        ("admin.revoke_key", f"key:{key_id}"),
    ]
    assert {each["user"] for each in records if each["user"]} == {f"uid:{os.getuid()}"}
    text = json.dumps(records)
    assert key.split("_", 2)[2] not in text and SECRET not in text


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"ACTORPOOL_AUDIT_TO": "no/such/place"}, "the audit log cannot be opened"),
        ({**IN_FILE, "ACTORPOOL_AUDIT_KEY_FILE": "none"}, "audit.key_file = 'none'"),
        ({**IN_FILE, "ACTORPOOL_AUDIT_BUFFER_MAX": "0"}, "a number of at least 1"),
        ({**IN_FILE, "ACTORPOOL_AUDIT_UNWRITABLE": "panic"}, "write one of refuse, warn"),
    ],
)
def test_a_log_that_cannot_be_kept_is_a_mistake(
    tmp_path: Path, environ: dict[str, str], message: str
) -> None:
    """Nothing is served and nothing is done without it; one line says what is wrong."""
    for command in (("serve", "--port", "0"), ("keys", "create")):
        done = completed(*command, *STORE, directory=tmp_path, environ=environ)
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert "ap_" not in completed("keys", "list", *STORE, directory=tmp_path).stdout


@pytest.mark.parametrize(
    ("environ", "store", "message"),
    [
        (
            {"ACTORPOOL_AUDIT_TO": "no/such/place"},
            STORE[1],
            "audit.to = 'no/such/place': the audit log",
        ),
        ({"ACTORPOOL_AUDIT_TO": "notes/place"}, STORE[1], "cannot be opened: Not a directory"),
        ({"ACTORPOOL_AUDIT_TO": "/"}, STORE[1], "cannot be opened: Is a directory"),
        ({"ACTORPOOL_AUDIT_TO": "notes"}, STORE[1], "is no audit log: name a file of its own"),
        (IN_STORE, "memory", "audit.to = 'store': this store is of the process alone"),
    ],
)
def test_check_refuses_a_log_that_serve_refuses(
    tmp_path: Path, environ: dict[str, str], store: str, message: str
) -> None:
    """In the same words."""
    (tmp_path / "notes").write_text("to do\n")
    said = []
    for verb in ("check", "serve"):
        arguments = (verb, "--port", "0", "--store", store)
        done = completed(*arguments, directory=tmp_path, environ=environ)
        assert (done.returncode, done.stdout) == (1, "")
        said.append(done.stderr)
    assert said[0] == said[1]
    assert message in said[0]


async def test_a_deleted_session_is_recorded(tmp_path: Path) -> None:
    """As every command that changes what a store has: by its process's own log."""
    async with stored(tmp_path) as store:
        await answer(store)
    done = completed(
        *("sessions", "delete", "s1", "--tenant", "acme", "--yes", *STORE),
        directory=tmp_path,
        environ=IN_FILE,
    )
    assert done.returncode == 0, done.stderr
    records = exported(tmp_path, f"{NAME}.commands")
    assert ("admin.delete_session", "done") in said(records)


def test_what_cannot_wait_is_done_though_it_cannot_be_recorded(tmp_path: Path) -> None:
    """The kill switch and the withdrawal of a key: on standard error is why it is not in the log.
    What can wait is not done.
    """
    key = completed("keys", "create", *STORE, directory=tmp_path).stdout.strip()
    (tmp_path / f"{NAME}.commands").mkdir()

    def run(*arguments: str) -> tuple[int, str]:
        done = completed(*arguments, *STORE, directory=tmp_path, environ=IN_FILE)
        return done.returncode, done.stderr

    for arguments in (("agents", "disable", "echo"), ("keys", "revoke", key.split("_")[1])):
        code, error = run(*arguments)
        assert code == 0
        assert "this is not in the audit log: audit" in error
    code, error = run("agents", "enable", "echo")
    assert (code, "the audit log cannot be opened" in error) == (1, True)
    assert "echo" in completed("agents", "list", *STORE, directory=tmp_path).stdout
    assert completed("keys", "list", *STORE, directory=tmp_path).stdout == ""


async def test_commands_wait_for_each_others_log(tmp_path: Path) -> None:
    """One that comes while another is at it is recorded behind it."""
    other = FileSink(tmp_path / f"{NAME}.commands")
    await other.open("c1")
    settings = AuditSettings(to=str(tmp_path / NAME))
    noting_it = noting(settings, MemoryStore())
    entering = asyncio.ensure_future(noting_it.__aenter__())
    await asyncio.sleep(0)
    await other.close()
    notes = await entering
    notes.done("disable_agent", "agent:echo")
    await noting_it.__aexit__(None, None, None)
    records = await asyncio.to_thread(exported, tmp_path, f"{NAME}.commands")
    assert ("admin.disable_agent", "done") in said(records)


def test_a_store_that_forgets_keeps_no_log(tmp_path: Path) -> None:
    """It would be full one day, and refuse all turns: that is said at the start."""
    done = completed(
        *("serve", "--port", "0", "--store", "memory"), directory=tmp_path, environ=IN_STORE
    )
    assert done.returncode == 1
    assert "audit.to" in done.stderr and "name a file" in done.stderr


async def test_a_key_seals_the_log(tmp_path: Path) -> None:
    """Without it the chain cannot be verified, with it nothing is wrong."""
    (tmp_path / "key").write_bytes(b"k" * 32)
    environ = {**IN_FILE, "ACTORPOOL_AUDIT_KEY_FILE": "key"}
    done = completed("keys", "create", *STORE, directory=tmp_path, environ=environ)
    assert done.returncode == 0, done.stderr
    files = f"{NAME}.commands"
    assert completed("audit", "verify", files, directory=tmp_path).returncode == 1
    sealed = completed("audit", "verify", "--key-file", "key", files, directory=tmp_path)
    assert sealed.returncode == 0
