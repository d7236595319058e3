"""The whole engine under random workloads, checked against its invariants.

A failure names its seed: `pytest --seed N` replays it, interleaving and all.
"""

from __future__ import annotations

from tests.sim.scenario import Scenario
from tests.support import run_seeds

FAIR: tuple[str, ...] = ("pause", "ask", "limit", "leak=9000")


def test_a_store_that_never_suspends():
    """Whatever agents and callers do, every accepted turn ends once and nothing is lost."""
    run_seeds(Scenario(), range(600))


def test_a_store_that_suspends():
    """The same when every call to the store lets others go first."""
    run_seeds(Scenario(store="suspends"), range(600))


def test_a_store_that_is_slow():
    """The same when every call to the store takes a while, before and after it has its effect."""
    run_seeds(Scenario(store="slow"), range(250))


def test_a_pool_that_is_drained():
    """A drain in the middle of it all admits nothing more, ends everything and is in time."""
    run_seeds(Scenario(drains=True, resizes=False), range(175))
    run_seeds(Scenario(drains=True, resizes=False, store="suspends"), range(175))
    run_seeds(Scenario(drains=True, store="slow"), range(100))


def test_agents_that_do_not_always_open():
    """Actors that cannot be opened delay turns, and lose none."""
    run_seeds(Scenario(open_fails=0.3, store="suspends"), range(175))


def test_agents_that_behave():
    """Without failures everything that is accepted is answered unless its caller gives it up."""
    run_seeds(Scenario(odd=FAIR), range(175))
    run_seeds(Scenario(odd=FAIR, store="suspends"), range(175))
