"""The fair queue."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pool.queue import FairQueue
from pool.turn import Priority


class Item:
    """Something that waits."""

    def __init__(self, tenant: str, name: str = "", priority: Priority = "default") -> None:
        self.tenant = tenant
        self.name = name
        self.priority = priority

    def __repr__(self) -> str:
        return f"{self.tenant}{self.name}"


def drained(queue: FairQueue[Item]) -> list[str]:
    """Everything in the queue, in the order of service."""
    return [repr(queue.pop()) for _ in range(len(queue))]


def test_one_tenant_is_served_in_order() -> None:
    """Within a tenant and a priority, first come is first served."""
    queue: FairQueue[Item] = FairQueue()
    for n in range(5):
        queue.push(Item("a", str(n)))
    assert drained(queue) == ["a0", "a1", "a2", "a3", "a4"]


def test_a_late_tenant_does_not_wait_behind_a_backlog() -> None:
    """A tenant that comes after another's hundred turns is served next but one."""
    queue: FairQueue[Item] = FairQueue()
    for n in range(100):
        queue.push(Item("a", str(n)))
    queue.push(Item("b", "0"))
    assert drained(queue)[:3] == ["a0", "b0", "a1"]


@given(st.lists(st.integers(1, 40), min_size=2, max_size=8), st.randoms())
def test_equal_backlogs_are_served_equally(sizes: list[int], random) -> None:
    """While k tenants have backlogs, their served counts differ by at most 1 (invariant 10)."""
    queue: FairQueue[Item] = FairQueue()
    items = [Item(str(tenant)) for tenant, size in enumerate(sizes) for _ in range(size)]
    random.shuffle(items)
    for item in items:
        queue.push(item)
    served: Counter[str] = Counter({str(tenant): 0 for tenant in range(len(sizes))})
    for _ in range(min(sizes) * len(sizes)):
        served[queue.pop().tenant] += 1
        assert max(served.values()) - min(served.values()) <= 1


def test_weights_share_out_the_service() -> None:
    """A tenant of weight 2 is served twice as often as one of weight 1."""
    queue: FairQueue[Item] = FairQueue({"a": 2.0})
    for n in range(20):
        queue.push(Item("a", str(n)))
        queue.push(Item("b", str(n)))
    first = Counter(name[0] for name in drained(queue)[:12])
    assert first == {"a": 8, "b": 4}


def test_priority_orders_the_turns_of_one_tenant_only() -> None:
    """A tenant's interactive turn passes its own batch, and nobody else's turn."""
    queue: FairQueue[Item] = FairQueue()
    queue.push(Item("a", "batch", "batch"))
    queue.push(Item("b", "batch", "batch"))
    queue.push(Item("a", "now", "interactive"))
    assert drained(queue) == ["anow", "bbatch", "abatch"]


def test_a_turn_pushed_again_goes_first_and_pays_nothing() -> None:
    """What was served before keeps its place at the head."""
    queue: FairQueue[Item] = FairQueue()
    for n in range(3):
        queue.push(Item("a", str(n)))
    again = queue.pop()
    queue.push(Item("b", "0"))
    queue.push(again, again=True)
    assert drained(queue) == ["a0", "a1", "b0", "a2"]


def test_removing_gives_the_tenant_its_slot_back() -> None:
    """A tenant that takes its turns back is not served later for it."""
    queue: FairQueue[Item] = FairQueue()
    taken = [Item("a", str(n)) for n in range(10)]
    for item in taken:
        queue.push(item)
    assert all(queue.remove(item) for item in taken)
    assert len(queue) == 0
    queue.push(Item("b", "0"))
    queue.push(Item("a", "new"))
    assert queue.ahead("a") == 2
    assert drained(queue) == ["b0", "anew"]


def test_removing_what_does_not_wait_says_so() -> None:
    """`remove` is False for a stranger, and changes nothing."""
    queue: FairQueue[Item] = FairQueue()
    queue.push(Item("a", "0"))
    assert not queue.remove(Item("a", "1"))
    assert not queue.remove(Item("z"))
    assert len(queue) == 1


@given(st.lists(st.sampled_from("abc")), st.sampled_from("abcd"))
def test_ahead_counts_who_is_served_before(tenants: list[str], newcomer: str) -> None:
    """`ahead` is the number of turns popped before a newcomer pushed now."""
    queue: FairQueue[Item] = FairQueue()
    for tenant in tenants:
        queue.push(Item(tenant))
    expected = queue.ahead(newcomer)
    new = Item(newcomer, "new")
    queue.push(new)
    assert drained(queue).index(repr(new)) == expected


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans())))
def test_length_counts_whatever_is_pushed_and_popped(steps: list[tuple[str, bool]]) -> None:
    """The queue loses nothing and invents nothing."""
    queue: FairQueue[Item] = FairQueue()
    pushed: set[Item] = set()
    for tenant, pop in steps:
        if pop and pushed:
            pushed.remove(queue.pop())
        else:
            item = Item(tenant)
            pushed.add(item)
            queue.push(item)
    assert set(queue) == pushed
    assert len(queue) == len(pushed)


def test_idle_tenants_are_forgotten() -> None:
    """Ten thousand tenants that came once leave no trace worth speaking of."""
    queue: FairQueue[Item] = FairQueue()
    for n in range(10_000):
        queue.push(Item(str(n)))
        queue.pop()
    assert repr(queue).startswith("<FairQueue [0 waiting")
    assert len(queue._lines) < 200


def test_popping_an_empty_queue_raises() -> None:
    """There is nothing to serve."""
    with pytest.raises(IndexError):
        FairQueue().pop()


def test_tags_grow() -> None:
    """A long service of one tenant does not let a newcomer claim the past."""
    queue: FairQueue[Item] = FairQueue()
    for k in range(50):
        queue.push(Item("a", str(k)))
    for _ in range(48):
        queue.pop()
    for k in range(4):
        queue.push(Item("b", str(k)))
    order = [name[0] for name in drained(queue)]
    assert [x != y for x, y in pairwise(order)][:3] == [True, True, True]
