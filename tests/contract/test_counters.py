"""Counters: changed together or not at all, never above a limit, forgotten in time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from pool.errors import InvalidRequest
from pool.store.base import SessionKey, Store
from pool.store.counters import VALUE_MAX, VALUE_MIN, Change, Counted
from pool.store.counting import CHANGES_MAX
from pool.turn import SessionInfo
from tests.contract.stores import Opening, every_store
from tests.support.loop import VirtualLoop
from tests.support.run import run_clean

pytestmark = every_store


async def _now(store: Store) -> float:
    """The store's own time."""
    info = await store.create_session(SessionKey("clock", "now"), SessionInfo(id="now"))
    await store.delete_session(SessionKey("clock", "now"))
    return info.created_at


async def _later(store: Store) -> float:
    """After any test."""
    return await _now(store) + store.lease_s * 100


async def test_counters_count(opening: Opening) -> None:
    """From 0, up and down and below 0; the answer is what they are now."""
    async with opening() as (store, _):
        later = await _later(store)
        assert await store.counts(["a", "b"]) == [0, 0]
        changes = [Change("a", 5, later), Change("b", -3, later)]
        assert await store.count(changes) == Counted([5, -3], None)
        assert await store.count(changes) == Counted([10, -6], None)
        assert await store.counts(["b", "c", "a", "b"]) == [-6, 0, 10, -6]


async def test_nothing_is_to_be_counted(opening: Opening) -> None:
    """No changes and no names are nothing wrong."""
    async with opening() as (store, _):
        assert await store.count([]) == Counted([], None)
        assert list(await store.counts([])) == []


async def test_a_counter_reaches_its_limit_and_no_more(opening: Opening) -> None:
    """The first change above it is told, and leaves everything as it was."""
    async with opening() as (store, _):
        later = await _later(store)
        assert await store.count([Change("a", 7, later, 10)]) == Counted([7], None)
        assert await store.count([Change("a", 4, later, 10)]) == Counted([7], 0)
        assert await store.count([Change("a", 3, later, 10)]) == Counted([10], None)
        assert await store.count([Change("a", 1, later, 10)]) == Counted([10], 0)
        assert await store.count([Change("a", 1, later)]) == Counted([11], None)
        assert await store.count([Change("b", 1, later, 0)]) == Counted([0], 0)


async def test_who_lowers_a_counter_is_never_forbidden_to(opening: Opening) -> None:
    """Nor who leaves it as it is, however far above its limit it stands."""
    async with opening() as (store, _):
        later = await _later(store)
        await store.count([Change("a", 100, later)])
        assert await store.count([Change("a", -1, later, 10)]) == Counted([99], None)
        assert await store.count([Change("a", 0, later, 10)]) == Counted([99], None)


async def test_changes_are_made_together_or_not_at_all(opening: Opening) -> None:
    """If a limit forbids one, those before it are not made either; the first is told."""
    async with opening() as (store, _):
        later = await _later(store)
        await store.count([Change("tenant", 9, later), Change("user", 1, later)])
        forbidden = [
            Change("user", 2, later, 5),
            Change("tenant", 2, later, 10),
            Change("agent", 2, later, 1),
        ]
        assert await store.count(forbidden) == Counted([1, 9, 0], 1)
        assert await store.counts(["user", "tenant", "agent"]) == [1, 9, 0]
        allowed = [forbidden[0], replace(forbidden[1], limit=11)]
        assert await store.count(allowed) == Counted([3, 11], None)


async def test_a_counter_may_be_changed_twice_in_one_step(opening: Opening) -> None:
    """One after the other; both are told what came of it."""
    async with opening() as (store, _):
        later = await _later(store)
        assert await store.count([Change("a", 5, later), Change("a", -2, later)]) == ([3, 3], None)
        over = [Change("a", 2, later, 5), Change("a", 1, later, 5)]
        assert await store.count(over) == Counted([3, 3], 1)
        room = [Change("a", -2, later, 5), Change("a", 4, later, 5)]
        assert await store.count(room) == Counted([5, 5], None)


async def test_an_expired_counter_counts_as_nothing(opening: Opening) -> None:
    """It is read as 0, and begins anew with its whole limit; others are as they were."""
    async with opening() as (store, pass_time):
        now, later = await _now(store), await _later(store)
        soon = now + store.lease_s
        await store.count([Change("a", 10, soon, 10), Change("b", 1, later)])
        await pass_time(store.lease_s * 0.5)
        assert await store.count([Change("a", 1, soon, 10)]) == Counted([10], 0)
        await pass_time(store.lease_s * 0.6)
        assert await store.counts(["a", "b"]) == [0, 1]
        assert await store.count([Change("a", 8, later, 10)]) == Counted([8], None)
        await pass_time(store.lease_s)
        assert await store.counts(["a"]) == [8]


async def test_the_last_change_says_when_a_counter_is_forgotten(opening: Opening) -> None:
    """Later or sooner than the one before; if that is in the past, at once."""
    async with opening() as (store, pass_time):
        now, later = await _now(store), await _later(store)
        soon = now + store.lease_s
        await store.count([Change("longer", 1, soon), Change("shorter", 1, later)])
        await store.count([Change("longer", 1, later), Change("shorter", 1, soon)])
        await pass_time(store.lease_s * 1.1)
        assert await store.counts(["longer", "shorter"]) == [2, 0]
        assert await store.count([Change("longer", 5, now)]) == Counted([0], None)
        assert await store.counts(["longer"]) == [0]
        anew = [Change("longer", 5, now), Change("longer", 2, later, 2)]
        assert await store.count(anew) == Counted([2, 2], None)


async def test_a_forbidden_change_does_not_prolong_a_counter(opening: Opening) -> None:
    """What was not made left no trace."""
    async with opening() as (store, pass_time):
        now, later = await _now(store), await _later(store)
        await store.count([Change("a", 10, now + store.lease_s)])
        await store.count([Change("a", 1, later, 10), Change("b", 1, later)])
        await pass_time(store.lease_s * 1.1)
        assert await store.counts(["a", "b"]) == [0, 0]


@pytest.mark.parametrize(
    "value",
    [
        *(2**53 + 1, 10**9, 10**9 - 1, 10**15, 10**15 + 1, 10**18 + 1, VALUE_MAX),
        *(-1, -(10**9), -(10**9) - 1, -(10**15), -(2**53) - 1, -(10**18), VALUE_MIN),
    ],
)
async def test_large_numbers_are_exact(opening: Opening, value: int) -> None:
    """To the last of 64 bits, in values and in limits."""
    async with opening() as (store, _):
        later = await _later(store)
        assert await store.count([Change("a", value, later)]) == Counted([value], None)
        assert await store.counts(["a"]) == [value]
        step = 1 if value < 0 else -1
        assert await store.count([Change("a", step, later)]) == Counted([value + step], None)
        if value > 0:
            assert await store.count([Change("a", 1, later, value - 1)]) == ([value - 1], 0)
            assert await store.count([Change("a", 1, later, value)]) == ([value], None)


@pytest.mark.parametrize(("value", "amount"), [(VALUE_MAX, 1), (VALUE_MIN, -1)])
async def test_what_does_not_fit_is_refused(opening: Opening, value: int, amount: int) -> None:
    """A counter never wraps around: nothing has changed. With a limit it is only above that."""
    async with opening() as (store, _):
        later = await _later(store)
        await store.count([Change("a", value, later)])
        with pytest.raises(InvalidRequest, match="counter a would not fit"):
            await store.count([Change("b", 1, later), Change("a", amount, later)])
        assert await store.counts(["a", "b"]) == [value, 0]
        if amount > 0:
            assert await store.count([Change("a", 1, later, VALUE_MAX)]) == Counted([value], 0)


async def test_what_can_be_no_counter_is_none(opening: Opening) -> None:
    """Who asks for a name that no counter can have is told 0, as for any that is not known."""
    async with opening() as (store, _):
        await store.count([Change("good", 1, await _later(store))])
        assert await store.counts(["", "a b", "{a}", "\udc80", "a" * 257, "good"]) == [0] * 5 + [1]


async def test_a_counter_may_have_a_long_name(opening: Opening) -> None:
    """Made of ids and what stands between them; it is nobody else's."""
    async with opening() as (store, _):
        later = await _later(store)
        names = ["budget:acme/ann@helper:2026-11-21.tokens_in", "a" * 256, "a" * 255]
        await store.count([Change(name, place, later) for place, name in enumerate(names, 1)])
        assert await store.counts(names) == [1, 2, 3]


async def test_so_many_changes_are_made_at_once(opening: Opening) -> None:
    """As many as may be are one step; more are refused, all of them."""
    async with opening() as (store, _):
        later = await _later(store)
        changes = [Change(f"n{number}", number, later) for number in range(CHANGES_MAX + 1)]
        with pytest.raises(InvalidRequest, match="at most 1000 counters"):
            await store.count(changes)
        assert await store.counts(["n1"]) == [0]
        assert await store.count(changes[:-1]) == Counted(list(range(CHANGES_MAX)), None)


async def test_parallel_counts_never_exceed_a_limit(opening: Opening) -> None:
    """Of 200 at once just as many succeed as there is room for, and each is told its own place."""
    async with opening() as (store, _):
        later = await _later(store)
        change = [Change("user", 3, later), Change("tenant", 3, later, 100)]
        answers = await asyncio.gather(*(store.count(change) for _ in range(200)))
        made = [answer.values[1] for answer in answers if answer.over is None]
        assert sorted(made) == list(range(3, 100, 3))
        assert {answer.over for answer in answers} == {None, 1}
        assert await store.counts(["user", "tenant"]) == [99, 99]


# --- any sequence

# what passes between two steps, in lease times
_large = st.sampled_from(
    [VALUE_MAX, VALUE_MIN, 2**53 + 1, -(2**53) - 1, 10**15, -(10**15), 10**9, -(10**9)]
)
_numbers = st.integers(-12, 12) | _large
# the name, the amount, after how many lease times it is forgotten (0: it is already), the limit
_changes = st.tuples(
    st.sampled_from("abc"), _numbers, st.integers(0, 3), st.none() | st.integers(-5, 20) | _large
)
# changes, or time
_steps = st.lists(st.lists(_changes, max_size=4) | st.integers(1, 2), max_size=12)


class _Model:
    """Counters as a dict says: values, and the lease time at whose beginning they are forgotten."""

    def __init__(self) -> None:
        self.kept: dict[str, tuple[int, int]] = {}
        self.time = 0

    def value(self, name: str) -> int:
        value, until = self.kept.get(name, (0, 0))
        return value if until > self.time else 0

    def count(self, changes: list[Change], untils: list[int]) -> Counted | None:
        """What the store has to answer; None: it refuses."""
        before = dict(self.kept)
        over = None
        for place, (change, until) in enumerate(zip(changes, untils, strict=True)):
            value = self.value(change.name) + change.amount
            if change.limit is not None and value > change.limit and change.amount > 0:
                self.kept, over = before, place
                break
            if abs(value * 2 + 1) > 2**64:
                self.kept = before
                return None
            self.kept[change.name] = value, until
        return Counted([self.value(change.name) for change in changes], over)


Step = list[tuple[str, int, int, int | None]] | int


def test_any_sequence_of_counts_agrees_with_a_dict(
    opening: Opening, request: pytest.FixtureRequest
) -> None:
    """Whatever is counted while whatever time passes."""
    real = request.node.get_closest_marker("real_time") is not None

    @given(steps=_steps)
    @settings(max_examples=30 if real else 150, deadline=None)
    def agrees(steps: list[Step]) -> None:
        loop = asyncio.new_event_loop() if real else VirtualLoop()
        run_clean(loop, _agrees(opening, steps))

    agrees()


async def _agrees(opening: Opening, steps: list[Step]) -> None:
    async with opening() as (store, pass_time):
        model, lease_s = _Model(), store.lease_s
        # in the middle of a lease time, so that what the test itself takes is no matter
        begin = await _now(store) - lease_s / 2
        for step in steps:
            if isinstance(step, int):
                await pass_time(step * lease_s)
                model.time += step
                continue
            untils = [model.time + ahead for _, _, ahead, _ in step]
            changes = [
                Change(name, amount, begin + until * lease_s, limit)
                for (name, amount, _, limit), until in zip(step, untils, strict=True)
            ]
            expected = model.count(changes, untils)
            if expected is None:
                with pytest.raises(InvalidRequest):
                    await store.count(changes)
            else:
                assert await store.count(changes) == expected
            assert await store.counts(["a", "b", "c"]) == [model.value(name) for name in "abc"]
