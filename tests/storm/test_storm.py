"""The storm, for about a minute."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import median

import pytest

from tests.storm.storm import Plan, storm

TURNS = int(os.environ.get("ACTORPOOL_STORM_TURNS", "2000"))


@pytest.mark.real_time(150)
async def test_a_storm_loses_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three replicas, 200 sessions, clients that come and go, a replica killed every few seconds:
    no turn is lost, none is done twice, and every client's transcript is the store's.
    """
    plan = Plan(turns=TURNS)
    report = await storm(plan, tmp_path)
    with capsys.disabled():
        print(f"\nstorm: {report}")  # noqa: T201 - it is what the storm is for
    assert report.kills >= TURNS // 500 and report.reconnects > 0
    assert report.again > 0
    assert median(report.recovery_s) < plan.lease_s + 1
