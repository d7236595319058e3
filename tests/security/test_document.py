"""The document about security names tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/security.md").read_text()


def test_every_test_that_is_named_exists():
    """Each line that promises something names a test of this project, by its file and name."""
    named = re.findall(r"\*(tests/[^*]+)\*", DOCUMENT)
    assert len(named) > 20
    for each in named:
        files = [(ROOT / path).read_text() for path in re.findall(r"tests/[\w/]+\.py", each)]
        for test in re.findall(r"\btest_\w+(?!\w*\.py)\b", re.sub(r"tests/[\w/]+\.py", "", each)):
            assert [text for text in files if f"def {test}(" in text], test
