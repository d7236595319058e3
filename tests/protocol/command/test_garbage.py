from __future__ import annotations

import asyncio
import gc

from protocol.command.garbage import LOOK_INTERVAL_S, LOOKS_MAX, OLD, OldCollections, settle


async def test_old_garbage_is_collected_when_nothing_runs() -> None:
    """At each look that finds the pool idle there is one collection."""
    collections = 0

    def collect() -> None:
        nonlocal collections
        collections += 1

    garbage = OldCollections(lambda: True, collect)
    garbage.start()
    await asyncio.sleep(3.5 * LOOK_INTERVAL_S)
    garbage.stop()
    await asyncio.sleep(5 * LOOK_INTERVAL_S)
    assert collections == 3


async def test_under_load_it_is_collected_at_long_intervals() -> None:
    """A load that never pauses puts a collection off, not for ever."""
    collections = 0

    def collect() -> None:
        nonlocal collections
        collections += 1

    garbage = OldCollections(lambda: False, collect)
    garbage.start()
    await asyncio.sleep((LOOKS_MAX - 0.5) * LOOK_INTERVAL_S)
    assert collections == 0
    await asyncio.sleep((LOOKS_MAX + 1) * LOOK_INTERVAL_S)
    garbage.stop()
    assert collections == 2


def test_what_has_settled_is_never_walked_again() -> None:
    """After the start what lives is frozen, and no number of objects starts a full collection."""
    thresholds, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        settle()
        assert gc.isenabled()
        assert gc.get_freeze_count() > frozen
        assert gc.get_threshold()[2] == OLD
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
