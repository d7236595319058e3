"""The documents say what the code does: every option, route and code, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pool.events import ENDINGS
from protocol.problems import STATUS
from protocol.routes import ROUTES
from protocol.settings import SECTIONS

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGURATION = (ROOT / "docs/configuration.md").read_text()
PROTOCOL = (ROOT / "docs/protocol.md").read_text()

_UNITS = {"": 1, " KiB": 1024, " MiB": 1024**2}


def _documented(section: str) -> dict[str, str]:
    """The options in the table of a section, and their defaults."""
    table = re.split(rf"^## `\[{section}[\].]", CONFIGURATION, flags=re.MULTILINE)[1].split(
        "\n## "
    )[0]
    options = {}
    for names, defaults in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        pairs = zip(names.split(", "), defaults.split(", "), strict=True)
        options.update({name.strip("`"): default.strip("`") for name, default in pairs})
    return options


def _written(default: Any) -> str | None:
    """A default as the table writes it; None if the table says it in words."""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, int | float):
        return f"{default:g}" if default < 1e5 else str(int(default))
    return default or None if isinstance(default, str) else None


@pytest.mark.parametrize("section", SECTIONS)
def test_every_option_is_documented(section: str) -> None:
    """The tables list the options of each section, all of them and no others."""
    known = {option.name for option in msgspec.structs.fields(SECTIONS[section])}

    assert _documented(section).keys() == known


@pytest.mark.parametrize("section", SECTIONS)
def test_documented_defaults_are_the_real_ones(section: str) -> None:
    """Where a default is a number, a word or a truth value, the table has the one of the code."""
    documented = _documented(section)
    written = {
        option.name: _written(option.default)
        for option in msgspec.structs.fields(SECTIONS[section])
    }
    real = {name: default for name, default in written.items() if default is not None}

    assert {name: re.sub(r"\.0$", "", documented[name]) for name in real} == real


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_numbers_next_to_options_are_their_defaults(path: Path) -> None:
    """Where a document links to an option and says a number, that is the default of the option."""
    found = re.findall(
        r"\[`(\w+)`\]\(configuration\.md#(\w+)\), ([\d,]+\d)( [KM]iB)?", path.read_text()
    )
    said = {name: int(number.replace(",", "")) * _UNITS[unit] for name, _, number, unit in found}
    real = {
        option.name: option.default
        for section in {section for _, section, _, _ in found}
        for option in msgspec.structs.fields(SECTIONS[section])
        if option.name in said
    }

    assert said == real


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_every_route_is_documented(route: Any) -> None:
    """Each route of the server has a line in the protocol."""
    path = route.path.replace("{session_id}", "{sid}").replace("{turn_id}", "{tid}")

    assert re.search(rf"`{route.method} {re.escape(path)}[`?]", PROTOCOL)


def test_every_code_and_ending_is_documented() -> None:
    """Each error code and each terminal event is named in the protocol."""
    words = [*STATUS, *(kind.type for kind in ENDINGS.values())]

    assert [word for word in words if f"`{word}`" not in PROTOCOL] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link in a document names a file of the project."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []
