"""Circuit breakers, on virtual time."""

from __future__ import annotations

import asyncio
import sys

import pytest

from pool.errors import ConfigError
from pool.guard.breaker import PROBE_S, BreakerOpen, BreakerRule, Breakers

RULE = BreakerRule(failures=3, reset_s=30.0)


class Told(list[tuple[str, str]]):
    """What was told of changes."""

    def __call__(self, name, state, /):
        self.append((name, state))


def breakers(told=None):
    """Breakers on the loop's time."""
    return Breakers(RULE, clock=asyncio.get_running_loop().time, changed=told)


def fail(breaker, times=1):
    """Let calls fail."""
    for _ in range(times):
        with pytest.raises(ZeroDivisionError), breaker.enter():
            raise ZeroDivisionError


def succeed(breaker):
    """Let a call succeed."""
    with breaker.enter():
        pass


async def half_open(breaker):
    """Open the breaker and wait until it may be tried."""
    fail(breaker, RULE.failures)
    await asyncio.sleep(RULE.reset_s)


async def test_failures_in_a_row_open_it_and_a_probe_closes_it():
    """Closed, open for the time of the rule, half open for one probe, closed; each change told."""
    told = Told()
    all_of_them = breakers(told)
    breaker = all_of_them.of("search")
    fail(breaker, 2)
    assert repr(breaker) == "<Breaker 'search' closed>"
    fail(breaker)
    assert repr(all_of_them) == "<Breakers [0 closed, 1 open, 0 half_open]>"
    await asyncio.sleep(10)
    with pytest.raises(BreakerOpen, match=r"^search failed too often and is left alone") as caught:
        breaker.enter()
    assert (caught.value.name, caught.value.retry_after_s) == ("search", pytest.approx(20.0))
    await asyncio.sleep(20)
    succeed(breaker)
    assert breaker.state == "closed"
    assert told == [("search", "open"), ("search", "half_open"), ("search", "closed")]


async def test_a_success_in_between_begins_the_count_anew():
    """Only failures in a row open it."""
    breaker = breakers().of("a")
    for _ in range(5):
        fail(breaker, 2)
        succeed(breaker)
    assert breaker.state == "closed"


async def test_a_failed_probe_opens_it_for_the_whole_time_again():
    """One failure is enough then, and the time counts from that failure."""
    breaker = breakers().of("a")
    await half_open(breaker)
    fail(breaker)
    with pytest.raises(BreakerOpen) as caught:
        breaker.enter()
    assert caught.value.retry_after_s == pytest.approx(RULE.reset_s)


async def test_one_probe_at_a_time():
    """Of fifty calls that come at once when it is half open, one goes through."""
    breaker = breakers().of("a")
    await half_open(breaker)
    through = 0
    refused: list[float] = []

    async def call():
        nonlocal through
        try:
            with breaker.enter():
                through += 1
                await asyncio.sleep(1)
        except BreakerOpen as error:
            refused.append(error.retry_after_s)

    await asyncio.gather(*(call() for _ in range(50)))
    assert (through, refused) == (1, [PROBE_S] * 49)
    assert breaker.state == "closed"


async def test_a_cancelled_probe_proves_nothing():
    """It neither closes nor opens the breaker: the next call is the probe."""
    breaker = breakers().of("a")
    await half_open(breaker)

    async def hang():
        with breaker.enter():
            await asyncio.Event().wait()

    probe = asyncio.create_task(hang())
    await asyncio.sleep(1)
    probe.cancel()
    await asyncio.wait([probe])
    assert breaker.state == "half_open"
    succeed(breaker)
    assert breaker.state == "closed"


async def test_a_cancelled_call_leaves_the_count_as_it_is():
    """Cancelled calls between failures hide none of them."""
    breaker = breakers().of("a")
    for _ in range(RULE.failures):
        with pytest.raises(asyncio.CancelledError), breaker.enter():
            raise asyncio.CancelledError
        fail(breaker)
    assert breaker.state == "open"


async def test_the_end_of_an_old_call_is_no_news():
    """What began before the breaker opened neither closes it nor counts for the probe."""
    breaker = breakers().of("a")
    old = [breaker.enter() for _ in range(3)]
    fail(breaker, RULE.failures)
    old[0].succeeded()
    assert breaker.state == "open"
    await asyncio.sleep(RULE.reset_s)
    probe = breaker.enter()
    old[1].succeeded()
    old[2].failed(ZeroDivisionError())
    assert breaker.state == "half_open"
    with pytest.raises(BreakerOpen):
        breaker.enter()
    probe.succeeded()
    assert breaker.state == "closed"


async def test_what_a_passage_says_first_counts():
    """An answer that began has succeeded, whatever becomes of it afterwards."""
    breaker = breakers().of("a")
    await half_open(breaker)
    passage = breaker.enter()
    passage.succeeded()
    assert breaker.state == "closed"
    for _ in range(RULE.failures):
        passage.failed(ZeroDivisionError())
        passage.abandoned()
    assert breaker.state == "closed"


async def test_an_error_that_is_the_callers_fault_is_a_success():
    """Told so by the caller, errors do not open the breaker."""
    breaker = breakers().of("a")

    def refuse():
        with breaker.enter() as passage:
            passage.succeeded()
            raise ZeroDivisionError

    for _ in range(10):
        with pytest.raises(ZeroDivisionError):
            refuse()
    assert breaker.state == "closed"


async def test_breakers_are_kept_by_name():
    """The same name is the same breaker, and one that is open holds up no other."""
    some = breakers()
    fail(some.of("a"), RULE.failures)
    assert some.of("a") is some.of("a")
    assert some.of("a").state == "open"
    succeed(some.of("b"))


async def test_failures_are_not_kept_in_memory():
    """The library's list of what happened stays empty."""
    breaker = breakers().of("a")
    for _ in range(100):
        fail(breaker)
        succeed(breaker)
    assert breaker._circuit.messages == []


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"reset_s": 0.0}, {"reset_s": float("nan")}, {"reset_s": -1.0}]
)
def test_a_rule_that_cannot_be_is_refused(wrong):
    """The error names the option."""
    with pytest.raises(ConfigError) as caught:
        BreakerRule(**wrong)
    assert caught.value.option in wrong


def test_without_the_library_the_error_names_the_extra(monkeypatch):
    """A breaker that is asked for and cannot be is a mistake in the configuration."""
    monkeypatch.setitem(sys.modules, "purgatory", None)
    for part in ("purgatory.domain", "purgatory.domain.model"):
        monkeypatch.delitem(sys.modules, part, raising=False)
    with pytest.raises(ConfigError, match=r"actorpool\[models\]"):
        Breakers(RULE, clock=float)


async def test_a_probe_that_answers_lets_others_through_before_its_end():
    """An answer may take minutes; that it began is enough, and how it ends counts as any call's."""
    breaker = breakers().of("a")
    await half_open(breaker)
    probe = breaker.enter()
    with pytest.raises(BreakerOpen):
        breaker.check()
    probe.answered()
    assert breaker.state == "closed"
    succeed(breaker)
    probe.failed(ZeroDivisionError())
    fail(breaker, RULE.failures - 1)
    assert breaker.state == "open"
