from __future__ import annotations

import asyncio

from protocol.ws.heartbeat import Heartbeat, Pulse


class Member:
    def __init__(self):
        self.beats = []

    def beat(self):
        self.beats.append(asyncio.get_running_loop().time())


def test_a_peer_that_answers_lives():
    """As long as something comes between two pings, the pulse goes on."""
    pulse = Pulse()
    for _ in range(10):
        assert pulse.beat()
        pulse.heard()


def test_a_peer_that_misses_two_pings_is_gone():
    """The first miss is forgiven, the second is not."""
    pulse = Pulse()
    assert pulse.beat()
    assert pulse.beat()
    assert not pulse.beat()


def test_a_missed_ping_is_forgotten_when_the_peer_is_heard_again():
    """Only misses in a row count."""
    pulse = Pulse()
    assert pulse.beat()
    assert pulse.beat()
    pulse.heard()
    assert pulse.beat()
    assert pulse.beat()
    assert not pulse.beat()


async def test_each_member_beats_once_an_interval():
    """However many members there are, one timer serves all of them, each at its own time."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    heartbeat = Heartbeat(32.0, lambda: None)
    early, late = Member(), Member()
    slot = heartbeat.add(early)
    await asyncio.sleep(10.5)
    late_slot = heartbeat.add(late)
    await asyncio.sleep(100)
    assert [round(at - start) for at in early.beats] == [32, 64, 96]
    assert [round(at - start) for at in late.beats] == [42, 74, 106]
    heartbeat.remove(early, slot)
    heartbeat.remove(late, late_slot)
    assert repr(heartbeat) == "<Heartbeat 0 members>"


async def test_without_members_there_is_no_timer():
    """When the last member has gone, nothing ticks; with a new one it begins again."""
    ticks = []
    heartbeat = Heartbeat(32.0, lambda: ticks.append(1))
    for _ in range(2):
        ticks.clear()
        member = Member()
        slot = heartbeat.add(member)
        await asyncio.sleep(5.5)
        heartbeat.remove(member, slot)
        await asyncio.sleep(100)
        assert len(ticks) == 5
