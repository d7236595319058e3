"""The rule of imports: the engine knows nothing of the wire; the core needs no optional package."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


# What an extra brings may be imported in these places, which are only loaded when they are used.
EXTRAS: dict[str, str | tuple[str, ...]] = {
    "redis": ("pool/store/redis_", "pool/guard/rates_redis", "pool/guard/answers_redis"),
    "aiocache": "pool/guard/answers_redis",
    "limits": "pool/guard/rates_redis",
    "hiredis": "pool/store/redis_",
    "standardwebhooks": "protocol/webhook/",
    "jwt": "pool/guard/token",
    "purgatory": "pool/guard/breaker",
    "phonenumbers": "pool/guard/redact_numbers",
    "stdnum": "pool/guard/redact_numbers",
    "mcp": "pool/agents/mcp_",
    # what mcp itself is made with, and types of it
    "mcp_types": "pool/agents/mcp_",
    "httpx2": "pool/agents/mcp_",
    "jsonschema": "pool/agents/mcp_schema",
    "referencing": "pool/agents/mcp_schema",
}


def _sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(tree: ast.AST) -> Iterator[str]:
    """The modules that a source imports anywhere, absolute names only."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module or ""


def _declared() -> set[str]:
    """The import names of the core dependencies."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = (re.split(r"[^\w-]", each)[0] for each in pyproject["project"]["dependencies"])
    return {name.replace("-", "_") for name in names}


def _imported_packages(path: Path) -> set[str]:
    return {name.partition(".")[0] for name in _imports(ast.parse(path.read_text()))}


@pytest.mark.parametrize("path", _sources("pool"), ids=lambda path: str(path.relative_to(ROOT)))
def test_engine_never_imports_the_wire(path: Path) -> None:
    """No file of pool/ imports protocol/, at its top or inside a function."""
    assert "protocol" not in _imported_packages(path)


@pytest.mark.parametrize("package", ["pool", "protocol"])
def test_only_declared_packages_are_imported(package: str) -> None:
    """What is imported is the standard library, the core dependencies or the project itself."""
    # types of aiohttp's own dependencies appear in its signatures
    known = sys.stdlib_module_names | _declared() | {"multidict", "yarl", "pool", "protocol"}

    foreign = {
        f"{place}: {name}"
        for path in _sources(package)
        for name in _imported_packages(path) - known
        if not (place := str(path.relative_to(ROOT))).startswith(EXTRAS.get(name, "nowhere"))
    }

    assert foreign == set()


def test_engine_loads_without_the_wire() -> None:
    """`import pool` in a fresh interpreter loads no module of protocol/ and no HTTP server."""
    script = "import sys, pool; print(*sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    loaded = result.stdout.split()
    assert "pool" in loaded
    assert [name for name in loaded if name.startswith(("protocol", "aiohttp.web"))] == []


@pytest.mark.parametrize("module", ["pool", "pool.store.sqlite", "protocol.server"])
def test_extras_are_loaded_when_they_are_used(module: str) -> None:
    """Nobody who does not use an extra pays for it, or needs it."""
    script = f"import sys, {module}; print(*sys.modules)"

    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert not set(result.stdout.split()) & set(EXTRAS)
