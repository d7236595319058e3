from __future__ import annotations

import asyncio

import pytest

from protocol.client import Client
from protocol.client.events import TextDelta
from tests.support.proxy import proxied
from tests.support.serving import serving

pytestmark = pytest.mark.real_time(10)

WORDS = 200


async def chatty(text):
    """Say two hundred words, one at a time."""
    for number in range(WORDS):
        yield f"{number} "
        await asyncio.sleep(0.001)


def check(events):
    """No gap and no repetition: the text is whole and the places increase."""
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert text == "".join(f"{number} " for number in range(WORDS))
    assert events[-1].turn.output == text
    places = [int(event.id.partition("-")[2]) for event in events]
    assert places == sorted(set(places))


@pytest.mark.parametrize("cut_after", [1, 150, 300, 700, 1_100, 2_000])
async def test_a_stream_that_is_cut_after_so_many_bytes_each_time_loses_nothing(cut_after):
    """Wherever the connection breaks, again and again, the events are those of an unbroken one."""
    async with (
        serving(chatty) as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url) as client,
    ):
        proxy.cut_after = cut_after

        async def mend():
            # too little for a whole event would never end: let it through after a few tries
            await proxy.connected(4)
            proxy.cut_after = None

        mending = asyncio.ensure_future(mend())
        events = [event async for event in client.stream("go", session="s")]
        check(events)
        assert proxy.connections >= 2
        mending.cancel()
        assert len((await peer.pool.messages("s", None, 10)).items) == 2


async def test_a_stream_outlasts_a_server_that_is_away_for_a_while():
    """While nothing can be reached the client waits, and then goes on."""
    async with (
        serving(chatty) as peer,
        proxied(peer.server.port) as proxy,
        Client(proxy.url) as client,
    ):
        events = []
        async for event in client.stream("go", session="s"):
            events.append(event)
            if len(events) == 5:
                proxy.refuse()
                asyncio.get_running_loop().call_later(0.3, proxy.accept)
        check(events)
