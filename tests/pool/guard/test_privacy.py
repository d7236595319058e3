"""Whose data are kept from whom: the configuration, and what is made of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pool.errors import ConfigError
from pool.guard.privacy import Privacy, privacy_of
from pool.guard.privacy_config import PrivacyConfig

ROOT = Path(__file__).parents[3]


def test_modes_are_per_tenant() -> None:
    """One that is not named has the default; only `model` has something taken out for models."""
    config = PrivacyConfig(default="logs", tenants={"acme": "model", "free": "off"})
    assert [config.mode_of(each) for each in ("acme", "free", "other")] == ["model", "off", "logs"]
    privacy = privacy_of(config)
    assert privacy is not None
    assert [privacy.redactor(each) is None for each in ("acme", "free", "other")] == [
        False,
        True,
        True,
    ]
    assert repr(privacy) == "<Privacy 'logs', 2 tenants differ>"


@pytest.mark.parametrize("tenants", [{}, {"a": "off"}])
def test_where_all_is_off_there_is_nothing_to_do(tenants: Any) -> None:
    """No redactor is made, and no library loaded."""
    assert privacy_of(PrivacyConfig(tenants=tenants)) is None


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"default": "all"}, "default"),
        ({"tenants": {"acme": "all"}}, r"tenants\.acme"),
        ({"kinds": ("literal",)}, "kinds"),
    ],
)
def test_mistakes_in_the_configuration_are_named(options: dict[str, Any], named: str) -> None:
    """With the option, when it is made."""
    with pytest.raises(ConfigError, match=named):
        PrivacyConfig(**options)


@pytest.mark.parametrize("name", ["phonenumbers", "stdnum"])
def test_without_its_packages_it_is_said_how_to_get_them(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only if numbers are to be found."""
    monkeypatch.delitem(sys.modules, "pool.guard.redact_numbers", raising=False)
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r'pip install "actorpool\[privacy\]"'):
        Privacy(PrivacyConfig(default="logs"))
    Privacy(PrivacyConfig(default="logs", kinds=("email", "secret", "ip")))


def test_nothing_of_it_is_loaded_while_it_is_off() -> None:
    """A process that does not use it does not pay for it."""
    script = "import sys, pool, protocol.server, protocol.settings; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    kept = ("pool.guard.privacy_config", "pool.guard.redact_spans", "pool.guard.sealing")
    modules = ("pool.guard.redact", "pool.guard.privacy", "pool.guard.veil", "pool.veiled")
    found = [name for name in loaded if name.startswith((*modules, "phonenumbers", "stdnum"))]
    assert [name for name in found if name not in kept] == []


def test_lines_of_logs_are_redacted_in_all_their_values() -> None:
    """What is nested beyond measure is left out, what is no plain data is its type's name."""
    step = Privacy(PrivacyConfig(default="logs"), known=("correct horse",)).logs
    deep: Any = "x"
    for _ in range(200):
        deep = [deep]
    deeper: Any = "x"
    for _ in range(20_000):
        deeper = [deeper]
    line = {
        "event": "from ann@example.com",
        "n": 1,
        "to": ("ann@example.com", {"k": "bob@example.com"}),
        "deep": deep,
        "deeper": deeper,
        "thing": object(),
        "at": datetime(2026, 1, 2, tzinfo=UTC),
        "key": "correct horse",
    }
    assert step(None, "info", dict(line)) == {
        "event": "from [email-1]",
        "n": 1,
        "to": ["[email-1]", {"k": "[email-2]"}],
        "deep": "[nested too deep]",
        "deeper": "[nested too deep]",
        "thing": "<object>",
        "at": "2026-01-02T00:00:00Z",
        "key": "[secret-1]",
    }
    assert step.texts("s1", "ann@example.com") == ("s1", "[email-1]")
