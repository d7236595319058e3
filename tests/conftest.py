"""How the tests run: plain `async def test_...`, on virtual time unless marked `real_time`.

- By default on a `VirtualLoop`: idle time jumps to the next timer, and a test that would wait
  forever fails at once.
- `@pytest.mark.real_time`: on uvloop, within 30 s (`real_time(cap_s)`: another number of seconds).
- A test that leaves tasks, unhandled exceptions or coroutines never awaited fails.
- `--seed N` (or ACTORPOOL_SEED): `run_seeds` runs only this seed.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Coroutine
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any, Final

import pytest
import uvloop

from tests.support.loop import VirtualLoop
from tests.support.run import CAP_S, SEED_VARIABLE, broken_off_after, run_clean

# What blocks the loop cannot be cancelled: it is broken off this much later.
BLOCKED_GRACE_S: Final = 10.0


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--seed`."""
    parser.addoption("--seed", type=int, help="run seeded tests with this seed only")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker and the seed known."""
    config.addinivalue_line(
        "markers", f"real_time(cap_s={CAP_S:g}): run on uvloop in real time, at most cap_s seconds"
    )
    seed = config.getoption("--seed")
    if seed is not None:
        os.environ[SEED_VARIABLE] = str(seed)


def pytest_collection_finish() -> None:
    """Keep the collection after each test cheap: what was imported need not be looked at again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run coroutine tests; leave all others to pytest."""
    marker = pyfuncitem.get_closest_marker("real_time")
    hypothesis = getattr(pyfuncitem.obj, "hypothesis", None)
    if hypothesis is not None and iscoroutinefunction(hypothesis.inner_test):
        hypothesis.inner_test = _synchronous(hypothesis.inner_test, marker)
        return None
    if not iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    _synchronous(pyfuncitem.obj, marker)(**arguments)
    return True


def _synchronous(
    test: Callable[..., Coroutine[Any, Any, object]], marker: pytest.Mark | None
) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        if marker is None:
            with broken_off_after(CAP_S):
                run_clean(VirtualLoop(), test(*args, **kwargs))
        else:
            cap_s = _cap_s(*marker.args, **marker.kwargs)
            with broken_off_after(cap_s + BLOCKED_GRACE_S):
                run_clean(uvloop.new_event_loop(), test(*args, **kwargs), cap_s=cap_s)

    return run


def _cap_s(cap_s: float = CAP_S) -> float:
    return cap_s
