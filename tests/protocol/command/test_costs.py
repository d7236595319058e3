"""Limits, budgets and usage as operators have them: a file, and commands next to a server."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import signal
from pathlib import Path
from time import monotonic
from typing import Any, get_args

import pytest

from pool.guard.usage import By
from protocol.command.cli_cost import _PROPERTIES
from tests.protocol.command.test_keys import run
from tests.protocol.command.test_serve import Peer, peer
from tests.support.process import completed
from tests.support.redis_servers import redis_server

pytestmark = pytest.mark.real_time

TURNS = "/v1/sessions/s/turns"
# How soon every server goes by a limit that was changed, in seconds.
WITHIN_S = 5.0

# 600 tokens, which are 0.006 USD
AGENT = """
from pool.agent import TurnEnd
from pool.events import UsageReported
from pool.turn import Usage

class Spender:
    state_format = ""
    async def open(self): pass
    async def close(self): pass
    async def run(self, turn, ctx):
        await ctx.emit(UsageReported(Usage(input_tokens=600, requests=1, models=(turn.input,))))
        return TurnEnd(output="said")
"""

CONFIG = """
[store]
url = "sqlite:pool.db"

[audit]
to = "audit.jsonl"

[agents]
spender = "costly:Spender"

[budgets.team]
usd = 0.01

[budgets.each]
scope = "tenant"
period = "day"
tokens = 1_000_000

[budgets.once]
period = "turn"
tokens = 10_000

[prices."m*"]
input = 10
output = 10
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with an agent that spends, and a configuration with budgets."""
    (tmp_path / "costly.py").write_text(AGENT)
    (tmp_path / "actorpool.toml").write_text(CONFIG)
    return tmp_path


async def asked(it: Peer, model: str = "m1") -> tuple[int, Any]:
    """A turn of that model."""
    return await it.post(TURNS, {"input": model})


async def until_status(it: Peer, status: int) -> None:
    """Ask until the answer is this one, which it is within seconds."""
    began = monotonic()
    while (await asked(it))[0] != status:
        assert monotonic() - began < WITHIN_S


async def test_a_budget_is_exceeded_and_raised_next_to_a_running_server(place: Path) -> None:
    """An alert is in the log and the metrics, the next turn is 402; raised, it is answered; a
    restart changes nothing; and each change is an audit record.
    """
    async with peer(directory=place) as it:
        assert (await asked(it))[0] == 200
        await until_status(it, 402)
        _, refused = await asked(it)
        assert refused["code"] == "budget_exceeded"
        await asyncio.to_thread(it.server.wait_for_log, '"percent":100')
        async with it.http.get(f"{it.url}/metrics") as response:
            page = await response.text()
        assert 'actorpool_budget_notices_total{budget="team",outcome="alert"} 4.0' in page
        _, said, _ = await run("budgets", "list", directory=place)
        team, each, once = (line.split() for line in said.splitlines()[1:])
        assert (team[:2], team[3:6], team[7:]) == (
            ["team", "all"],
            ["0.01", "USD", "0.012"],
            ["120", "refuse"],
        )
        assert each[:3] == ["each", "each", "day"]
        assert once[2:5] == ["turn", "10000", "tokens"]

        code, said, _ = await run("budgets", "set", "team", "--usd", "1", directory=place)

        assert (code, "budget team is 1 USD a month now" in said) == (0, True)
        await until_status(it, 200)
    async with peer(directory=place) as it:
        assert (await asked(it))[0] == 200
        _, said, _ = await run("budgets", "list", "--tenant", "default", directory=place)
        assert "1 USD (configured: 0.01)" in said
        assert "default" in said
        _, said, _ = await run("budgets", "list", "--json", directory=place)
        rows = [json.loads(line) for line in said.splitlines()]
        assert (rows[0]["usd"]["limit"], rows[1]["tokens"]["spent"]) == (1, None)
        assert (await run("budgets", "unset", "team", directory=place))[0] == 0
        await until_status(it, 402)
        code, _, said = await run("budgets", "unset", "team", directory=place)
        assert (code, "is as it is configured" in said) == (1, True)
    records = [
        json.loads(line)["record"]
        for line in (place / "audit.jsonl.commands").read_text().splitlines()
    ]
    changes = [each for each in records if each["action"].endswith("_budget")]
    assert [(each["action"], each["subject"], each["reason"]) for each in changes] == [
        ("admin.set_budget", "budget:team", "usd 1"),
        ("admin.unset_budget", "budget:team", ""),
    ]


async def test_usage_is_read_next_to_a_running_server(place: Path) -> None:
    """As a table, as CSV and as JSON, by whatever is asked for; unknown prices are no zero."""
    async with peer(directory=place, environ={"ACTORPOOL_USAGE_PRICE_TABLE": "off"}) as it:
        assert (await asked(it))[0] == 200
        assert (await asked(it, "unknown"))[0] == 200
        by_model = ("usage", "--by", "model")
        _, said, _ = await run(*by_model, directory=place)
        while said.count("\n") < 3:
            _, said, _ = await run(*by_model, directory=place)
        head, first, second = said.splitlines()
        assert head.split()[:3] == ["MODEL", "TURNS", "INPUT"]
        assert first.split()[:3] + first.split()[-2:] == ["m1", "1", "600", "0.006000", "0"]
        assert second.split()[:3] + second.split()[-2:] == ["unknown", "1", "600", "-", "1"]
        _, said, _ = await run(*by_model, "--csv", directory=place)
        rows = list(csv.DictReader(io.StringIO(said)))
        assert [(each["model"], each["cost_usd"]) for each in rows] == [
            ("m1", "0.006"),
            ("unknown", ""),
        ]
        only = ("--tenant", "default", "--user", "none", "--agent", "spender")
        _, said, _ = await run("usage", "--json", *only, directory=place)
        assert (json.loads(said)["by"], json.loads(said)["usage"]) == (["day"], [])
        days = ("--from", "2020-01-01", "--to", "2020-01-02")
        _, said, _ = await run("usage", *days, directory=place)
        assert said == "no turn ended from 2020-01-01 to 2020-01-02\n"
        async with it.http.get(f"{it.url}/metrics") as response:
            page = await response.text()
        assert 'actorpool_unpriced_turns_total{agent="spender"} 1.0' in page
        it.server.send(signal.SIGTERM)
        assert await it.ended() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("budgets", "set", "other", "--usd", "1"), "no budget other; there is: team, each, once"),
        (("budgets", "set", "team"), "give tokens, usd or both"),
        (("budgets", "set", "team", "--usd", "nan"), "usd must be 0.000001 to 1000000000"),
        (("budgets", "set", "team", "--tokens", "1"), "no limit of tokens in its configuration"),
        (("budgets", "unset", "other"), "there is no budget other"),
        (("usage", "--by", "day,session"), "'session' is none of day, tenant, user, agent, model"),
        (("usage", "--from", "2026-02-01", "--to", "2026-01-01"), "the last day is before"),
        (("usage", "--from", "tomorrow"), "does not match the format"),
        (("usage", "--store", "memory"), "is of one process alone"),
    ],
)
def test_a_command_that_cannot_be_is_a_mistake(
    place: Path, arguments: tuple[str, ...], said: str
) -> None:
    """One line that says what is wrong, without a traceback."""
    done = completed(*arguments, directory=place)
    assert (done.returncode != 0, done.stdout) == (True, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_knows_every_property() -> None:
    """By which usage can be added up."""
    assert get_args(By) == _PROPERTIES


def test_check_says_what_is_limited(place: Path) -> None:
    """Rates, budgets and prices have a line each."""
    environ = {"ACTORPOOL_LIMITS_REQUESTS_PER_MINUTE": "60"}
    done = completed("check", directory=place, environ=environ)
    assert "limits  principal-requests-60 60\n" in done.stdout
    assert "budgets team, each, once\n" in done.stdout
    assert "prices  1 configured, genai-prices\n" in done.stdout


async def test_rates_are_counted_in_a_redis_of_their_own(place: Path) -> None:
    """Which has nothing else; a refusal says when to come back."""
    with redis_server() as redis:
        environ = {
            "ACTORPOOL_LIMITS_REQUESTS_PER_MINUTE": "1",
            "ACTORPOOL_LIMITS_RATES": '[{"who": "tenant", "amount": 1, "window_s": 86400}]',
            "ACTORPOOL_LIMITS_URL": redis.url,
        }
        async with peer(directory=place, environ=environ) as it:
            assert (await asked(it))[0] == 200
            status, body = await asked(it)
            assert (status, body["code"]) == (429, "rate_limited")
            assert body["retry_after_s"] > 0
            it.server.send(signal.SIGTERM)
            assert await it.ended() == 0
