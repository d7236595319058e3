"""Every body, page, stream and turn has a limit, and a test reaches it: check 4.

The limits of the configuration are in a table with their tests; those of single fields are found in
the types of the fields, and reached here.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import UnsetType
from msgspec.structs import fields
from structlog.testing import capture_logs

from pool.config import AgentSpec, PoolConfig
from pool.store.limits import Retention
from protocol.config import ServerConfig
from protocol.ws.config import WsConfig
from tests.security.raw import connected, request
from tests.security.surfaces import bodies, commands, queries
from tests.support.serving import serving, until
from tests.support.serving_agents import Held
from tests.support.sockets import talking

pytestmark = pytest.mark.real_time(20)

TESTS = Path(__file__).parents[1]

# What callers, agents and receivers can run into, and the test that does.
LIMITS = {
    ServerConfig: {
        "max_connections": "protocol/http/test_server:test_connections_have_a_limit",
        "max_body_bytes": "protocol/http/test_hostile:test_a_body_over_the_limit_is_413",
        "body_timeout_s": "security/test_slow:test_slow_clients_are_closed_at_their_deadline",
        "max_header_bytes": "security/test_heads:test_what_is_within_the_limits_is_answered",
        "max_headers": "security/test_heads:test_what_is_within_the_limits_is_answered",
        "header_timeout_s": "security/test_slow:test_slow_clients_are_closed_at_their_deadline",
        "keepalive_s": "security/test_slow:test_slow_clients_are_closed_at_their_deadline",
        "sse_high_water_bytes": "protocol/http/test_streams:"
        "test_a_reader_that_takes_nothing_is_cut_off_and_delays_nobody",
        "slow_reader_s": "protocol/http/test_streams:"
        "test_a_reader_that_takes_nothing_is_cut_off_and_delays_nobody",
        "max_behind_events": "security/test_bounds:test_a_stream_that_is_too_far_behind_is_cut_off",
        "close_timeout_s": "security/test_bounds:test_closing_waits_for_answers_only_so_long",
    },
    WsConfig: {
        "heartbeat_s": "security/test_slow:test_slow_websockets_are_closed_at_their_deadline",
        "hello_timeout_s": "security/test_slow:test_slow_websockets_are_closed_at_their_deadline",
        "close_grace_s": "protocol/ws/test_bad_frames:"
        "test_a_client_that_does_not_answer_a_close_is_cut_off",
        "max_frame_bytes": "protocol/ws/test_bad_frames:test_what_is_too_large_is_closed_with_4413",
        "window": "protocol/ws/test_flow:"
        "test_a_reader_that_does_not_acknowledge_is_closed_and_can_resume",
        "high_water_events": "protocol/ws/test_flow:"
        "test_a_reader_that_does_not_acknowledge_is_closed_and_can_resume",
        "high_water_bytes": "protocol/ws/test_flow:test_answers_nobody_reads_are_bounded",
        "max_sessions": "protocol/ws/test_connection:test_a_connection_carries_so_many_sessions",
        "max_connections": "protocol/ws/test_door:test_a_connection_too_many_is_closed_with_4429",
        "max_connections_per_tenant": "protocol/ws/test_door:"
        "test_a_tenant_has_its_own_limit_on_connections",
    },
    PoolConfig: {
        "queue_max": "pool/test_dispatch:test_the_queue_stays_within_its_cap",
        "tenant_share": "pool/test_dispatch:test_a_tenant_has_at_most_its_share_of_the_queue",
        "restarts_max": "pool/test_supervision:test_actors_that_crash_repeatedly_degrade_the_agent",
        "open_timeout_s": "pool/test_supervision:"
        "test_an_agent_that_does_not_open_in_time_has_failed",
        "cancel_grace_s": "pool/test_drain:test_a_drain_returns_within_its_deadline_and_the_grace",
        "max_attempts": "pool/test_supervision:"
        "test_a_turn_that_crashes_every_time_is_a_dead_letter",
        "max_input_chars": "pool/test_vetting:test_an_input_may_have_so_many_characters",
        "max_metadata_bytes": "pool/test_vetting:test_metadata_may_take_so_many_bytes",
        "max_metadata_depth": "pool/test_vetting:test_metadata_may_be_so_deep",
        "approval_ttl_s": "pool/test_approvals:test_a_call_that_nobody_decides_in_time_is_denied",
        "max_output_bytes": "pool/test_limits:"
        "test_a_streamed_answer_over_the_limit_ends_where_it_is",
        "max_events": "pool/test_limits:test_a_million_deltas_fail_with_a_typed_error",
        "max_state_bytes": "pool/test_state:test_too_large_a_state_fails_the_turn",
        "max_nesting": "pool/test_nested:test_nesting_is_not_endless",
        "webhook_timeout_s": "pool/test_webhooks:test_a_receiver_that_does_not_answer_is_left",
        "webhook_parallel": "pool/test_webhooks:test_a_slow_receiver_takes_one_place_only",
        "webhook_tries": "pool/test_webhooks:test_pauses_double_up_to_a_limit",
        "webhook_max_s": "pool/test_webhooks:test_pauses_double_up_to_a_limit",
    },
    AgentSpec: {
        "max": "pool/test_scaling:test_there_are_never_more_than_max_nor_fewer_than_min",
        "max_steps": "pool/agents/test_chat_agent:test_turn_ends_at_its_limit_of_steps",
        "max_tokens": "pool/agents/test_chat_agent:test_turn_ends_at_its_limit_of_tokens",
    },
    Retention: {
        "session_ttl_s": "pool/store/test_memory_time:"
        "test_sessions_expire_without_a_ttl_of_their_own",
        "events_ttl_s": "pool/store/test_memory_time:test_old_events_can_no_longer_be_replayed",
        "max_turns_per_session": "pool/store/test_memory:"
        "test_old_turns_are_dropped_and_their_words_stay",
        "max_messages_per_session": "pool/store/test_memory:test_the_transcript_is_bounded",
    },
}
# What is chosen, and nobody can run into.
CHOICES = {
    ServerConfig: "host insecure port backlog cors_origins trusted_proxies sse_heartbeat_s flush_s",
    WsConfig: "",
    PoolConfig: "tenant_weights overload_wait_s overload_window_s start_limit scale_down_hold_s "
    "tick_s limit_window_s limit_decrease backoff_first_s backoff_max_s quiet_s restarts_window_s "
    "watchdog_s flush_events webhook_first_s close_deadline_s",
    AgentSpec: "agent description min limit limit_initial gate cache",
    Retention: "",
}


@pytest.mark.parametrize("config", LIMITS, ids=lambda config: config.__name__)
def test_every_option_is_a_limit_with_a_test_or_a_choice(config):
    """A new option fails here until it is said which of them it is."""
    options = {field.name for field in fields(config)}
    assert options == LIMITS[config].keys() | set(CHOICES[config].split())


@pytest.mark.parametrize(
    "place", sorted({place for table in LIMITS.values() for place in table.values()})
)
def test_the_test_of_a_limit_is_there(place):
    """By its file and its name."""
    file, _, name = place.partition(":")
    assert re.search(rf"^(async )?def {name}\(", (TESTS / f"{file}.py").read_text(), re.MULTILINE)


def beyond(bounds):
    """Values just over what a field's type allows."""
    for bound in bounds:
        if bound.max_length is not None:
            yield "x" * (bound.max_length + 1)
        if bound.min_length:
            yield "x" * (bound.min_length - 1)
        if bound.le is not None:
            yield bound.le + 1
        if bound.lt is not None:
            yield bound.lt
        if bound.ge is not None:
            yield bound.ge - 1
        if bound.gt is not None:
            yield bound.gt


async def test_a_field_is_refused_just_over_its_bound():
    """Of every body, query and command, wherever the type has one."""
    tried = 0
    async with serving() as peer:
        for place in bodies():
            for name, bounds in place.surface.bounds.items():
                for value in beyond(bounds):
                    body = {**place.surface.good, name: value}
                    response = await peer.request(place.method, place.path, json=body)
                    assert response.status == 400, (place.surface.name, name, value)
                    tried += 1
        for place in queries():
            for name, bounds in place.surface.bounds.items():
                for value in beyond(bounds):
                    response = await peer.request(
                        place.method, place.path, params={name: str(value)}
                    )
                    assert response.status == 400, (place.surface.name, name, value)
                    tried += 1
        async with talking(peer) as talk:
            for command in commands():
                for name, bounds in command.bounds.items():
                    for value in beyond(bounds):
                        fields = {**command.good, name: value}
                        await talk.socket.send_json({"type": command.name, **fields})
                        answer = await talk.hear()
                        assert answer["error"]["code"] == "invalid_request", (command, name)
                        tried += 1
    assert tried > 60


# Texts that are bounded together with all else: by `max_input_chars`, and as cursors by their form.
TOGETHER = {"input", "message", "prompt", "cursor", "after"}


def test_every_text_has_a_bound():
    """A text whose type has no bound is one that is bounded otherwise."""
    every = [*(place.surface for place in (*bodies(), *queries())), *commands()]
    unbounded = {
        name
        for surface in every
        for name, hint in surface.fields.items()
        if hint in (str, str | None, str | UnsetType)
        and not any(bound.max_length or bound.pattern for bound in surface.bounds[name])
    }
    assert unbounded == TOGETHER


async def test_a_stream_that_is_too_far_behind_is_cut_off():
    """A reader of events that takes none is let go as soon as it is so many behind."""

    full = asyncio.Event()

    async def flood(text):
        # more than any socket takes
        for _ in range(200):
            yield "x" * 100_000
        await full.wait()
        for _ in range(20):
            yield "x"
            await asyncio.sleep(0)

    config = ServerConfig(max_behind_events=10, sse_high_water_bytes=64 * 1024)
    with capture_logs() as logs:
        async with (
            serving(flood, config=config, pool=PoolConfig(max_output_bytes=2**26)) as peer,
            connected(peer.server.port, read_bytes=4_096) as (reader, writer),
        ):
            turn = await peer.turn_id("s", "k", "x")
            writer.write(request("GET", f"/v1/turns/{turn}/events"))
            listener = cast(Any, peer.server._runner).server
            await until(lambda: any(each.writing_paused for each in listener.connections))
            full.set()
            # long before it would be for its slowness
            await until(lambda: not peer.server.bells)
            reader.feed_eof()
    (line,) = [line for line in logs if line["event"] == "slow reader cut off"]
    assert line["behind"] > 10


async def test_closing_waits_for_answers_only_so_long():
    """A caller that waits for an answer does not hold up the end of the server."""
    held = Held()
    loop = asyncio.get_running_loop()
    async with serving(held, config=ServerConfig(close_timeout_s=0.2)) as peer:
        asked = asyncio.create_task(peer.post("/v1/sessions/s/turns", {"input": "x"}))
        await held.running.wait()
        began = loop.time()
        await peer.server.close()
        assert 0.1 < loop.time() - began < 2
        await asyncio.wait([asked])
        assert asked.exception() is not None
