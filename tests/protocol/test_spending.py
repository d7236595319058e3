"""Limits, budgets, prices and usage as options, from a file and from the environment."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from pool.errors import ConfigError
from pool.guard.budget import Budget
from pool.guard.ledger import CostConfig
from pool.guard.prices import Price
from pool.guard.quota import QuotaLimits
from pool.guard.rates import RateLimit
from pool.guard.usage import UsageConfig
from protocol.command.costs import table_of, windows_of
from protocol.command.sources import gather
from protocol.settings import Settings
from protocol.spending import LimitSettings, UsageSettings

TOML = """
[limits]
requests_per_minute = 60
tenant_tokens_per_minute = 100_000
turns_per_tenant = 4
turns_of = { acme = 8 }
connections_per_tenant = 5

[[limits.rates]]
who = "tenant"
what = "tokens"
amount = 1_000_000
window_s = 86_400
of = { acme = 5_000_000 }

[budgets.team]
usd = 100
alerts = [80]

[budgets.each]
scope = "user"
period = "day"
tokens = 1_000

[prices."gpt-5*"]
input = 1.25
output = 10

[usage]
keep_days = 90
price_table = "off"
"""


def gathered(directory: Path, toml: str = "", **environ: str) -> Settings:
    """The settings of a file and an environment."""
    (directory / "actorpool.toml").write_text(toml)
    return gather((), (), environ, file=None, directory=directory)


def test_a_file_says_what_turns_may_cost(tmp_path: Path) -> None:
    """Everything that a pool can be told."""
    assert gathered(tmp_path, TOML).cost == CostConfig(
        rates=(
            RateLimit(amount=60),
            RateLimit(who="tenant", what="tokens", amount=100_000),
            RateLimit(
                who="tenant",
                what="tokens",
                amount=1_000_000,
                window_s=86_400,
                of={"acme": 5_000_000},
            ),
        ),
        turns=QuotaLimits(each=4, of={"acme": 8}),
        connections=QuotaLimits(each=5),
        prices={"gpt-5*": Price(1.25, 10)},
        budgets=(
            Budget(name="team", usd=100, alerts=(80,)),
            Budget(name="each", scope="user", period="day", tokens=1_000),
        ),
        usage=UsageConfig(keep_days=90),
    )


def test_without_options_nothing_is_limited(tmp_path: Path) -> None:
    """Usage is counted in any case."""
    assert gathered(tmp_path).cost == CostConfig()


def test_the_environment_has_it_as_json(tmp_path: Path) -> None:
    """Whole sections with names in them, lists, tables and numbers; over the file, by option."""
    settings = gathered(
        tmp_path,
        TOML,
        ACTORPOOL_BUDGETS='{"team": {"usd": 5}, "more": {"tokens": 10}}',
        ACTORPOOL_PRICES='{"x": {"input": 1, "output": 2}}',
        ACTORPOOL_LIMITS_REQUESTS_PER_MINUTE="6",
        ACTORPOOL_LIMITS_RATES='[{"who": "global", "amount": 4, "window_s": 3600}]',
        ACTORPOOL_LIMITS_TURNS_OF='{"rival": 1}',
    )
    assert [(each.name, each.usd, each.alerts) for each in settings.budgets] == [
        ("team", 5, (80,)),
        ("each", None, (50, 75, 90, 100)),
        ("more", None, (50, 75, 90, 100)),
    ]
    assert list(settings.prices) == ["gpt-5*", "x"]
    names = [(each.name, each.amount) for each in settings.limits.all_rates]
    assert names == [
        ("principal-requests-60", 6),
        ("tenant-tokens-60", 100_000),
        ("global-requests-3600", 4),
    ]
    assert settings.limits.turns_of == {"rival": 1}


def test_each_flat_limit_is_a_rate_in_a_minute() -> None:
    """Of requests and tokens; of a principal, a tenant, and all."""
    names = [name for name in LimitSettings.__struct_fields__ if name.endswith("_per_minute")]
    amounts = {name: place + 1 for place, name in enumerate(names)}
    limits = msgspec.convert(amounts, LimitSettings)
    assert [(each.name, each.amount) for each in limits.all_rates] == [
        ("principal-requests-60", 1),
        ("principal-tokens-60", 2),
        ("tenant-requests-60", 3),
        ("tenant-tokens-60", 4),
        ("global-requests-60", 5),
        ("global-tokens-60", 6),
    ]


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("[limits]\nrequests_per_minute = 0", "limits.requests_per_minute = 0: write a whole"),
        ("[limits]\nrequests_per_mnute = 1", "did you mean requests_per_minute?"),
        ("[limits.turns_of]\nacme = -1", "write a whole number of at least 0"),
        ('[limits]\nurl = "redsi://:canary@x"', "limits.url = 'redsi://***@x': begin it with"),
        ("[[limits.rates]]\namont = 1", "unknown field `amont` - at `$[0]`"),
        ('[[limits.rates]]\nwho = "me"\namount = 1', "Invalid enum value 'me' - at `$[0].who`"),
        ("[[limits.rates]]\nwindow_s = 1", "missing required field `amount`"),
        ("[[limits.rates]]\namount = 0", "limits.rates.principal-requests-60.amount = 0: write"),
        (
            "[limits]\nrequests_per_minute = 1\n[[limits.rates]]\namount = 3",
            "limits.rates = 'principal-requests-60': write each limit once",
        ),
        ('[budgets."a b"]\nusd = 1', "budget.name = 'a b': write 1 to 64 of"),
        ("[budgets.team]", "budgets.team = {}: is a table of options, such as usd = 10"),
        ("[budgets]\nteam = 5", "budgets.team = 5: is a table of options"),
        ("[budgets.team]\nperiod = 'day'", "budgets.team.tokens = None: set tokens, usd, or"),
        ('[budgets.team]\nusd = 1\nat_limit = "cheaper"', "budgets.team.model = None: goes with"),
        ("[budgets.team]\nperiod = 'year'", "write one of day, week, month, turn"),
        ("[budgets.team]\nusd = 1\nreserve_usd = 2", "budgets.team.reserve_usd = 2.0: write"),
        ("[budgets.team]\nuds = 1", "budgets.team.uds = 1: there is no such option: scope"),
        ("[prices.m]\ninput = 1", "prices.m.output = None: is required"),
        ("[prices.m]\ninput = -1\noutput = 1", "prices.m.input = -1.0: write US dollars for a"),
        ("[prices]\nm = 1", "prices.m = 1: is a table of options, such as input = 0.5"),
        ("[usage]\nkeep_days = 0", "usage.keep_days = 0: write a number from 1"),
        ("[usage]\nprice_table = 'on'", "write one of auto, genai-prices, off"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path: Path, toml: str, said: str) -> None:
    """Option, value and remedy."""
    with pytest.raises(ConfigError) as raised:
        gathered(tmp_path, toml)
    assert said in str(raised.value)
    assert "canary" not in str(raised.value)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"ACTORPOOL_PRICES": "x"}, "ACTORPOOL_PRICES = 'x': write a table of tables in JSON"),
        ({"ACTORPOOL_PRICES": "[1]"}, "write a table of tables in JSON"),
        ({"ACTORPOOL_PRICES": '{"m": 1}'}, "ACTORPOOL_PRICES.m = 1: is a table of options"),
        ({"ACTORPOOL_BUDGETS": '{"b": {"usd": 0}}'}, "ACTORPOOL_BUDGETS.b.usd = 0.0: write a"),
        ({"ACTORPOOL_BUDGETS": '{"b": {"period": "day"}}'}, "ACTORPOOL_BUDGETS.b.tokens = None"),
        ({"ACTORPOOL_BUDGETS_B_USD": "1"}, "did you mean ACTORPOOL_BUDGETS?"),
    ],
)
def test_a_mistake_in_the_environment_is_named(
    tmp_path: Path, environ: Mapping[str, str], said: str
) -> None:
    """The variable is the option's name."""
    with pytest.raises(ConfigError) as raised:
        gathered(tmp_path, **environ)
    assert said in str(raised.value)


def test_prices_come_from_the_package_if_it_is_there() -> None:
    """Unless they are turned off."""
    assert repr(table_of(UsageSettings())).startswith("<GenaiPrices ")
    assert repr(table_of(UsageSettings(price_table="genai-prices"))).startswith("<GenaiPrices ")
    assert table_of(UsageSettings(price_table="off")) is None


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """If it was asked for; prices that were not are simply not there."""
    for name in ("genai_prices", "limits", "limits.aio.storage"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "pool.guard.rates_redis", raising=False)
    assert table_of(UsageSettings()) is None
    with pytest.raises(ConfigError, match=r"usage.price_table.*actorpool\[prices\]"):
        table_of(UsageSettings(price_table="genai-prices"))
    with pytest.raises(ConfigError, match=r"limits.url = 'redis://\*\*\*@h'.*\[limits,redis\]"):
        windows_of(LimitSettings(url="redis://:canary@h"))


def test_rates_are_counted_in_the_store_unless_a_redis_is_named() -> None:
    """The Redis is not asked before there is something to count."""
    assert windows_of(LimitSettings()) is None
    windows = windows_of(LimitSettings(url="redis://:canary@127.0.0.1:1/0"))
    assert repr(windows) == "<RedisWindows redis://***@127.0.0.1:1/0>"
