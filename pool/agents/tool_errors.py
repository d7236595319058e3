"""What keeps a tool's call from a result, in words that the model and readers may both see."""

from __future__ import annotations


class ToolError(Exception):
    """A call has no result; `str(error)` says why, and what to do."""


class BadArguments(ToolError):
    """The model's arguments do not fit. A tool may raise it as well: then the mistake is the
    model's, and its breaker does not count it.
    """


class ToolTimeout(ToolError):
    """The call took too long and was given up."""


class ToolResting(ToolError):
    """The tool failed too often and is left alone for a while."""
