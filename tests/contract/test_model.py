"""Any sequence of calls leaves a store as the model says."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.contract.opened import Opening
from tests.contract.sharing_machine import SharingMachine
from tests.contract.stores import every_store
from tests.support.loop import VirtualLoop

# time that is real passes slowly
EXAMPLES, REAL_EXAMPLES = 150, 15


@every_store
def test_any_sequence_of_calls_agrees_with_the_model(
    opening: Opening, request: pytest.FixtureRequest
) -> None:
    """Whatever is called in whatever order, the store reads as the model says."""
    real = request.node.get_closest_marker("real_time") is not None
    new_loop = asyncio.new_event_loop if real else VirtualLoop
    run_state_machine_as_test(
        lambda: SharingMachine(opening, new_loop()),  # type: ignore[arg-type]
        settings=settings(
            max_examples=REAL_EXAMPLES if real else EXAMPLES,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
