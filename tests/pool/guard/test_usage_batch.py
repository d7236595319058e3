"""Usage on its way to the store: added up, written once, never lost while the process lives."""

from __future__ import annotations

from datetime import date

import pytest

from pool.errors import StoreUnavailable
from pool.guard.usage import UsageBook
from pool.guard.usage_batch import UsageBatch
from pool.turn import Usage
from tests.support.spending import Clock, a_turn, memory
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
