"""What providers say when they refuse, as our errors."""

from __future__ import annotations

import pytest

from pool.agents.refusals import (
    ErrorObject,
    Refusal,
    read_refusal,
    refusal_of,
    refused,
    refused_midway,
    retry_after_s,
)
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

NOW = 1_700_000_000.0  # 2023-11-14 22:13:20 UTC


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ProviderBadRequest, False),
        (404, ModelUnusable, False),
        (405, ModelUnusable, False),
        (410, ModelUnusable, False),
        (413, ContextTooLong, False),
        (422, ProviderBadRequest, False),
        (401, ProviderAuthentication, False),
        (402, ProviderAuthentication, False),
        (403, ProviderAuthentication, False),
        (408, ProviderTimeout, True),
        (504, ProviderTimeout, True),
        (524, ProviderTimeout, True),
        (429, ProviderRateLimited, True),
        (500, ProviderOverloaded, True),
        (502, ProviderOverloaded, True),
        (503, ProviderOverloaded, True),
        (520, ProviderOverloaded, True),
        (527, ProviderOverloaded, True),
        (529, ProviderOverloaded, True),
        (530, ProviderOverloaded, True),
        (409, ProviderOverloaded, True),
        (424, ProviderOverloaded, True),
        (204, ModelUnusable, False),
        (301, ModelUnusable, False),
        (501, ModelUnusable, False),
    ],
)
def test_status_decides_the_error(status, kind, retryable):
    """Each status has its error, which says whether to try again."""
    error = refused(status, {}, Refusal(), now=NOW)

    assert type(error) is kind
    assert error.retryable is retryable
    assert str(status) in str(error)


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal("context_length_exceeded"),
        Refusal("invalid_request_error", "This model's maximum Context Length is 8192 tokens"),
        Refusal("", "the prompt does not fit into the context window"),
    ],
)
def test_conversation_that_is_too_long_is_told_apart(refusal):
    """A 400 about the context's length is not just a bad request."""
    assert type(refused(400, {}, refusal, now=NOW)) is ContextTooLong


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (403, Refusal("model_not_found", "", "invalid_request_error")),
        (400, Refusal("model_decommissioned")),
        (400, Refusal("1500", "", "invalid_model")),
        (400, Refusal("400", "no/such is not a valid model ID")),
        (400, Refusal("invalid_request_error", "Model Not Exist")),
    ],
    ids=str,
)
def test_model_that_is_not_there_is_told_apart(status, refusal):
    """Whatever status the provider has for it, it is neither a wrong request nor a wrong key."""
    assert type(refused(status, {}, refusal, now=NOW)) is ModelUnusable


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (429, Refusal("insufficient_quota")),
        (429, Refusal("429", "", "exceeded_current_quota_error")),
        (400, Refusal("billing_hard_limit_reached")),
    ],
    ids=str,
)
def test_empty_account_is_no_rate_limit(status, refusal):
    """It does not fill by waiting: another account is needed."""
    error = refused(status, {}, refusal, now=NOW)

    assert (type(error), error.retryable) == (ProviderAuthentication, False)


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:14:20 GMT"}, 60.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:12:20 GMT"}, 0.0),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "later"}, None),
        ({}, None),
    ],
)
def test_time_to_wait_is_read_from_the_headers(headers, wait_s):
    """Milliseconds, seconds and dates are understood; nonsense is as good as nothing."""
    assert retry_after_s(headers, now=NOW) == wait_s
    assert refused(429, headers, Refusal(), now=NOW).retry_after_s == wait_s


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b'{"error": {"message": "no", "type": "t", "code": "c"}}', Refusal("c", "no", "t")),
        (b'{"error": {"message": "no", "type": "t", "code": null}}', Refusal("t", "no")),
        (b'{"error": {"code": 429}}', Refusal("429", "")),
        (b'{"error": {"code": "two words", "type": "t"}}', Refusal("t", "")),
        (b'{"error": "no"}', Refusal("", "no")),
        (b'{"object": "error", "message": "no", "code": "c"}', Refusal("c", "no")),
        (b'{"detail": "no"}', Refusal()),
        (b"<html>", Refusal()),
        (b"\xff", Refusal()),
        (b"[" * 100_000, Refusal()),
        (b'{"error": {"code": {}}}', Refusal()),
        (b"", Refusal()),
    ],
)
def test_body_of_an_error_is_read_if_it_can_be(body, refusal):
    """The code and the message are found in the usual bodies, and nothing in others."""
    assert read_refusal(body) == refusal


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ErrorObject(code=429), ProviderRateLimited),
        (ErrorObject(code="rate_limit_exceeded"), ProviderRateLimited),
        (ErrorObject(type="overloaded_error"), ProviderOverloaded),
        (ErrorObject(type="server_error"), ProviderOverloaded),
        (ErrorObject(code="context_length_exceeded"), ContextTooLong),
        (ErrorObject(message="out of the context window"), ContextTooLong),
        (ErrorObject(type="invalid_request_error"), ProviderBadRequest),
        (ErrorObject(code="bad_tool", type="invalid_request_error"), ProviderBadRequest),
        (ErrorObject(code="gone_for_now", type="server_error"), ProviderOverloaded),
        (ErrorObject(code="model_not_found"), ModelUnusable),
        (ErrorObject(code="insufficient_quota"), ProviderAuthentication),
        (ErrorObject(code="something"), ProviderError),
        ("it broke", ProviderError),
    ],
)
def test_error_inside_a_stream_is_told_by_its_code(error, kind):
    """An error object in the middle of an answer gives the same errors as a status would."""
    assert type(refused_midway(refusal_of(error))) is kind


def test_error_inside_a_stream_that_nobody_knows_may_pass():
    """The request had been accepted: it was the provider that broke."""
    assert refused_midway(Refusal("something")).retryable


def test_words_of_the_provider_are_not_passed_on():
    """Only the short code is: messages may quote keys and prompts."""
    refusal = Refusal("invalid_api_key", "Incorrect API key provided: sk-canary")

    for error in (refused(401, {}, refusal, now=NOW), refused_midway(refusal)):
        assert "invalid_api_key" in str(error)
        assert "canary" not in str(error)
