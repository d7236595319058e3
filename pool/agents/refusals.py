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
    ModelUnusable,
    ProviderAuthentication,
    ProviderBadRequest,
    ProviderError,
    ProviderOverloaded,
    ProviderRateLimited,
    ProviderTimeout,
)

_CODE: Final = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_TOO_LONG: Final = ("context_length_exceeded", "context length", "context window")
# Not all providers say 404 of a model that they do not have.
_NO_MODEL: Final = (
    "model_not_found",
    "model_decommissioned",
    "invalid_model",
    "unknown_model",
    "model not found",
    "model not exist",
    "not a valid model",
)
# An empty account is told as a 429, and is none: it fills with no time.
_NO_MONEY: Final = (
    "insufficient_quota",
    "billing_hard_limit_reached",
    "exceeded_current_quota_error",
)
_STATUS_OF_CODE: Final[dict[str, int]] = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "server_error": 500,
    "api_error": 500,
    "timeout": 408,
    "timeout_error": 408,
    "invalid_request_error": 400,
    "invalid_api_key": 401,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "model_not_found": 404,
    "not_found_error": 404,
    "request_too_large": 413,
}


class Refusal(Struct, frozen=True):
    """What a provider says is wrong: a short word for it, words for people, and the `type` of thing
    that it is, if that is another short word.
    """

    code: str = ""
    message: str = ""
    type: str = ""


class ErrorObject(Struct, frozen=True):
    """The `error` of a body or of a chunk, as providers write it."""

    message: str | None = None
    type: str | int | None = None
    code: str | int | None = None


class _Body(ErrorObject, frozen=True):
    # some leave the object around it out
    error: ErrorObject | str | None = None


_decode = msgspec.json.Decoder(_Body).decode


def read_refusal(body: bytes) -> Refusal:
    """What an error's body says; nothing if it cannot be read."""
    try:
        said = _decode(body)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return Refusal()
    return refusal_of(said if said.error is None else said.error)


def refusal_of(error: ErrorObject | str) -> Refusal:
    """What an error object says. Words that are not short codes do not count as one."""
    if isinstance(error, str):
        return Refusal(message=error)
    said = (str(word) for word in (error.code, error.type) if word is not None)
    code, kind, *_ = *(word for word in said if _CODE.match(word)), "", ""
    return Refusal(code, error.message or "", kind)


def refused(
    status: int, headers: Mapping[str, str], refusal: Refusal, *, now: float
) -> ProviderError:
    """The error for an HTTP status that is not 200. `now` is in seconds since the epoch."""
    said = f"{status}, {refusal.code}" if refusal.code else str(status)
    error = _error(status, said, refusal)
    error.retry_after_s = retry_after_s(headers, now=now)
    return error


def refused_midway(refusal: Refusal) -> ProviderError:
    """The error for an error object where an answer had begun, or should have."""
    status = _status_of(refusal.code) or _status_of(refusal.type)
    return _error(status, refusal.code or "an error in the middle of the answer", refusal)


def broken(detail: str) -> ProviderError:
    """The failure of a provider that broke off, for whatever reason: it may pass."""
    error = ProviderError(detail)
    error.retryable = True
    return error


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


def _status_of(word: str) -> int:
    """The status that a short word stands for; 0: for none that is known."""
    if word.isdecimal() and len(word) == 3 and word[0] in "45":
        return int(word)
    return _STATUS_OF_CODE.get(word, 0)


def _error(status: int, said: str, refusal: Refusal) -> ProviderError:
    words = (refusal.code, refusal.type)
    text = " ".join((*words, refusal.message)).lower()
    if status == 413 or (status in (0, 400, 422) and any(each in text for each in _TOO_LONG)):
        return ContextTooLong(f"the conversation is too long for the model ({said})")
    if status in (404, 405, 410) or (
        status in (0, 400, 403, 422) and any(each in text for each in _NO_MODEL)
    ):
        return ModelUnusable(f"the model's provider has no such model at this address ({said})")
    if status in (401, 402, 403) or any(each in _NO_MONEY for each in words):
        return ProviderAuthentication(
            f"the model's provider did not accept the credentials, or their account ({said})"
        )
    return _failure(status, said)


def _failure(status: int, said: str) -> ProviderError:
    """The error for a status that needs no words."""
    if status == 429:
        return ProviderRateLimited(f"the model's provider is called too often ({said})")
    if status in (408, 504, 524):
        return ProviderTimeout(f"the model's provider did not answer in time ({said})")
    # some say 409 for a lock they did not get, 424 for a model behind them that failed
    if status in (409, 424, 425) or (status >= 500 and status not in (501, 505)):
        return ProviderOverloaded(f"the model's provider is overloaded or failing ({said})")
    if 400 <= status < 500:
        return ProviderBadRequest(f"the model's provider found the request wrong ({said})")
    if not status:
        return broken(f"the model's provider failed ({said})")
    return ModelUnusable(f"the model's provider does not answer as one ({said}): check base_url")
