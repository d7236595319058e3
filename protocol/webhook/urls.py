"""Which URLs a webhook may have."""

from __future__ import annotations

from yarl import URL

from pool.errors import InvalidRequest
from pool.guard.urls import RefusedUrl, read_url
from protocol.webhook.config import WebhookConfig


def checked(text: str, config: WebhookConfig) -> URL:
    """The URL of a webhook; `InvalidRequest` says why the server would not post to it."""
    try:
        return read_url(text, config.networks, allow_http=config.allow_http)
    except RefusedUrl as refused:
        raise InvalidRequest(f"the webhook's URL {refused}", field="webhook.url") from None
