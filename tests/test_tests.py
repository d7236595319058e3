"""The tests keep the rules for tests: each says its behaviour, and none hides another."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
FILES = sorted(TESTS.rglob("test_*.py"))


def _named(path: Path) -> str:
    return str(path.relative_to(TESTS))


def _tests(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("test_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=_named)
def test_every_test_says_its_behaviour(path: Path) -> None:
    """Each test function has a docstring that ends as a sentence does."""
    silent = [
        test.name for test in _tests(path) if not (ast.get_docstring(test) or "").endswith(".")
    ]

    assert silent == []


@pytest.mark.parametrize("path", FILES, ids=_named)
def test_no_two_tests_share_a_name(path: Path) -> None:
    """A test that has the name of an earlier one would hide it."""
    names = [test.name for test in ast.parse(path.read_text()).body if hasattr(test, "name")]

    assert len(names) == len(set(names))
