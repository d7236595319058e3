"""Usage: counted once a turn, added up by whatever is asked for."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import date, timedelta

import pytest
from structlog.testing import capture_logs

from pool.errors import ConfigError, InvalidRequest, StoreUnavailable
from pool.guard.periods import day_of
from pool.guard.usage import Group, Totals, UsageBook, UsageConfig
from pool.guard.usage_tables import session_table, usage_csv, usage_json, usage_table
from pool.turn import Turn, Usage
from tests.contract.stores import Opening, every_store
from tests.support.spending import NOON, Clock, a_turn, memory
from tests.support.stores import FailingStore

TODAY = date(2026, 11, 21)


def used(*models: str, tokens: int = 10) -> Usage:
    return Usage(
        input_tokens=tokens, output_tokens=1, requests=2, tool_calls=3, models=models or ("m",)
    )


def book_of(clock: Clock | None = None, *, durable: bool = False) -> tuple[UsageBook, FailingStore]:
    """A book in a memory store of its own, which perhaps says that it is durable."""
    clock = clock or Clock()
    store = FailingStore(memory(clock))
    store.durable = durable
    return UsageBook(store, wall=clock, config=UsageConfig(keep_days=30)), store


async def note(book: UsageBook, turn: Turn, micro: int | None) -> bool:
    """Count one turn by itself."""
    return await book.count(turn.id, [book.entry(turn, micro)])


@every_store
async def test_turns_are_added_up_by_what_is_asked_for(opening: Opening) -> None:
    """By nothing, by one property, or by several; a book of another process adds to the same."""
    now = time.time()
    today = day_of(now)
    async with opening() as (store, _):
        books = [UsageBook(store, wall=lambda: now) for _ in range(2)]
        for number in range(6):
            turn = a_turn(tenant=f"t{number % 2}", agent=f"a{number % 3}", usage=used())
            await note(books[number % 2], turn, 100)

        (total,) = await books[0].query(today, today, ())
        by_agent = await books[1].query(today, today, ["agent"])
        both = await books[0].query(today, today, ["day", "tenant"])
        one = await books[0].query(today, today, ["user", "model"], tenant="t1", agent="a1")

    assert total.totals == Totals(6, 60, 6, 12, 18, 600, 0)
    assert [(each.values, each.totals.turns) for each in by_agent] == [
        (("a0",), 2),
        (("a1",), 2),
        (("a2",), 2),
    ]
    assert [each.values for each in both] == [(today.isoformat(), "t0"), (today.isoformat(), "t1")]
    assert one == [Group(("ann", "m"), Totals(1, 10, 1, 2, 3, 100, 0))]


async def test_what_has_a_name_is_counted_once() -> None:
    """Whoever lost the answer may ask again."""
    book, store = book_of()
    turn = a_turn(usage=used())
    store.lose("count")
    with pytest.raises(StoreUnavailable):
        await note(book, turn, 5)

    assert not await note(book, turn, 5)

    assert (await book.query(TODAY, TODAY, ()))[0].totals.turns == 1


async def test_a_turn_without_a_price_is_counted_as_that() -> None:
    """Its tokens count, its cost is not known."""
    book, _ = book_of()
    await note(book, a_turn(usage=used()), None)
    await note(book, a_turn(usage=used()), 7)

    (group,) = await book.query(TODAY, TODAY, ())

    assert (group.totals.turns, group.totals.cost_micro, group.totals.unpriced) == (2, 7, 1)


async def test_a_turn_counts_on_the_day_of_its_end() -> None:
    """A turn that began the day before belongs to the day on which it ended."""
    book, _ = book_of()
    turn = a_turn(usage=used(), at=NOON - 86_400)
    turn.finished_at = NOON - 43_201
    await note(book, turn, 0)

    yesterday = TODAY - timedelta(days=1)
    assert [each.values for each in await book.query(yesterday, TODAY, ["day"])] == [
        ("2026-11-20",)
    ]


async def test_several_models_are_one_row() -> None:
    """Their order, and odd signs in them, make no difference."""
    book, _ = book_of()
    await note(book, a_turn(usage=used("b/x:1", "a")), 0)
    await note(book, a_turn(usage=used("a", "b/x:1")), 0)

    (group,) = await book.query(TODAY, TODAY, ["model"])

    assert group.values == ("a+b/x:1",) and group.totals.turns == 2


async def test_a_row_is_written_down_once() -> None:
    """The next turn of the same kind costs the store one call."""
    book, store = book_of()
    for _ in range(3):
        await note(book, a_turn(usage=used()), 0)

    assert store.calls == ["put", "count", "count", "count"]
    assert repr(book) == "<UsageBook 1 rows written>"


async def test_many_rows_are_read_in_parts() -> None:
    """More rows than a page has, and more numbers than a call may ask for, are all added up."""
    book, _ = book_of(durable=True)
    for number in range(1_100):
        await note(book, a_turn(user=f"u{number}", usage=used()), 1)

    assert len(await book.query(TODAY, TODAY, ["user"])) == 1_100
    assert (await book.query(TODAY, TODAY, ()))[0].totals.cost_micro == 1_100
    assert (await book.query(TODAY, TODAY, (), user="u7"))[0].totals.turns == 1


@pytest.mark.parametrize(("durable", "most"), [(False, 1_000), (True, 10_000)])
async def test_a_day_has_so_many_rows(durable: bool, most: int) -> None:
    """From then on users are counted without their names, of those who have none yet; nobody's
    turns are lost, it is said once, and the next day begins anew.
    """
    clock = Clock()
    book, _ = book_of(clock, durable=durable)
    with capture_logs() as logs:
        for number in range(most + 5):
            await note(book, a_turn(user=f"u{number}", usage=used(), at=clock.now), 1)
        await note(book, a_turn(user="u7", usage=used()), 1)

    assert (await book.query(TODAY, TODAY, ()))[0].totals.turns == most + 6
    assert (await book.query(TODAY, TODAY, (), user=""))[0].totals.turns == 5
    assert (await book.query(TODAY, TODAY, (), user="u7"))[0].totals.turns == 2
    assert [each["rows"] for each in logs] == [most]
    assert repr(book) == f"<UsageBook {most + 1} rows written>"
    for _ in range(2):
        clock.now += 86_400
        await note(book, a_turn(user="new", usage=used(), at=clock.now), 1)
    assert repr(book) == "<UsageBook 2 rows written>"
    later = day_of(clock.now)
    assert (await book.query(later, later, ["user"]))[0].values == ("new",)


async def test_rows_without_users_are_no_reason_to_remember_more() -> None:
    """Beyond twice as many rows they are written down each time, and counted all the same."""
    book, store = book_of()
    for number in range(2_001):
        await note(book, a_turn(tenant=f"t{number}", user="", usage=used()), 1)
    store.calls.clear()
    await note(book, a_turn(tenant="t2000", user="", usage=used()), 1)

    assert store.calls == ["put", "count"]
    assert (await book.query(TODAY, TODAY, (), tenant="t2000"))[0].totals.turns == 2


async def test_a_store_in_memory_keeps_usage_for_a_month() -> None:
    """However long it is configured to be kept."""
    clock = Clock()
    book = UsageBook(memory(clock), wall=clock)
    await note(book, a_turn(usage=used()), 1)
    clock.now += 32 * 86_400

    assert await book.forget() == 1


async def test_another_tenants_rows_are_not_read() -> None:
    """However many there are, a tenant's own answer takes one page of a day."""
    book, store = book_of()
    for number in range(1_100):
        await note(book, a_turn(tenant=f"t{number}", usage=used()), 1)
    store.calls.clear()

    (group,) = await book.query(TODAY, TODAY, ["tenant"], tenant="t7")

    assert (group.values, group.totals.turns) == (("t7",), 1)
    assert store.calls == ["documents", "counts"]


async def test_an_answer_has_so_many_lines_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for more is told to ask for less."""
    monkeypatch.setattr("pool.guard.usage.GROUPS_MAX", 2)
    book, _ = book_of()
    for user in ("a", "b", "c"):
        await note(book, a_turn(user=user, usage=used()), 1)

    assert len(await book.query(TODAY, TODAY, ["tenant"])) == 1
    with pytest.raises(InvalidRequest, match="more than 2 lines: ask about fewer days"):
        await book.query(TODAY, TODAY, ["user"])


async def test_rows_are_forgotten_after_their_time() -> None:
    """They are kept for as many days as configured, and their numbers go by themselves."""
    clock = Clock()
    book, _ = book_of(clock)
    await note(book, a_turn(usage=used()), 1)
    clock.now += 30 * 86_400
    assert await book.forget() == 0
    assert len(await book.query(TODAY, TODAY, ())) == 1

    clock.now += 86_400

    assert await book.forget() == 1
    assert await book.query(TODAY, TODAY, ()) == []


@pytest.mark.parametrize(
    ("first", "last"), [(TODAY, TODAY - timedelta(days=1)), (TODAY - timedelta(days=366), TODAY)]
)
async def test_days_that_cannot_be_asked_about_are_refused(first: date, last: date) -> None:
    """Backwards, or more than a year."""
    book, _ = book_of()

    with pytest.raises(InvalidRequest):
        await book.query(first, last, ())


@pytest.mark.parametrize("days", [0, 4_001])
def test_usage_is_kept_for_days_that_make_sense(days: int) -> None:
    """The error names the option."""
    with pytest.raises(ConfigError, match="keep_days"):
        UsageConfig(keep_days=days)


GROUPS = [
    Group(("acme", "m"), Totals(3, 10, 5, 3, 0, 1_500_000, 1)),
    Group(("=HYPERLINK()", 'odd, "name"'), Totals(1, 1, 1, 1, 0, 0, 1)),
]


def test_usage_as_json() -> None:
    """Money in US dollars; null if no turn had a price."""
    told = json.loads(usage_json(usage_table(GROUPS, ["tenant", "model"], TODAY, TODAY)))

    assert (told["from"], told["to"], told["by"]) == (
        "2026-11-21",
        "2026-11-21",
        ["tenant", "model"],
    )
    assert told["usage"][0] == {
        "tenant": "acme",
        "model": "m",
        "turns": 3,
        "input_tokens": 10,
        "output_tokens": 5,
        "requests": 3,
        "tool_calls": 0,
        "cost_usd": 1.5,
        "unpriced_turns": 1,
    }
    assert told["usage"][1]["cost_usd"] is None


def test_usage_as_csv() -> None:
    """A line of names, quotes where they are needed, and no formulas for a spreadsheet."""
    names, first, second = csv.reader(
        io.StringIO(usage_csv(usage_table(GROUPS, ["tenant", "model"], TODAY, TODAY)))
    )

    assert names[:3] == ["tenant", "model", "turns"] and len(names) == len(first) == len(second)
    assert first == ["acme", "m", "3", "10", "5", "3", "0", "1.5", "1"]
    assert second[:2] == ["'=HYPERLINK()", 'odd, "name"']
    assert second[-2] == ""


def test_nothing_used_is_an_empty_table() -> None:
    """The names are there all the same."""
    table = usage_table([], [], TODAY, TODAY)
    assert usage_csv(table).count("\n") == 1
    assert json.loads(usage_json(table))["usage"] == []


def test_a_session_is_one_line() -> None:
    """Without days, and with its id."""
    told = json.loads(usage_json(session_table("s1", Totals(1, 10, 1, 2, 3, 5, 0))))

    assert (told["session_id"], told["by"], "from" in told) == ("s1", [], False)
    assert (told["usage"][0]["turns"], told["usage"][0]["cost_usd"]) == (1, 0.000005)
