"""The lock files: a hash for every pin, no address, and all that the project asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")


def _normal(requirement: str) -> str:
    """The name in a requirement, spelled as in a lock."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]).lower()


def _lines(lock: str) -> list[str]:
    """The lines of a lock, those continued by a backslash joined, without comments."""
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line.strip() and not line.startswith("#")]


def _pins(lock: str) -> dict[str, str]:
    """What a lock pins: name to version."""
    pins = {}
    for line in _lines(lock):
        name, _, rest = line.partition("==")
        pins[_normal(name)] = rest.split()[0]
    return pins


def _project() -> dict[str, list[str]]:
    """The direct dependencies of each lock, as pyproject.toml has them."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime = [_normal(each) for each in pyproject["project"]["dependencies"]]
    groups = {
        group: [_normal(each) for each in requirements if isinstance(each, str)]
        for group, requirements in pyproject["dependency-groups"].items()
    }
    return {
        "requirements.lock": runtime,
        "requirements-build.lock": groups["build"],
        "requirements-dev.lock": runtime + groups["build"] + groups["dev"],
    }


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_names_no_address(lock: str) -> None:
    """A lock says what to install and never from where."""
    text = (ROOT / lock).read_text()

    assert not re.search(r"://|index-url|find-links|trusted-host|(^|\s)@\s", text)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_pin_is_exact_and_hashed(lock: str) -> None:
    """Each requirement of a lock is one version, with the SHA-256 of each of its files."""
    for line in _lines(lock):
        assert re.match(r"[a-z0-9-]+==[A-Za-z0-9.!+]+\s", line), line
        assert re.search(r"--hash=sha256:[0-9a-f]{64}(\s|$)", line), line


@pytest.mark.parametrize("lock", LOCKS)
def test_every_direct_dependency_is_pinned(lock: str) -> None:
    """What pyproject.toml asks for is in the lock."""
    assert set(_project()[lock]) <= _pins(lock).keys()


@pytest.mark.parametrize("lock", LOCKS[:-1])
def test_tests_run_on_what_is_shipped(lock: str) -> None:
    """The versions that users get are those that the tests run with."""
    assert _pins(lock).items() <= _pins("requirements-dev.lock").items()
