from __future__ import annotations

import pytest

from pool.errors import ConfigError
from pool.store.memory_limits import MemoryLimits
from protocol.origins import is_loopback
from protocol.settings import Option, Settings, assemble, did_you_mean


def given(path: str, value: object, *, name: str = "--flag", text: bool = True) -> Settings:
    """The settings with one option given."""
    return assemble([Option(tuple(path.split(".")), value, name, from_text=text)])


def test_without_options_everything_is_the_default() -> None:
    """No option is needed."""
    settings = assemble([])
    assert settings == Settings()
    assert (settings.server.host, settings.agents) == ("127.0.0.1", {})


def test_text_stands_for_what_the_option_is() -> None:
    """Numbers, truth values and tables may be given as text, as the environment does."""
    assert given("server.port", "0").server.port == 0
    assert given("server.drain_s", "2.5").server.drain_s == 2.5
    assert given("server.insecure", "true").server.insecure is True
    assert given("pool.tenant_weights", '{"a": 2}').pool.tenant_weights == {"a": 2}
    assert given("server.cors_origins", '["https://a.example"]').server.cors_origins == (
        "https://a.example",
    )


def test_what_is_no_text_is_taken_literally() -> None:
    """In a file the number 1 is no text, and the text "1" no number."""
    assert given("server.port", 1, text=False).server.port == 1
    with pytest.raises(ConfigError, match="write a whole number"):
        given("server.port", "1", text=False)


def test_a_later_option_goes_over_an_earlier_one() -> None:
    """The last word counts, and keeps its own name for mistakes."""
    first = Option(("server", "port"), "1", "file", from_text=True)
    assert assemble([first, first._replace(value="2")]).server.port == 2
    with pytest.raises(ConfigError, match=r"^--port = 'x'"):
        assemble([first, first._replace(value="x", name="--port")])


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("server.prt", "1", "--flag = '1': there is no such option; did you mean port?"),
        ("store.sort", "x", "there is no such option: session_ttl_s, "),
        ("store.urls", "x", "there is no such option; did you mean url?"),
        ("log.colour", "x", "there is no such option: format, level"),
        ("server.port", "x", "--flag = 'x': write a whole number"),
        ("server.port", "70000", "--flag = 70000: write 1 to 65535"),
        ("server.drain_s", "-1", "--flag = -1.0: write a number of seconds"),
        ("server.drain_s", "nan", "write a number of seconds"),
        ("server.insecure", "maybe", "write true or false"),
        ("server.cors_origins", "https://a.example", 'write a list, ["a", "b"] in JSON'),
        ("server.cors_origins", '["a"', "begins like JSON and is none"),
        ("pool.queue_max", "0", "--flag = 0: write a number of at least 1"),
        ("pool.tenant_weights", '{"a": 0}', "--flag.a = 0.0: write a number above 0"),
        ("ws.window", "0", "--flag = 0: write a whole number of at least 1"),
        ("log.level", "loud", "write one of debug, info, warning, error"),
        ("audit.to", "", "--flag"),
        ("audit.fsync", "often", "write one of always, never"),
        ("audit.unwritable", "panic", "write one of refuse, warn"),
        ("audit.batch_s", "0", "--flag = 0.0: write a number of seconds above 0"),
        ("log.format", "xml", "write one of auto, json, console"),
        ("store.url", "tape", "--flag = 'tape': write memory, sqlite:///path/to/file.db, "),
        ("store.lease_s", "0", "--flag = 0.0: write a number of seconds above 0"),
        ("store.session_ttl_s", "-1", "--flag = -1.0: write a number above 0"),
        ("store.max_sessions", "0", "--flag = 0: write a number above 0"),
        ("webhooks.secret", "canary", "--flag = '...': write whsec_ and 24 to 64 random bytes"),
        ("webhooks.allow_private", "10.0.0.0/8", "write true, false or a list"),
        ("webhooks.allow_private", '["x"]', "--flag = 'x': write networks as 10.1.0.0/16"),
        ("agents.a.max", "0", "--flag = '0': write a whole number of at least 1"),
        ("agents.a.instructions", "be kind", "they are for a model"),
    ],
)
def test_a_mistake_names_option_value_and_remedy(path: str, value: str, message: str) -> None:
    """Whatever is wrong, its giver's name for the option, the value and the remedy are said."""
    with pytest.raises(ConfigError) as raised:
        given(path, value)
    assert message in str(raised.value)
    assert str(raised.value).startswith("--flag")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("store.url", "redsi://u:canary@h"),
        ("store.lease_s", "redis://u:canary@h"),
        ("store.ulr", "redis://u:canary@h"),
        ("webhooks.secret", "whsec_canary"),
        ("webhooks.secrt", "whsec_canary"),
    ],
)
def test_a_mistake_does_not_tell_secrets(path: str, value: str) -> None:
    """Neither a password nor the secret of webhooks is repeated, be it in the wrong place."""
    with pytest.raises(ConfigError) as raised:
        given(path, value)
    assert "canary" not in str(raised.value)


def test_the_limits_of_a_store_are_those_that_were_given() -> None:
    """What is kept, and for how long, is one record among the settings of the store."""
    settings = given("store.session_ttl_s", "60")
    assert settings.store.limits == MemoryLimits(session_ttl_s=60)


def test_webhooks_may_go_to_networks() -> None:
    """Text stands for a truth value or a list."""
    assert given("webhooks.allow_private", "true").webhooks.allow_private is True
    listed = given("webhooks.allow_private", '["10.0.0.0/8"]').webhooks
    assert listed.allow_private == ("10.0.0.0/8",)


def test_a_check_across_options_names_the_one_that_was_given() -> None:
    """What only shows when options are put together is blamed on one of them, by its whole name."""
    with pytest.raises(ConfigError, match=r"^pool\.backoff_first_s = 0.1: at most backoff_max_s"):
        given("pool.backoff_max_s", "0.01")


def test_every_agent_gets_what_is_said_of_all() -> None:
    """The agent * stands for each one, over what was said of it alone."""
    settings = assemble(
        [
            Option(("agents", "a", "target"), "m:a", "a"),
            Option(("agents", "a", "max"), 3, "a.max"),
            Option(("agents", "b", "target"), "m:b", "b"),
            Option(("agents", "*", "max"), "5", "--max", from_text=True),
        ]
    )
    assert [agent.max for agent in settings.agents.values()] == [5, 5]
    assert list(settings.agents) == ["a", "b"]


def test_an_agent_is_a_target_or_a_model() -> None:
    """Both at once is a mistake."""
    with pytest.raises(ConfigError, match="a target or a model, not both"):
        assemble(
            [
                Option(("agents", "a", "target"), "m:a", "a"),
                Option(("agents", "a", "model"), "openai:x", "--model"),
            ]
        )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    """Addresses of this machine alone are taken as they are."""
    assert is_loopback(host)
    assert given("server.host", host).server.host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.org", "localhost.evil.org"])
def test_beyond_this_machine_only_when_told_twice(host: str) -> None:
    """Without --insecure the address is refused, and the reason said."""
    assert not is_loopback(host)
    with pytest.raises(ConfigError, match="nobody is asked who they are"):
        given("server.host", host)
    insecure = Option(("server", "insecure"), True, "--insecure")
    listening = Option(("server", "host"), host, "--host")
    assert assemble([listening, insecure]).server.host == host
    keys = Option(("auth", "mode"), "keys", "--auth")
    assert assemble([listening, keys]).server.host == host


def test_a_guess_ignores_what_all_names_share() -> None:
    """A common prefix does not make two names alike."""
    known = ["X_POOL_QUEUE_MAX", "X_LOG_LEVEL"]
    assert did_you_mean("X_LOG_LEVL", known, "none", prefix="X_").endswith("X_LOG_LEVEL?")
    assert did_you_mean("X_OTHER", known, "none", prefix="X_") == "none"
