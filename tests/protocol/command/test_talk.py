"""What a conversation at a terminal tells besides the answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from protocol.client.events import ModelDecided
from protocol.command.talk import decided
from tests.protocol.command.test_serve import server
from tests.support.process import command, completed

FALLS_BACK = """
[agents.chat]
model = "openai:first"
fallbacks = ["openai:second"]
last_resort = "later, please"
"""

ASKS_EDITORS = """
[agents]
demo = "pool.agents.demo:demo"

[pool]
approval_ttl_s = 0.5

[[tools.approvals]]
tools = ["announce"]
then = "ask"
deciders = ["editor"]
"""


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            ModelDecided(id="1-1", step="routed", model="small", reason="route 1 fits"),
            "asking small: route 1 fits",
        ),
        (
            ModelDecided(id="1-1", step="retried", model="a", reason="overloaded"),
            "asking a again: overloaded",
        ),
        (
            ModelDecided(id="1-1", step="skipped", reason="a: left alone"),
            "no other model is left: a: left alone",
        ),
        (ModelDecided(id="1-1", step="cached"), "this answer is kept from an equal question"),
        (ModelDecided(id="1-1", step="of-a-later-version", model="{x}"), "asking {x}"),
    ],
    ids=lambda value: value.step if isinstance(value, ModelDecided) else "",
)
def test_what_was_decided_about_a_model_is_said_in_words(event: ModelDecided, said: str) -> None:
    """Each step names the model that is asked, and why; one that is not known does, too."""
    assert decided(event) == said


def test_a_provider_that_is_gone_is_told(tmp_path: Path) -> None:
    """Whoever talks sees which model is asked instead, and that the last resort is one."""
    (tmp_path / "actorpool.toml").write_text(FALLS_BACK)
    environ = {"OPENAI_API_KEY": "any", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}
    with (
        server(directory=tmp_path, environ=environ) as (_, url),
        command("chat", "--url", url, directory=tmp_path) as chat,
    ):
        chat.write("hello\n")
        chat.wait_for(
            r"\[asking openai:second: openai:first: [^\]]+\]\n"
            r"\[no model can be asked, this is the last resort: [^\]]+\]\n"
            r"later, please\n"
        )


def test_a_call_that_is_not_ours_to_decide_waits_for_whose_it_is(tmp_path: Path) -> None:
    """Who may decide is said; the turn goes on when its call was decided, or its time is over."""
    (tmp_path / "actorpool.toml").write_text(ASKS_EDITORS)
    with (
        server(directory=tmp_path) as (_, url),
        command("chat", "--url", url, directory=tmp_path) as chat,
    ):
        chat.write("announce tea\ny\n")
        chat.wait_for(r"is not yours to decide: editor may\]\n")
        chat.wait_for(r"\[announce [^\n]+\]\n\[no result: denied[^\n]+\]\n")
        chat.wait_for(r"\n[^\[]")


def test_whoever_has_no_key_is_told_how_to_give_one(tmp_path: Path) -> None:
    """A server that asks who calls is answered with an option of the command, not with headers."""
    with server("--auth", "keys", directory=tmp_path) as (_, url):
        done = completed("chat", "--url", url, directory=tmp_path)
    assert done.returncode == 1
    assert "give a key with --key, or in ACTORPOOL_KEY" in done.stdout
