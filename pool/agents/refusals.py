"""What a provider says when it refuses, as one of our errors. No I/O.

Texts of providers may hold parts of keys and prompts: only their short codes are passed on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from math import isfinite
from typing import Final

import msgspec
from msgspec import Struct

from pool.errors import (
    ContextTooLong,
    ProviderAuthentication,
    ProviderBadRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimeout,
)

_CODE: Final = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_TOO_LONG: Final = ("context_length_exceeded", "context length", "context window")
_STATUS_OF_CODE: Final[dict[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "api_error": 500,
    "timeout": 408,
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
}


class Refusal(Struct, frozen=True):
    """What a provider says is wrong: a short word for it, and words for people."""

    code: str = ""
    message: str = ""


class ErrorObject(Struct, frozen=True):
    """The `error` of a body or of a chunk, as providers write it."""

    message: str | None = None
    type: str | int | None = None
    code: str | int | None = None


class _Body(Struct, frozen=True):
    error: ErrorObject | str | None = None


_decode = msgspec.json.Decoder(_Body).decode


def read_refusal(body: bytes) -> Refusal:
    """What an error's body says; nothing if it cannot be read."""
    try:
        error = _decode(body).error
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Refusal()
    return Refusal() if error is None else refusal_of(error)


def refusal_of(error: ErrorObject | str) -> Refusal:
    """What an error object says. Words that are not short codes do not count as one."""
    if isinstance(error, str):
        return Refusal(message=error)
    words = (str(word) for word in (error.code, error.type) if word is not None)
    return Refusal(next((word for word in words if _CODE.match(word)), ""), error.message or "")


def refused(
    status: int, headers: Mapping[str, str], refusal: Refusal, *, now: float
) -> ProviderError:
    """The error for an HTTP status that is not 200. `now` is in seconds since the epoch."""
    said = f"{status}, {refusal.code}" if refusal.code else str(status)
    error = _error(status, said, refusal)
    error.retry_after_s = retry_after_s(headers, now=now)
    return error


def refused_midway(refusal: Refusal) -> ProviderError:
    """The error for an error object inside a stream that had begun."""
    code = refusal.code
    status = int(code) if code.isdecimal() and len(code) == 3 else _STATUS_OF_CODE.get(code, 0)
    return _error(status, code or "an error in the middle of the answer", refusal)


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """The seconds to wait that the headers ask for: milliseconds, seconds or an HTTP date."""
    for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            wait_s = float(text) * unit_s
        except ValueError:
            wait_s = _until(text, now)
        if isfinite(wait_s) and wait_s >= 0:
            return wait_s
    return None


def _until(date: str, now: float) -> float:
    try:
        return max(0.0, parsedate_to_datetime(date).timestamp() - now)
    except (ValueError, OverflowError):
        return float("nan")


def _error(status: int, said: str, refusal: Refusal) -> ProviderError:
    text = f"{refusal.code} {refusal.message}".lower()
    if status in (0, 400, 413, 422) and any(words in text for words in _TOO_LONG):
        return ContextTooLong(f"the conversation is too long for the model ({said})")
    if status in (401, 402, 403):
        return ProviderAuthentication(
            f"the model's provider did not accept the credentials, or their account ({said})"
        )
    if status == 429:
        return ProviderRateLimited(f"the model's provider is called too often ({said})")
    if status in (408, 504, 524):
        return ProviderTimeout(f"the model's provider did not answer in time ({said})")
    if status in (500, 502, 503, 529) or 520 <= status <= 527:
        return ProviderOverloaded(f"the model's provider is overloaded or failing ({said})")
    if 400 <= status < 500:
        return ProviderBadRequest(f"the model's provider found the request wrong ({said})")
    return ProviderError(f"the model's provider failed ({said})")
