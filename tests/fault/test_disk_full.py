"""The disk is full, and later it is not."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fault.audit import audit
from tests.fault.clients import Caller, Reply, calling, eventually
from tests.fault.replicas import Replica, fleet
from tests.support.redis_servers import redis_server

pytestmark = [
    pytest.mark.real_time(25),
    pytest.mark.skipif(
        not hasattr(resource, "prlimit"),
        reason="ONLY LINUX lets one process limit another: a full disk is NOT TESTED here",
    ),
]

# What is written for each try until nothing fits any more.
LARGE = "x" * 20_000
SMALL_DISK_BYTES = 4 * 2**20


async def submit_large(caller: Caller, replica: Replica, number: int) -> Reply:
    """A turn that takes some room; whatever the replica answers."""
    url = f"{replica.url}/v1/sessions/large/turns"
    body = {"input": f"say=1 {LARGE}", "metadata": {"number": number}}
    return await caller.call("POST", url, body, Prefer="respond-async")


async def until_full(caller: Caller, replica: Replica) -> list[str]:
    """Submit until one is refused, as it must be: the turns that were accepted."""
    accepted: list[str] = []
    for number in range(1_000):
        reply = await submit_large(caller, replica, number)
        if reply.status != 202:
            assert (reply.status, reply.body["code"]) == (503, "store_unavailable"), reply
            assert reply.body["retryable"] and int(reply.headers["Retry-After"]) >= 1
            return accepted
        accepted.append(reply.body["id"])
    raise AssertionError("the disk is never full")


async def survives(
    replica: Replica, caller: Caller, fill: Callable[[], None], mend: Callable[[], None]
) -> list[str]:
    """A full disk, and one with room again: refusals in between, and nothing lost."""
    held = await caller.submit("held", "hold=gate say=3", at=replica)
    await caller.begun(held)
    fill()
    accepted = await until_full(caller, replica)
    caller.fleet.runs.open("gate")
    # what is there can still be read
    assert (await caller.call("GET", f"{replica.url}/v1/sessions/held")).status == 200
    assert (await caller.call("GET", f"{replica.url}/health")).status == 200
    mend()

    async def taken() -> str | None:
        reply = await submit_large(caller, replica, -1)
        return reply.body["id"] if reply.status == 202 else None

    accepted.append(await eventually(taken, "turns are taken again"))
    for turn in (held, *accepted):
        assert (await caller.ended(turn))["state"] == "completed"
    return [held, *accepted]


async def test_a_full_disk_under_sqlite_refuses_and_recovers(tmp_path: Path) -> None:
    """Row 15: no file may grow any more. Turns are refused with 503, the server lives, and goes on
    without a restart once there is room.
    """
    url = f"sqlite://{tmp_path}/pool.db"
    with fleet(1, url, tmp_path) as replicas:
        (replica,) = replicas
        pid = replica.process.process.pid
        async with calling(replicas) as caller:
            accepted = await survives(
                replica,
                caller,
                fill=lambda: limit_files(pid, largest(tmp_path, "pool.db*")),
                mend=lambda: limit_files(pid, resource.RLIM_INFINITY),
            )
        replica.kill()
        await audit(url, replicas.runs, accepted=accepted)


async def test_a_small_disk_under_sqlite_refuses_and_recovers(tmp_path: Path) -> None:
    """Row 15: the file is on a disk of 4 MB that fills up, and then has room again."""
    with small_disk(tmp_path / "disk") as disk:
        url, ballast = f"sqlite://{disk}/pool.db", disk / "ballast"
        with fleet(1, url, tmp_path) as replicas:
            (replica,) = replicas
            async with calling(replicas) as caller:
                accepted = await survives(
                    replica,
                    caller,
                    fill=lambda: fill_up(ballast),
                    mend=ballast.unlink,
                )
            replica.kill()
            await audit(url, replicas.runs, accepted=accepted)


async def test_a_full_disk_under_redis_refuses_and_recovers(tmp_path: Path) -> None:
    """Row 15: Redis cannot write its AOF and refuses writes. So do the servers, with 503, and all
    goes on once there is room.
    """
    with redis_server(appendonly="everysec") as redis, fleet(1, redis.url, tmp_path) as replicas:
        (replica,) = replicas
        async with calling(replicas) as caller:
            accepted = await survives(
                replica,
                caller,
                fill=lambda: limit_files(redis.pid, largest(redis.directory, "**/*append*")),
                mend=lambda: limit_files(redis.pid, resource.RLIM_INFINITY),
            )
        await audit(redis.url, replicas.runs, accepted=accepted)


def limit_files(pid: int, size: int) -> None:
    """Let no file of a process grow beyond a size, in bytes: to it the disk is full."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def largest(directory: Path, pattern: str) -> int:
    """The size of the largest of some files."""
    return max(path.stat().st_size for path in directory.glob(pattern) if path.is_file())


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A disk of its own, where this user may mount one."""
    path.mkdir()
    size = f"size={SMALL_DISK_BYTES}"
    mount, umount = shutil.which("mount"), shutil.which("umount")
    if (
        mount is None
        or umount is None
        or os.geteuid() != 0
        or subprocess.run([mount, "-t", "tmpfs", "-o", size, "none", path], check=False).returncode
    ):
        pytest.skip("THIS USER MAY NOT MOUNT: a disk that is really full is NOT TESTED here")
    try:
        yield path
    finally:
        subprocess.run([umount, "-l", path], check=True)


def fill_up(ballast: Path) -> None:
    """Take all room that is left on the disk of a file."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(16_384))
        except OSError:
            # full, as it should be
            return
