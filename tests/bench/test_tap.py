"""The tap counts the scripts of counted sessions, whole and once, and changes nothing."""

from __future__ import annotations

import pytest
from redis.connection import Connection

from bench.tap import COUNTED, Counts, Tap
from tests.support.redis_servers import redis_server


def script(key: str) -> list[bytes]:
    """A command that runs a script on a key."""
    return [b"EVALSHA", b"digest", b"1", key.encode(), b"argument"]


def test_one_piece_may_hold_many_scripts() -> None:
    """Scripts that come in one piece are one write."""
    counts = Counts()

    counts.add([script(f"ap:s:{COUNTED}1"), script(f"ap:s:{COUNTED}2")])
    counts.add([script(f"ap:s:{COUNTED}1")])

    assert (counts.scripts, counts.writes) == (3, 2)


@pytest.mark.parametrize(
    "commands",
    [
        [],
        [[b"PING"]],
        [script("ap:s:warm-1")],
        [[b"EVALSHA", b"digest", b"1", b"ap:index", COUNTED.encode()]],
    ],
)
def test_what_goes_by_the_clock_is_not_counted(commands: list[list[bytes]]) -> None:
    """Commands that are about no counted session, or only name one, count nothing."""
    counts = Counts()

    counts.add(commands)

    assert (counts.scripts, counts.writes) == (0, 0)


@pytest.mark.real_time
def test_answers_are_those_of_the_server() -> None:
    """A client is answered as if there were no tap, and its script is counted."""
    with redis_server() as server, Tap(server.port) as tap:
        connection = Connection("127.0.0.1", tap.port, protocol=2)
        # longer than any one piece
        said = b"x" * 1_000_000
        connection.send_command("EVAL", "return ARGV[1]", 1, f"{COUNTED}1", said)
        answer = connection.read_response()
        connection.disconnect()

    assert answer == said
    assert (tap.counts.scripts, tap.counts.writes) == (1, 1)
