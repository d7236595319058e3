"""Several pools on one store under random workloads and faults, checked against the invariants.

A failure names its seed: `pytest --seed N` replays it, interleaving and all.
"""

from __future__ import annotations

from typing import get_args

from tests.sim.cluster import Cluster, Fault
from tests.support import run_seeds

EVERYTHING: tuple[Fault, ...] = get_args(Fault)


def test_replicas_that_live():
    """Whatever is asked of whichever replica, every accepted turn runs and ends once."""
    run_seeds(Cluster(), range(150))
    run_seeds(Cluster(pace="slow"), range(150))


def test_replicas_that_are_killed():
    """What a process leaves behind runs elsewhere, and its readers are told what did not happen."""
    run_seeds(Cluster(faults=("kill",)), range(200))


def test_replicas_that_are_stopped():
    """Past its lease a process writes nothing any more, and goes on as one of the others."""
    run_seeds(Cluster(faults=("stop",)), range(200))


def test_replicas_that_leave():
    """A process that drains hands back what it does not finish, and leaves nothing."""
    run_seeds(Cluster(faults=("leave",)), range(150))


def test_replicas_that_lose_answers_of_the_store():
    """A call whose answer is lost has had its effect once, and nothing is stuck for it."""
    run_seeds(Cluster(faults=("lose",)), range(150))


def test_replicas_that_cannot_reach_the_store():
    """Nothing that was accepted is lost while the store refuses some calls, or all of them."""
    run_seeds(Cluster(faults=("cut off",)), range(150))


def test_replicas_that_share_a_budget():
    """Parallel turns of all of them never spend more than there is, whatever becomes of them."""
    run_seeds(Cluster(budget=True), range(100))
    run_seeds(Cluster(budget=True, faults=("lose", "cut off")), range(250))
    run_seeds(Cluster(budget=True, faults=EVERYTHING), range(100))


def test_replicas_to_which_everything_happens():
    """All of it together, with a store that answers soon, and one that takes its time."""
    run_seeds(Cluster(faults=EVERYTHING, times=4), range(200))
    run_seeds(Cluster(faults=EVERYTHING, times=4, pace="slow"), range(200))
