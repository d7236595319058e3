"""What a request may be: every limit is reached, by a caller in the process and over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from pool import PoolConfig
from pool.errors import ConfigError, InvalidRequest, TooLarge
from tests.support.agents import pooled
from tests.support.serving import echo, serving
from tests.support.sockets import talking

CONFIG = PoolConfig(max_input_chars=100, max_metadata_bytes=50, max_metadata_depth=3)
DEEP: dict[str, Any] = {"a": {"b": [1]}}
TOO_DEEP: dict[str, Any] = {"a": {"b": [{}]}}


def limits() -> dict[str, Any]:
    """The same, for a pool in the process."""
    names = ("max_input_chars", "max_metadata_bytes", "max_metadata_depth")
    return {name: getattr(CONFIG, name) for name in names}


async def test_an_input_may_have_so_many_characters() -> None:
    """Not bytes: a long script is no longer than another."""
    async with pooled(echo, **limits()) as pool:
        await pool.ask("\u00e9" * 100)
        with pytest.raises(TooLarge, match="the input has 101 characters; at most 100"):
            await pool.ask("x" * 101)


async def test_metadata_may_take_so_many_bytes() -> None:
    """Written as JSON, of a turn and of a session."""
    fits, too_large = {"k": "x" * 42}, {"k": "x" * 43}
    async with pooled(echo, **limits()) as pool:
        await pool.ask("x", metadata=fits)
        await pool.create_session(metadata=fits)
        with pytest.raises(TooLarge, match="the metadata take 51 bytes as JSON; at most 50"):
            await pool.ask("x", metadata=too_large)
        with pytest.raises(TooLarge):
            await pool.create_session(metadata=too_large)


async def test_metadata_may_be_so_deep() -> None:
    """Objects and lists count; one that holds itself is endless."""
    endless: dict[str, Any] = {}
    endless["self"] = endless
    async with pooled(echo, **limits()) as pool:
        await pool.ask("x", metadata=DEEP)
        for metadata in (TOO_DEEP, endless):
            with pytest.raises(InvalidRequest, match="nested 3 deep") as raised:
                await pool.ask("x", metadata=metadata)
            assert raised.value.field == "metadata"
            with pytest.raises(InvalidRequest):
                await pool.create_session(metadata=metadata)


@pytest.mark.parametrize("value", [object(), "\ud800", {(1, 2): 3}], ids=["object", "lone", "key"])
async def test_metadata_are_plain_data(value: object) -> None:
    """What no store and no door could write is told before it is taken."""
    async with pooled(echo) as pool:
        with pytest.raises(InvalidRequest, match="plain data") as raised:
            await pool.ask("x", metadata={"k": value})
        assert raised.value.field == "metadata"


@pytest.mark.real_time
async def test_every_door_has_these_limits() -> None:
    """413 for what is too large, 400 for what is too deep; at the limit a turn is taken."""
    cases: list[tuple[dict[str, Any], int]] = [
        ({"input": "x" * 100, "metadata": DEEP}, 200),
        ({"input": "x" * 101}, 413),
        ({"input": "x", "metadata": {"k": "x" * 43}}, 413),
        ({"input": "x", "metadata": TOO_DEEP}, 400),
    ]
    async with serving(pool=CONFIG) as peer:
        for body, status in cases:
            assert (await peer.post("/v1/sessions/s/turns", body)).status == status
        for body, status in cases[2:]:
            session = {"metadata": body["metadata"]}
            assert (await peer.post("/v1/sessions", session)).status == status
        assert (await peer.post("/agent/invoke", {"message": "x" * 101})).status == 413
        async with talking(peer) as talk:
            answer = await talk.ask("turn", session_id="s", input="x" * 101)
        assert answer["error"]["code"] == "too_large"


@pytest.mark.parametrize("option", ["max_input_chars", "max_metadata_bytes", "max_metadata_depth"])
def test_a_limit_lets_something_through(option: str) -> None:
    """None of them can be zero."""
    with pytest.raises(ConfigError) as raised:
        PoolConfig(**{option: 0})  # type: ignore[arg-type]
    assert raised.value.option == option
