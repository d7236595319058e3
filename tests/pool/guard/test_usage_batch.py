"""Usage on its way to the store: added up, written once, never lost while the process lives."""

from __future__ import annotations

from datetime import date

import pytest

from pool.errors import StoreUnavailable
from pool.guard.usage import Totals, UsageBook
from pool.guard.usage_batch import UsageBatch
from pool.turn import Usage
from tests.support.spending import NOON, Clock, a_turn, memory
from tests.support.stores import FailingStore

TODAY = date(2026, 11, 21)


def batch_of() -> tuple[UsageBatch, UsageBook, FailingStore]:
    """A batch, its book, and the memory store of both."""
    clock = Clock()
    store = FailingStore(memory(clock))
    book = UsageBook(store, wall=clock)
    return UsageBatch(book), book, store


async def test_turns_that_end_together_take_one_call() -> None:
    """A hundred turns of two users are two rows, written in one call and counted in full."""
    batch, book, store = batch_of()
    for number in range(100):
        batch.add(a_turn(user=f"u{number % 2}", usage=Usage(input_tokens=3, models=("m",))), 5)
    assert repr(batch) == "<UsageBatch 2 rows, 0 parts being written>"

    await batch.write()
    await batch.write()

    assert store.calls == ["put", "put", "count"] and not batch
    (total,) = await book.query(TODAY, TODAY, ())
    assert (total.totals.turns, total.totals.input_tokens) == (100, 300)
    assert total.totals.cost_micro == 500


async def test_turns_that_used_nothing_are_counted_with_those_that_did() -> None:
    """They add themselves to the same row; one whose cost is not known is told apart."""
    batch, book, _ = batch_of()
    batch.add(a_turn(), 0)
    batch.add(a_turn(usage=Usage(tool_calls=2, output_tokens=-1)), 7)
    batch.add(a_turn(), 0)
    batch.add(a_turn(), None)

    await batch.write()

    (total,) = await book.query(TODAY, TODAY, ())
    assert total.totals == Totals(turns=4, tool_calls=2, cost_micro=7, unpriced=1)


async def test_a_turn_counts_on_the_day_of_its_end() -> None:
    """A turn that ended before midnight is another day's, whenever it is written."""
    batch, book, _ = batch_of()
    late = a_turn()
    late.finished_at = NOON - 86_400.0 / 2 - 0.001
    batch.add(late, 0)
    batch.add(a_turn(), 0)

    await batch.write()

    yesterday = date(2026, 11, 20)
    assert (await book.query(yesterday, yesterday, ()))[0].totals.turns == 1
    assert (await book.query(TODAY, TODAY, ()))[0].totals.turns == 1


@pytest.mark.parametrize("how", ["fail", "lose"])
async def test_what_could_not_be_written_is_written_later(how: str) -> None:
    """Whether the store did not take it or its answer was lost: it is counted once, with what came
    in between.
    """
    batch, book, store = batch_of()
    batch.add(a_turn(), 1)
    if how == "fail":
        store.fail("count", times=1)
    else:
        store.lose("count")
    with pytest.raises(StoreUnavailable):
        await batch.write()
    batch.add(a_turn(), 1)
    assert batch

    await batch.write()

    assert (await book.query(TODAY, TODAY, ()))[0].totals.turns == 2


async def test_many_rows_are_written_in_parts() -> None:
    """No call of the store grows with the number of users."""
    batch, book, store = batch_of()
    for number in range(250):
        batch.add(a_turn(user=f"u{number}"), 1)

    await batch.write()

    assert store.calls.count("count") == 3
    assert (await book.query(TODAY, TODAY, ()))[0].totals.turns == 250
