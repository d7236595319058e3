"""What tests are run with: loops with virtual time, seeds, sweeps of cancellation, odd stores."""

from __future__ import annotations

from tests.support.loop import SeededLoop, Stuck, VirtualLoop
from tests.support.run import SeedFailed, UncleanTest, run_clean, run_seeds
from tests.support.sweep import sweep_cancel

__all__ = [
    "SeedFailed",
    "SeededLoop",
    "Stuck",
    "UncleanTest",
    "VirtualLoop",
    "run_clean",
    "run_seeds",
    "sweep_cancel",
]
